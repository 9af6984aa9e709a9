"""Gradients, shapes and performance choices on TensorFlow.

AutoGraph does not convert these functions: their arguments use operations, not Python's control flow.
"""

import functools
import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.eager import (
    context,  # no public API sets options of calls in one thread
    record,  # no public API tells whether a tape is active
)
from tensorflow.python.ops import control_flow_util  # no public API tells whether XLA compiles a graph

Nest = Any
Function = TypeVar("Function", bound=Callable)
FEWEST_SPLIT_ROWS = 4  # for fewer rows, a second group costs more than it saves
MOST_SMALL = 2**19  # multiplications in a step, up to which the overhead of a loop's step dominates
WIDE = 2  # features per unit, above which one product for all steps saves more than a loop with less overhead
NOT_OPTIMISED = tf.compat.v1.ConfigProto()
NOT_OPTIMISED.graph_options.rewrite_options.disable_meta_optimizer = True
NO_SECOND_GRADIENT = (
    "This gradient was computed by a part that XLA compiles by itself, and has no gradient of its own. For second "
    "derivatives call kseq.config.set_jit_compile(False), or use nested tapes inside one function, not in a tf.cond."
)


def has_accelerator() -> bool:
    """Return whether there is a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))


def under_xla() -> bool:
    """Return whether XLA compiles the whole graph around, so that it fuses operations on single elements."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def row_groups(batch_size: int | None, training: bool) -> int:
    """Return the best number of groups of rows in a recurrence's loop.

    Two on a CPU with several cores, which compute independent operations at the same time. One on a GPU, in eager
    execution, and for few rows. A batch of unknown size is assumed to be large in training and small otherwise.
    """
    if tf.executing_eagerly() or (os.cpu_count() or 1) == 1 or has_accelerator():
        return 1
    large = training if batch_size is None else batch_size >= FEWEST_SPLIT_ROWS
    return 2 if large else 1


