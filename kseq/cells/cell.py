"""The contract of a recurrent cell."""

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from kseq import engine
from kseq.backend import Tensor
from kseq.engine import Activated, Equations, State, Weights
from kseq.linear import dense, product
from kseq.short_help import ShortHelp

# Attributes that describe methods: each with those methods, and the value to which it is reset in a class that
# overrides one of them.
DESCRIPTIONS = {
    "gates_gradient": (("gates",), None),
    "additive": (("gates",), False),
    "activated": (("gates", "gates_gradient"), None),
}
FORMER_HOOKS = (
    "projections",
    "drop_inputs",
    "projects_rows_apart",
    "recurrent_arguments",
    "is_separable",
    "has_pieces",
)
STEP_BY_STEP = (
    "A step that project, recur and gates do not describe goes into a keras.layers.Layer with state_size and "
    "call(inputs, states) -> (output, new states), which kseq.layers.RNN runs step by step."
)


class Cell(keras.layers.Layer, metaclass=ShortHelp):
    """One step of a recurrence, written as three functions from which the engine runs whole sequences fast.

    A subclass creates the weights in `build`, sets `state_size` and `output_size`, and defines

    - `project(inputs)`: everything that does not depend on the state, for all time steps in one product;
    - `recur(hidden, recurrent_weights)`: the linear map of the previous hidden state;
    - `gates(projected, recurrent, state, *gate_weights)`: the element-wise remainder. It returns the new state, whose
      first element is the output.

    The properties `recurrent_weights` and `gate_weights` return the weights that `recur` and `gates` receive. Only
    `gates` has no default: by default, `project` uses weights named `kernel` and, if there is one, `bias`, and
    `recurrent_weights` is the one named `recurrent_kernel`. `get_config` returns the constructor's arguments, so that
    models with the cell can be saved and layers can copy it. A cell may also override

    - `equations(training)`, to change the functions that the engine runs, for example for dropout, statistics over
      rows, or a mask;
    - `run`, if it runs whole sequences by a method of its own;
    - `get_initial_state`.

    It is also a Keras cell (`call`, `get_initial_state`), which `keras.layers.RNN` runs step by step. For a step that
    these functions do not describe, write a `keras.layers.Layer` with `state_size` and `call(inputs, states)`, which
    returns `(output, new states)`: `kseq.layers.RNN` runs it too, step by step.

    Attributes:
        state_size: Units of each state tensor: an int, or a list of ints. For a state tensor with several axes, the
            list has a tuple: its shape without the batch.
        output_size: Units of the output: an int, or a tuple, its shape without the batch. By default that of the first
            state tensor.
        gates_gradient: None, or a hand-written gradient of `gates`; see `kseq.engine.Equations`.
        additive: Whether `gates` uses only the sum projected + recurrent, which saves memory.
        activated: None, or the gates in two parts, which a compiled loop runs faster; see `kseq.engine.Activated`. Only
            for an additive cell with a `gates_gradient`.

            Overriding `gates` resets these three. Declare them again where they still hold.

    Raises:
        TypeError: If a subclass defines a method that was a hook in earlier versions, or `equations`
            without the argument `training`.
        ValueError: When a layer with the cell is built, if the cell lacks a weight that the defaults use.
        NotImplementedError: When a layer is made with the cell, if the cell defines neither `gates` nor `call`.

    Example:
        >>> @keras.saving.register_keras_serializable()
        ... class MinimalCell(kseq.cells.Cell):
        ...     def __init__(self, units, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.state_size = self.output_size = units
        ...     def build(self, input_shape):
        ...         self.kernel = self.add_weight(shape=(input_shape[-1], self.state_size), name="kernel")
        ...         self.recurrent_kernel = self.add_weight(shape=(self.state_size,) * 2, name="recurrent_kernel")
        ...     def gates(self, projected, recurrent, state):
        ...         return (ops.tanh(projected + recurrent),)
        ...     def get_config(self):
        ...         return {**super().get_config(), "units": self.state_size}
        >>> kseq.layers.RNN(MinimalCell(32))(np.zeros((4, 10, 8))).shape
        (4, 32)
    """

    gates_gradient: Callable[..., tuple] | None = None
    additive: bool = False
    activated: Activated | None = None
    steps_by_gates: bool = True  # False in a subclass that overrides `call` but not `gates`
    runs_by_equations: bool = True  # False if a subclass overrides `run` but not `equations`

    run = engine.run

    @property
    def output_size(self) -> Any:
        """Units of the output; by default those of the first state tensor."""
        size = getattr(self, "_output_size", None)
        return first_size(self) if size is None else size

    @output_size.setter
    def output_size(self, size: Any) -> None:
        self._output_size = size

    def __init__(self, *args: Any, name: str | None = None, dtype: Any = None, trainable: bool = True, **kwargs: Any):
        super().__init__(*args, name=name, dtype=dtype, trainable=trainable, **kwargs)

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        former = [name for name in FORMER_HOOKS if name in vars(cls)]
        if former:
            raise TypeError(
                f"{cls.__name__} defines {former[0]}, which kseq.cells.Cell does not call any more. Override "
                "equations(self, training) instead: super().equations(training)._replace(project=...), with a function "
                "(inputs, mask) -> projected."
            )
        if "training" not in inspect.signature(cls.equations).parameters:
            raise TypeError(
                f"{cls.__name__}.equations takes no argument training, which it is called with. Define "
                "equations(self, training=False)."
            )
        for name, (methods, default) in DESCRIPTIONS.items():
            if any(_depth(cls, method) < _depth(cls, name) for method in methods):
                setattr(cls, name, default)
        cls.steps_by_gates = _depth(cls, "gates") <= _depth(cls, "call")
        cls.runs_by_equations = _depth(cls, "equations") <= _depth(cls, "run")

    def project(self, inputs: Tensor) -> Tensor:
        """Return `inputs @ kernel + bias`, `(..., features)` to `(..., projected)`, each row independently."""
        projected = dense(inputs, self._weight("kernel", "project(inputs)"))
        bias = getattr(self, "bias", None)
        return projected if bias is None else ops.add(projected, bias)

    @property
    def recurrent_weights(self) -> Any:
        """The weights that `recur` receives: a tensor or a nest of tensors."""
        return self._weight("recurrent_kernel", "the property recurrent_weights")

    def check_definition(self) -> None:
        """Raise NotImplementedError unless the class defines a step: `gates`, or what takes its place."""
        steps = {"gates", "call", "run", "equations"}
        if all(getattr(type(self), name) is getattr(Cell, name) for name in steps):
            self.gates(None, None, ())

    def check_weights(self) -> None:
        """Raise ValueError if a built cell lacks a weight that the default methods use."""
        if all(getattr(type(self), name) is getattr(Cell, name) for name in ("run", "equations", "call")):
            if type(self).project is Cell.project:
                self._weight("kernel", "project(inputs)")
            if type(self).recurrent_weights is Cell.recurrent_weights:
                _ = self.recurrent_weights

    def _weight(self, name: str, way_out: str) -> Any:
        """Return the weight that a default method uses, or raise if the cell has none of this name."""
        weight = getattr(self, name, None)
        if weight is None:
            raise ValueError(
                f"{type(self).__name__} has no weight named {name}, which kseq.cells.Cell uses. Name it self.{name} in "
                f"`build`, or override {way_out}. {STEP_BY_STEP}"
            )
        return weight

    def recur(self, hidden: Tensor, recurrent_weights: Any) -> Tensor:
        """Return the linear (or affine) map of `hidden` `(rows, units)`. Must use no tensors except its arguments.

        By default the weights are a kernel, or a tuple of a kernel and a bias: `hidden @ kernel + bias`.
        """
        kernel, *bias = recurrent_weights if isinstance(recurrent_weights, list | tuple) else (recurrent_weights,)
        recurrent = product(hidden, kernel)
        return ops.add(recurrent, bias[0]) if bias else recurrent

    @property
    def gate_weights(self) -> tuple:
        """Further arguments of `gates`, such as the gains of a layer normalisation."""
        return ()

    def gates(self, projected: Tensor, recurrent: Tensor, state: State, *gate_weights: Tensor) -> State:
        """Return the new state, whose first element is the output. Must use no tensors except its arguments."""
        raise NotImplementedError(
            f"{type(self).__name__} must define gates(projected, recurrent, state). {STEP_BY_STEP}"
        )

    def equations(self, training: bool = False) -> Equations | None:
        """Return the functions and weights of this cell for one call.

        Cells whose `run` uses none, such as `MinGRUCell` and `StackedCells`, return None.

        Args:
            training: Whether dropout is on.
        """
        a_product = type(self).recur is Cell.recur
        return Equations(
            lambda inputs, mask: self.project(inputs),
            self.recur,
            self.gates,
            lambda batch_size: Weights(self.recurrent_weights, tuple(self.gate_weights)),
            gates_gradient=self.gates_gradient,
            recur_gradient=_product_gradient if a_product else None,
            additive=self.additive,
            activated=self.activated,
            separable=self.steps_by_gates,
            output_is_state=self.runs_by_equations,
        )

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step.

        Args:
            inputs: `(batch, features)`.
            states: List or tuple of the previous state's tensors, `(batch, units)` each.
            training: Whether dropout is on.

        Returns:
            `(output (batch, output_size), new states)`.
        """
        equations = self.equations(training)
        assert equations is not None  # cells without equations override `call`
        new = equations.step(inputs, tuple(states) if isinstance(states, list | tuple) else (states,))
        return new[0], list(new)

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """Return zeros, `(batch_size, units)` for each state tensor."""
        sizes = self.state_size if isinstance(self.state_size, list | tuple) else [self.state_size]
        return [ops.zeros((batch_size, *axes(size)), dtype=self.compute_dtype) for size in sizes]


def first_size(cell: Any) -> Any:
    """Return the entry of `state_size` of a cell's first state tensor."""
    sizes = cell.state_size
    return sizes[0] if isinstance(sizes, list | tuple) else sizes


def axes(size: int | tuple) -> tuple:
    """Return the shape without the batch that an entry of `state_size`, or `output_size`, stands for."""
    return tuple(size) if isinstance(size, list | tuple) else (size,)


def _depth(cell_class: type, name: str) -> int:
    """Return the index in the method resolution order of the class that defines `name`; 0 is `cell_class` itself."""
    return next(index for index, base in enumerate(cell_class.__mro__) if name in vars(base))


def _product_gradient(recurrent_weights: Any) -> Callable[[Tensor], Tensor]:
    """Return the function `d_recurrent -> d_hidden`. Transposing the kernel once makes each step's product faster."""
    kernel = tree.flatten(recurrent_weights)[0]
    transposed = ops.transpose(kernel)
    return lambda d_recurrent: ops.matmul(d_recurrent, transposed)
