"""The contract of a recurrent cell."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from kseq.backend import Tensor
from kseq.cells.captured import first_step, refuse_gradients_of_captured
from kseq.equations import Activated, Equations, State, as_state
from kseq.linear import dense
from kseq.recurrence import recurrence, row_groups

GATES = ("gates", "gates_gradient")  # what `activated` is another form of


class Cell(keras.layers.Layer):
    """One step of a recurrence, in three pieces from which whole sequences are run and differentiated fast.

    A subclass writes the weights in `build`, sets `state_size` and `output_size`, and gives

    - `project(inputs)`: all that does not depend on the state, for all time steps in one product;
    - `recur(hidden, recurrent_weights)`: the linear map of the previous hidden state;
    - `gates(projected, recurrent, state, *gate_weights)`: the element-wise rest, returning the new state, whose first
      element is the output.

    It is a Keras cell as well (`call`, `get_initial_state`): `keras.layers.RNN` runs it, step by step. A cell that is
    not of these pieces, but has a way of its own to take all steps, overrides `run`.

    Attributes:
        state_size: Units of each state tensor: an int, or a list of ints. A state of several axes has a tuple in the
            list, its shape behind the batch.
        output_size: Units of the output: an int, or the tuple of its shape behind the batch.
        gates_gradient: None, or a hand-written gradient of `gates`, see `kseq.equations.Equations`.
        additive: Whether `gates` looks at projected + recurrent alone, which saves memory. Like `gates_gradient`, it is
            said of the gates of the class it is in: a subclass with gates of its own says it again.
        activated: None, or the gates of an additive cell that has a `gates_gradient` in two parts, which a compiled
            loop runs faster, see `kseq.equations.Activated`. It is said of the gates of its class, too.

    Example:
        >>> class MinimalCell(kseq.cells.Cell):
        ...     def __init__(self, units, **kwargs):
        ...         super().__init__(**kwargs)
        ...         self.state_size = self.output_size = units
        ...     def build(self, input_shape):
        ...         self.kernel = self.add_weight(shape=(input_shape[-1], self.state_size), name="kernel")
        ...         self.recurrent_kernel = self.add_weight(shape=(self.state_size,) * 2, name="recurrent_kernel")
        ...     def gates(self, projected, recurrent, state):
        ...         return (ops.tanh(projected + recurrent),)
        >>> kseq.layers.RNN(MinimalCell(32))(np.zeros((4, 10, 8))).shape
        (4, 32)
    """

    gates_gradient: Callable[..., tuple] | None = None
    additive: bool = False
    activated: Activated | None = None

    def drop_inputs(self, inputs: Tensor, training: bool) -> Tensor:
        """Return the inputs that `project` takes, `(..., features)`; a cell with dropout on them drops some here."""
        del training
        return inputs

    def project(self, inputs: Tensor) -> Tensor:
        """Return `inputs @ kernel + bias`, `(..., features)` to `(..., projected)`."""
        projected = dense(inputs, self.kernel)
        bias = getattr(self, "bias", None)
        return projected if bias is None else ops.add(projected, bias)

    def projections(self, inputs: Tensor, mask: Tensor | None = None, training: bool = False) -> Any:
        """Return what `gates` takes of the inputs, for one step or for all: a tensor or a nest of tensors.

        Args:
            inputs: `(batch, features)` or `(time, batch, features)`.
            mask: Bool `(batch,)` or `(time, batch)`, True at real steps; None when all are.
            training: Whether dropout is on. Random numbers of the steps belong here, as tensors that are not float:
                they get no gradient.
        """
        del mask
        return self.project(self.drop_inputs(inputs, training))

    def projects_rows_apart(self, training: bool) -> bool:
        """Whether `projections` treats each row by itself, so that it may be given some of them at a time.

        Like `gates_gradient`, it is said of the `projections` and `drop_inputs` of the class it is in: where a subclass
        has others, they get all rows unless it says this again.
        """
        del training
        return True

    @property
    def recurrent_weights(self) -> Any:
        """The weights that `recur` takes: a tensor or a nest of tensors."""
        return self.recurrent_kernel

    def recurrent_arguments(self, batch_size: int | Tensor, training: bool) -> Any:
        """Return what `recur` takes at every step: the recurrent weights, and what is the same for all steps."""
        del batch_size, training
        return self.recurrent_weights

    def recur(self, hidden: Tensor, recurrent_weights: Any) -> Tensor:
        """Return the linear (or affine) map of `hidden` `(rows, units)`. Uses nothing but its arguments.

        By default the weights are a kernel, or a tuple of a kernel and a bias: `hidden @ kernel + bias`.
        """
        kernel, *bias = recurrent_weights if isinstance(recurrent_weights, list | tuple) else (recurrent_weights,)
        recurrent = ops.matmul(hidden, kernel)
        return ops.add(recurrent, bias[0]) if bias else recurrent

    @property
    def gate_weights(self) -> tuple:
        """Further tensors that `gates` takes, such as the gains of a layer normalisation."""
        return ()

    def gates(self, projected: Tensor, recurrent: Tensor, state: State, *gate_weights: Tensor) -> State:
        """Return the new state, its first element the output. Uses no tensor but its arguments."""
        raise NotImplementedError(f"{type(self).__name__} must define gates(projected, recurrent, state).")

    def is_separable(self, training: bool) -> bool:
        """Whether the three pieces say all of what the cell does; else its steps are run one by one by `call`."""
        del training
        return True

    def has_pieces(self) -> bool:
        """Whether `run` goes by the pieces, so that a wrapper can change one; not if the cell has its own `run`."""
        return type(self).run is Cell.run

    def equations(self) -> Equations:
        """Return the pure functions of this cell for `kseq.recurrence.recurrence`."""
        a_product = getattr(self.recur, "__func__", None) is Cell.recur
        return Equations(
            self.recur,
            self.gates,
            self.gates_gradient if says_of(self, "gates_gradient", "gates") else None,
            _product_gradient if a_product else None,
            additive=self.additive and says_of(self, "additive", "gates"),
            activated=self.activated if all(says_of(self, "activated", piece) for piece in GATES) else None,
        )

    def run(
        self,
        inputs: Tensor,
        state: State,
        mask: Tensor | None = None,
        *,
        return_sequences: bool = True,
        unroll: bool = False,
        training: bool = False,
    ) -> tuple[Tensor, State]:
        """Take all steps. Time comes first. At a masked step the state and the output are those of the step before.

        Args:
            inputs: `(time, batch, features)`, finite in the padding.
            state: Tuple of tensors, `(batch, units)` each.
            mask: Bool `(time, batch)`, True at real steps; None when all are.
            return_sequences: Whether to return the outputs of all steps, or the last one's.
            unroll: Write the steps out instead of looping.
            training: Whether dropout is on, and a gradient likely to follow.

        Returns:
            `(outputs, final state)`: outputs `(time, batch, output_size)`, or the last `(batch, output_size)`.
        """
        equations, state = self.equations(), tuple(state)
        rows = None
        if projects_rows_apart(self, training):
            rows = row_groups(equations, state, training)
            projected = [self.projections(x, training=training) for x in rows.split(inputs, axis=1)]
        else:
            projected = self.projections(inputs, mask, training)
        projected, recurrent_weights = (
            _tensors(nest) for nest in (projected, self.recurrent_arguments(ops.shape(inputs)[1], training))
        )
        gate_weights = tuple(_tensors(self.gate_weights))
        outputs, final = recurrence(
            equations,
            projected,
            state,
            recurrent_weights,
            gate_weights,
            mask=mask,
            return_sequences=return_sequences,
            unroll=unroll,
            training=training,
            rows=rows,
        )
        results = (outputs if return_sequences else final[0]), final
        some_rows = projected if rows is None else projected[0]
        step, arguments = first_step(equations, some_rows, state, (recurrent_weights, gate_weights))
        return refuse_gradients_of_captured(self, step, arguments, results)

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step.

        Args:
            inputs: `(batch, features)`.
            states: List or tuple of the previous state's tensors, `(batch, units)` each.
            training: Whether dropout is on.

        Returns:
            `(output (batch, output_size), new states)`.
        """
        state = tuple(states) if isinstance(states, list | tuple) else (states,)
        equations = self.equations()
        projected = self.projections(inputs, training=training)
        recurrent = equations.recur(state[0], self.recurrent_arguments(ops.shape(inputs)[0], training))
        new = as_state(equations.gates(projected, recurrent, state, *self.gate_weights), like=state)
        return new[0], list(new)

    def get_initial_state(self, batch_size: int | Tensor | None = None) -> list[Tensor]:
        """Return zeros, `(batch_size, units)` for each state tensor."""
        sizes = self.state_size if isinstance(self.state_size, list | tuple) else [self.state_size]
        return [ops.zeros((batch_size, *axes(size)), dtype=self.compute_dtype) for size in sizes]