@tf.autograph.experimental.do_not_convert
def split_rows(values: tf.Tensor, count: int, axis: int) -> list[tf.Tensor]:
    """Return `values` in `count` parts of about the same size along `axis`. The gradient is a concatenation."""
    size = values.shape[axis]
    size = tf.shape(values)[axis] if size is None else size
    bounds = [size * part // count for part in range(count + 1)]
    return tf.split(values, [last - first for first, last in itertools.pairwise(bounds)], axis)


@tf.autograph.experimental.do_not_convert
def captured(function: Callable, arguments: tuple) -> list[tf.Tensor]:
    """Return the float tensors that a function uses and that are not among its arguments.

    The function is traced separately, from the shapes and dtypes of its arguments; nothing is computed.

    Args:
        function: `(*arguments) -> nest of tensors`.
        arguments: Nests of tensors.
    """
    shapes = tf.nest.map_structure(lambda x: tf.TensorSpec(x.shape, x.dtype), arguments)
    used = tf.function(function, autograph=False).get_concrete_function(*shapes).captured_inputs
    return [each for each in used if each.dtype.is_floating]


def differentiates_loops() -> bool:
    """Return whether the backend's own gradient of a loop takes time proportional to the number of steps.

    It does not under XLA, where each step of the gradient processes each whole input.
    """
    return False


def trains_statelessly() -> bool:
    """Return False: Keras's `fit` assigns the variables of the model and its optimizer in place."""
    return False


def projects_ahead(rows: int, multiplications: int, features_per_unit: float) -> bool:
    """Return whether inference is faster if the inputs of all steps are projected before the loop.

    Args:
        rows: Number of rows in a step. With one row, a step takes as long as reading its weights from memory, and one
            product for all steps reads the input's weights only once: with 256 features and 512 units, a loop that
            projects in its steps took twice as long.
        multiplications: Number of multiplications in a step's recurrent product. If it is small, the overhead of a step
            dominates: with a batch of 8, 64 features and 64 units, a loop that projects in its steps took 0.7 times as
            long.
        features_per_unit: Number of input features divided by the number of units. With 512 features and 64 units, that
            loop took 1.8 times as long.
    """
    small = rows > 1 and multiplications <= MOST_SMALL and features_per_unit <= WIDE
    return not small or tf.executing_eagerly() or has_accelerator()


@tf.autograph.experimental.do_not_convert
def vector_jacobian_product(function: Callable, *primals: Nest) -> tuple[Nest, Callable[[Nest], tuple]]:
    """Return `function(*primals)` and the pullback from an output's cotangent to one cotangent per primal."""
    primals = tf.nest.map_structure(_of_this_graph, primals)
    with tf.GradientTape() as tape:
        tape.watch(primals)
        outputs = function(*primals)

    def pullback(cotangent: Nest) -> tuple:
        # The outputs are flattened because a NamedTuple may get cotangents in a plain tuple.
        gradients = tape.gradient(
            tf.nest.flatten(outputs),
            primals,
            output_gradients=tf.nest.flatten(cotangent),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return tuple(gradients)

    return outputs, pullback


def _of_this_graph(tensor: Any) -> tf.Tensor:
    """Return a tensor that a tape can watch: of another graph's tensor, TensorFlow would watch the original only."""
    tensor = tf.convert_to_tensor(tensor)
    if tf.executing_eagerly() or tensor.graph is tf.compat.v1.get_default_graph():
        return tensor
    return tf.identity(tensor)


@tf.autograph.experimental.do_not_convert
def custom_gradient(
    primal: Callable[..., Nest],
    forward: Callable[..., tuple[Nest, Nest]],
    backward: Callable[[Nest, Nest], Nest],
    arguments: tuple,
    *,
    keep_residuals: bool,
    differentiable: tuple[Callable, Callable] | None = None,
) -> Nest:
    """Evaluate `primal(*arguments)` with a backward pass of its own.

    Args:
        primal: The function, without residuals.
        forward: The same function, returning `(outputs, residuals)`.
        backward: `(residuals, output cotangents) -> cotangents`, one for each tensor of `arguments`, same structure;
            None stands for no gradient (masks).
        arguments: Every tensor that the functions use, including weights.
        keep_residuals: Whether a gradient is likely to be asked for, which TensorFlow cannot tell. If True, the
            residuals are stored; if False, `forward` computes them when a gradient is asked for after all.
        differentiable: `(forward, backward)` to use instead while a gradient tape records the gradient: for second
            derivatives, if TensorFlow cannot differentiate the others. None if it can.

    Returns:
        The outputs.

    Raises:
        ValueError: If the functions use variables that are not among the arguments.
    """
    flat = [tf.convert_to_tensor(x) for x in tf.nest.flatten(arguments)]
    here = tf.compat.v1.get_default_graph()
    structure: list[Nest] = []  # of the outputs, known once the function has run

    @tf.custom_gradient
    def function(*tensors: tf.Tensor) -> tuple:
        inputs = tf.nest.pack_sequence_as(arguments, tensors)
        outputs, residuals = forward(*inputs) if keep_residuals else (primal(*inputs), None)

        def gradient(*cotangents: tf.Tensor) -> list:
            cotangents = tuple(map(tf.convert_to_tensor, cotangents))  # which may be `tf.IndexedSlices`
            cotangent = tf.nest.pack_sequence_as(outputs, list(cotangents))
            same_graph = (
                tf.compat.v1.get_default_graph() is here
            )  # in another, TensorFlow may build gradients without end
            if differentiable is not None and same_graph and record.could_possibly_record():
                again, back = differentiable
                return tf.nest.flatten(back(again(*inputs)[1], cotangent))
            kept = residuals if keep_residuals else forward(*inputs)[1]
            gradients = tf.nest.flatten(backward(kept, cotangent))
            if differentiable is None:
                return gradients
            return _without_gradient(gradients, tensors)

        structure.append(outputs)
        return tuple(tf.nest.flatten(outputs)), gradient

    try:
        results = function(*flat)
    except TypeError as error:
        if "must accept keyword argument 'variables'" not in str(error):
            raise
        raise ValueError(
            f"A function with a custom gradient must use only variables that are among its arguments: {error} "
            "Return the weights that a cell's gates use from gate_weights; gates then receives them as arguments."
        ) from error
    return tf.nest.pack_sequence_as(structure[0], list(results))


def _without_gradient(gradients: list[tf.Tensor | None], tensors: tuple[tf.Tensor, ...]) -> list[tf.Tensor | None]:
    """Return `gradients`, computed by a compiled part, whose own gradient with respect to `tensors` is refused."""
    given = [each for each in gradients if each is not None]

    @tf.custom_gradient
    def identity(*values: tf.Tensor) -> tuple:
        def refuse(*cotangents: tf.Tensor) -> list[tf.Tensor | None]:
            # Without a sum over them the error would not be raised: nothing would use it.
            total = tf.add_n([tf.reduce_sum(tf.cast(prevented(each), "float32")) for each in cotangents])
            return [tf.fill(tf.shape(x), tf.cast(total, x.dtype)) if x.dtype.is_floating else None for x in values]

        return tuple(tf.identity(each) for each in values[: len(given)]), refuse

    def prevented(cotangent: tf.Tensor) -> tf.Tensor:
        warnings.warn(NO_SECOND_GRADIENT, stacklevel=2)
        with tf.control_dependencies([tf.debugging.Assert(False, [NO_SECOND_GRADIENT])]):
            return tf.fill(tf.shape(cotangent), tf.cast(float("nan"), cotangent.dtype))

    passed = iter(identity(*given, *tensors))
    return [None if each is None else next(passed) for each in gradients]


def prevent_gradient(values: Nest, message: str) -> Nest:
    """Return the tensors unchanged, but raise an error with `message` when they are differentiated.

    In a graph the error is raised when the gradient is computed, because TensorFlow also builds gradients that are not
    asked for. XLA cannot raise errors: there the gradient is NaN, and a warning is issued when it is built.
    """

    @tf.custom_gradient
    def identity(x: tf.Tensor) -> tuple:
        def gradient(cotangent: tf.Tensor) -> tf.Tensor:
            if tf.executing_eagerly():
                raise NotImplementedError(message)
            warnings.warn(f"{message} Compiled by XLA, that gradient is NaN instead of an error.", stacklevel=2)
            with tf.control_dependencies([tf.debugging.Assert(False, [message])]):
                return tf.fill(tf.shape(cotangent), tf.cast(float("nan"), cotangent.dtype))

        return tf.identity(x), gradient

    return tf.nest.map_structure(identity, values)


def without_gradient(function: Callable[[], Nest], variables: list) -> Nest:
    """Return `function()`, with no gradient through the values of these variables.

    Only JAX needs them: it derives each operation as it runs, and fails at loops of unknown length.
    """
    return tf.nest.map_structure(tf.stop_gradient, function())


def without_autograph(function: Function) -> Function:
    """Return a function that is not converted in a user's `tf.function`, which would take most of the time to trace it.

    Use it for functions whose Python control flow does not depend on tensors.
    """
    return tf.autograph.experimental.do_not_convert(function)


def warn_if(cases: dict[str, tf.Tensor]) -> None:
    """Issue warnings when a graph runs; graphs compiled by XLA cannot.

    Args:
        cases: Message -> bool scalar, whether to issue it.
    """
    if under_xla():
        return
    conditions = tf.stack(list(cases.values()))

    def warn(found: Any) -> bool:
        for message, issued in zip(cases, found, strict=True):
            if issued:
                warnings.warn(message, stacklevel=2)
        return True

    tf.cond(tf.reduce_any(conditions), lambda: tf.numpy_function(warn, [conditions], tf.bool), lambda: False)


def require_rows(values: tf.Tensor, count: int, name: str) -> tf.Tensor:
    """Return `values` with the static number of rows `count`, or fail if it has another number.

    A graph that does not know the number fails with both shapes and the `name` of the operation in its message,
    compiled by XLA or not. (An assertion would be dropped by XLA, and elsewhere other operations fail before it.)
    """
    return require_shape(values, [count, *values.shape[1:]], name)


def require_shape(values: tf.Tensor, shape: Sequence[int | None], name: str) -> tf.Tensor:
    """Return `values` with the static `shape`, of which None is any size, or fail as `require_rows` does."""
    return tf.ensure_shape(values, shape, name=name)


def size_of(values: tf.Tensor, axis: int) -> tf.Tensor:
    """Return the size of an axis, int32 scalar, also where not even the rank is known before the graph runs."""
    return tf.shape(values)[axis]


def unknown_rows(values: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Return `values` with a number of rows that is unknown before the graph runs, if that of `like` is.

    Operations on the result then wait for the checks before it; those that only need its shape would fail before.
    """
    if like.shape[0] is not None:
        return values
    return tf.compat.v1.placeholder_with_default(values, [None, *values.shape[1:]])  # which no optimizer looks through


def compiled(function: Callable[..., Nest]) -> Callable[..., Nest]:
    """Return a pure function of nests of tensors, compiled by XLA once for each of their shapes."""
    return tf.function(function, autograph=False, jit_compile=True)


def as_graph(function: Callable[..., Nest]) -> Callable[..., Nest]:
    """Return a function of nests of tensors as a graph, traced for few different shapes: unequal sizes become None.

    The graph is not optimised, as `x / 6` to `x * (1 / 6)`, so its results equal those without a graph to the last bit.
    """
    graphs: dict[Any, Callable] = {}  # by the dtypes and ranks of the arguments

    @functools.wraps(function)
    def call(*arguments: Nest) -> Nest:
        key = tuple(_kind(leaf) for leaf in keras.tree.flatten(arguments))
        if key not in graphs:
            # TensorFlow's warning of frequent retracing counts by the code of a function, and a `partial` has none.
            graphs[key] = tf.function(functools.partial(function), autograph=False, reduce_retracing=True)
        here = context.context()
        before = here.function_call_options
        here.function_call_options = context.FunctionCallOptions(config_proto=NOT_OPTIMISED)  # of this thread alone
        try:
            return graphs[key](*arguments)
        finally:
            here.function_call_options = before

    return call


def _kind(leaf: Any) -> tuple:
    return type(leaf), getattr(leaf, "dtype", None), len(getattr(leaf, "shape", ()))


def runs_eagerly() -> bool:
    """Return whether operations run one by one here, so that a graph of them would take less time."""
    return tf.executing_eagerly() and not tf.config.functions_run_eagerly()


def is_fixed_tensor(value: Any) -> bool:
    """Return whether a value is a tensor, which cannot change, or a variable, which a graph reads by reference."""
    return isinstance(value, tf.Tensor | tf.Variable)


def bitcast(values: tf.Tensor, dtype: str) -> tf.Tensor:
    """Return the bits of `values` read as another dtype of the same width."""
    return tf.bitcast(values, dtype)


def known_value(tensor: Any) -> np.ndarray | None:
    """Return the value of a tensor or array, or None if it is not known before the graph runs."""
    if not tf.is_tensor(tensor):
        return np.asarray(tensor)
    return tensor.numpy() if hasattr(tensor, "numpy") else tf.get_static_value(tensor)
