"""Functions that XLA compiles by themselves, although it does not compile the graph around them."""

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import forwardprop_util, record  # no public API tells whether a tape is active
from tensorflow.python.framework import config as framework_config  # no public API tells whether operations are exact
from tensorflow.python.framework import op_callbacks  # no public API tells whether there are any
from tensorflow.python.ops import control_flow_util  # no public API tells whether XLA compiles a graph

from kseq.backend.tensorflow_compilations import count_shapes

Nest = Any
Recording = Literal["none", "reverse", "forward"]
MOST_TRACES = 32  # of a part, for different static shapes, that are remembered
_numbers = itertools.count(1)


def can_compile_part() -> bool:
    """Return whether XLA can compile a part of what is being computed, in a graph or operation by operation.

    It cannot within a graph that XLA compiles as a whole, under a distribution strategy, and where functions are run
    operation by operation. Deterministic operations exclude XLA, as in Keras.
    """
    return (
        not (tf.executing_eagerly() and tf.config.functions_run_eagerly())
        and not control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
        and not tf.distribute.has_strategy()
        and not framework_config.is_op_determinism_enabled()
        and not op_callbacks.should_invoke_op_callbacks()  # by which `tf.debugging` looks at each operation
    )


def recording(tensors: Callable[[], list]) -> Recording:
    """Return whether a derivative may be asked for of what is computed from the tensors that a function returns.

    "forward" if a `tf.autodiff.ForwardAccumulator` watches one of them, else "reverse" if a gradient tape does.
    """
    if not record.could_possibly_record():
        return "none"
    given = [tf.convert_to_tensor(each) for each in tensors()]
    if forwardprop_util.pack_tangents(given).tangents:
        return "forward"
    return "reverse" if record.should_record_backprop(given) else "none"


def compiled_part(function: Callable[..., Nest], traces: OrderedDict[Any, Any] | None = None) -> Callable[..., Nest]:
    """Return a pure function of nests of tensors, traced once for each kind of arguments and compiled by XLA.

    Leaves that are not tensors are constants of the function. For a result that is one of the arguments, the caller
    gets the argument itself.
    The results have no gradient: use the function in a custom gradient.

    Args:
        function: `(*arguments) -> nest`. If several graphs share its compiled form, it must not use any tensors except
            its arguments.
        traces: What has been traced of an equal function, to which this one adds; None: nothing. It does not keep
            functions alive.
    """
    return _Part(function, OrderedDict() if traces is None else traces)


class _Part:
    def __init__(self, function: Callable[..., Nest], traces: OrderedDict[Any, "_Trace"]):
        self._function, self._traces = function, traces

    @tf.autograph.experimental.do_not_convert
    def __call__(self, *arguments: Nest) -> Nest:
        leaves = [tf.constant(x) if isinstance(x, np.ndarray) else x for x in tf.nest.flatten(arguments)]
        structure = tf.nest.map_structure(lambda _: 0, arguments)
        kinds = tuple((x.dtype, tuple(x.shape)) if tf.is_tensor(x) else x for x in leaves)
        key = str(structure), kinds
        trace = self._traces.get(key)
        if trace is None:
            trace = self._traces[key] = _Trace(structure, leaves)
            trace.make(self._function, leaves)
        self._traces.move_to_end(key)
        if len(self._traces) > MOST_TRACES:
            self._traces.popitem(last=False)
        return trace(leaves)


class _Trace:
    """The compiled function for arguments of one structure, with the same static shapes, dtypes and constants.

    Args:
        structure: A nest with the structure of the arguments.
        leaves: The leaves of such arguments.
    """

    def __init__(self, structure: Nest, leaves: list):
        self._structure = structure
        self._constants = [None if tf.is_tensor(leaf) else (leaf,) for leaf in leaves]
        self._results: tuple[Nest, list] = ((), [])  # their structure, and for each leaf what it is if not computed
        self._graph: Any = None
        self._number = next(_numbers)

    def make(self, function: Callable[..., Nest], leaves: list) -> None:
        """Trace the function, which is not kept alive: its cell could be large."""

        def of_tensors(*tensors: tf.Tensor) -> list[tf.Tensor]:
            return self._computed(function, tensors)

        compiled = tf.function(of_tensors, autograph=False, jit_compile=True)
        self._graph = compiled.get_concrete_function(*self._tensors(leaves))

    def __call__(self, leaves: list) -> Nest:
        tensors = self._tensors(leaves)
        count_shapes(self._number, tensors)
        # TensorFlow would prepare a gradient for a second tape: it would have the function return the lists in which
        # its loops store tensors, which compiled functions cannot. Nested tapes around a function do it, too.
        with record.stop_recording():
            computed = iter([tf.stop_gradient(each) for each in self._graph(*tensors)])
        structure, known = self._results
        values = [next(computed) if each is None else each.of(leaves) for each in known]
        return tf.nest.pack_sequence_as(structure, values)

    def _tensors(self, leaves: list) -> list[tf.Tensor]:
        return [leaf for leaf, known in zip(leaves, self._constants, strict=True) if known is None]

    def _computed(self, function: Callable[..., Nest], tensors: tuple[tf.Tensor, ...]) -> list[tf.Tensor]:
        """Return the results of a function, except those that are known without it."""
        given = iter(tensors)
        leaves = [next(given) if known is None else known[0] for known in self._constants]
        results = function(*tf.nest.pack_sequence_as(self._structure, leaves))
        places = {id(leaf): place for place, leaf in enumerate(leaves) if tf.is_tensor(leaf)}
        flat = tf.nest.flatten(results)
        known = [_Known.of_leaf(leaf, places) for leaf in flat]
        self._results = tf.nest.map_structure(lambda _: 0, results), known
        return [leaf for leaf, each in zip(flat, known, strict=True) if each is None]


class _Known:
    """A result that the compiled function need not return: one of its arguments, or a constant."""

    def __init__(self, value: Any, place: int | None):
        self.value, self.place = value, place

    @classmethod
    def of_leaf(cls, leaf: Any, places: dict[int, int]) -> "_Known | None":
        """Return what a leaf of the results is, or None if the function computes it."""
        if id(leaf) in places:
            return cls(None, places[id(leaf)])
        return None if tf.is_tensor(leaf) else cls(leaf, None)

    def of(self, leaves: list) -> Any:
        """Return the result, given the leaves of the arguments."""
        return self.value if self.place is None else leaves[self.place]
