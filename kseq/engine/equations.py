"""The functions and weights of a cell, in the form that the engine uses.

Notation: at step t a cell turns its projected input p_t and the recurrent map r_t = recur(h_{t-1}) of the previous
hidden state into the new state s_t = gates(p_t, r_t, s_{t-1}), whose first element is the output h_t.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops, tree

from kseq.backend import Tensor

State = tuple  # of tensors (batch, ...), the output first; cells use NamedTuples


class Activated(NamedTuple):
    """The gates of an additive cell without gate weights, split into two parts.

    In this form a compiled loop evaluates the activations once. `gates` alone splits the sum by gate first, and XLA
    would compute the sum again for each gate.

    Attributes:
        activate: `(sums) -> activations`, the costly part: element-wise, with a result of the same shape. The
            activations are stored for the gradient in place of the sums.
        gates: `(activations, state) -> new state`, the cheap remainder.
        gates_gradient: `(activations, state, new_state, d_new_state) -> (d_sums, d_state)`. None inside `d_state`
            stands for zero.
    """

    activate: Callable[[Tensor], Tensor]
    gates: Callable[[Tensor, State], State]
    gates_gradient: Callable[[Tensor, State, State, State], tuple[Tensor, tuple]]


class Weights(NamedTuple):
    """The weights that the steps of one call use.

    Attributes:
        recurrent: The last argument of `Equations.recur`: a tensor or a nest of tensors.
        gates: The last arguments of `Equations.gates`.
    """

    recurrent: Any
    gates: tuple


class Equations(NamedTuple):
    """The pure functions and weights of a cell in one call (training or inference), with assumptions about them.

    A wrapper cell replaces some fields of its inner cell's equations.

    Attributes:
        project: `(inputs, mask) -> projected`: everything that does not depend on the state. `inputs` are those of one
            step, `(rows, features)`, or of all steps, `(time, rows, features)`; `mask` is bool `(time, rows)` or None.
            `projected` is a tensor or a nest of tensors. Those that are not float, such as random bits drawn for the
            steps, get no gradient.
        recur: `(hidden (rows, ...), recurrent_weights) -> recurrent (rows, ...)`, linear in `hidden`.
        gates: `(projected, recurrent, state, *gate_weights) -> new state`, element-wise.
        weights: `(batch_size) -> Weights`, called once before the first step.
        gates_gradient: `(projected, recurrent, state, new_state, d_new_state, *gate_weights) ->
            (d_projected, d_recurrent, d_state, d_gate_weights)`, or None to have `gates` differentiated automatically.
            None inside `d_state` stands for zero; `d_projected` has None for tensors that are not float.
            `d_gate_weights` has one gradient per row, `(rows, *shape of the weight)`; the engine sums them after the
            last step.
        recur_gradient: `(recurrent_weights) -> (d_recurrent -> d_hidden)`, or None to have `recur` differentiated
            automatically. The outer function is called once, before the reverse loop.
        additive: Whether `gates` and `gates_gradient` use only the sum projected + recurrent. They are then called with
            the sum as `projected` and 0.0 as `recurrent`, and only the sum is stored for the gradient.
        activated: The same gates and gradient in two parts, for an additive cell with a `gates_gradient`; or None.
        projects_rows_apart: Whether `project` treats each row independently, so that it may be called with a part of
            them.
        recurs_rows_apart: Whether `recur` treats each row independently, so that it may be called with a part of them.
        separable: Whether these functions describe the cell's whole step. If not, the engine calls the cell step by
            step.
        output_is_state: Whether the cell's output is the first element of its state, unchanged.
    """

    project: Callable[[Tensor, Tensor | None], Any]
    recur: Callable[[Tensor, Any], Tensor]
    gates: Callable[..., State]
    weights: Callable[[int | Tensor], Weights]
    gates_gradient: Callable[..., tuple] | None = None
    recur_gradient: Callable[[Any], Callable[[Tensor], Tensor]] | None = None
    additive: bool = False
    activated: Activated | None = None
    projects_rows_apart: bool = True
    recurs_rows_apart: bool = True
    separable: bool = True
    output_is_state: bool = True

    def step(self, inputs: Tensor, state: State) -> State:
        """Return the state after one step with inputs `(batch, features)`."""
        projected = self.project(inputs, None)
        weights = self.weights(ops.shape(tree.flatten(inputs)[0])[0])
        recurrent = self.recur(state[0], weights.recurrent)
        return as_state(self.gates(projected, recurrent, state, *weights.gates), like=state)


def as_state(new: Any, like: State) -> State:
    """Return the result of a cell's `gates` as a plain tuple.

    Raises:
        ValueError: If the number of tensors differs from that of the state.
    """
    if not isinstance(new, tuple | list) or len(new) != len(like):
        came = f"{len(new)} values" if isinstance(new, tuple | list) else f"a {type(new).__name__}"
        raise ValueError(
            f"A cell's gates must return a tuple of the new state's {len(like)} tensors, the output first, but they "
            f"returned {came}. With one state, return (hidden,)."
        )
    return tuple(new)