def says_of(cell: Cell, name: str, piece: str) -> bool:
    """Whether what an attribute says holds for a cell's `piece`, and not for one that a subclass has replaced since."""
    classes = type(cell).__mro__
    said, replaced = (next(i for i, c in enumerate(classes) if key in vars(c)) for key in (name, piece))
    return name in vars(cell) or said <= replaced


def projects_rows_apart(cell: Cell, training: bool) -> bool:
    """Whether a cell's own `projections` may be given some of the rows at a time."""
    own = (says_of(cell, "projects_rows_apart", piece) for piece in ("projections", "drop_inputs"))
    return all(own) and cell.projects_rows_apart(training)


def axes(size: int | tuple) -> tuple:
    """Return the shape behind the batch that a `state_size` or `output_size` stands for."""
    return tuple(size) if isinstance(size, list | tuple) else (size,)


def _tensors(nest: Any) -> Any:
    """Variables as tensors, in the precision of the call."""
    return tree.map_structure(ops.convert_to_tensor, nest)


def _product_gradient(recurrent_weights: Any) -> Callable[[Tensor], Tensor]:
    """Return the gradient of `hidden @ kernel`; the kernel is turned once, which makes a step's product faster."""
    kernel = tree.flatten(recurrent_weights)[0]
    turned = ops.transpose(kernel)
    return lambda d_recurrent: ops.matmul(d_recurrent, turned)
