"""What the time loop needs to know of a cell.

Notation: at step t a cell turns its projected input p_t and the recurrent map r_t = recur(h_{t-1}) of the previous
hidden state into the new state s_t = gates(p_t, r_t, s_{t-1}), whose first element is the output h_t.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kseq.backend import Tensor

State = tuple  # of tensors (batch, ...), the output first; cells use NamedTuples


class Activated(NamedTuple):
    """The gates of an additive cell without gate weights, in two parts.

    Attributes:
        activate: `(sums) -> activations`, the costly part: element-wise, of the same shape. The activations are kept
            for the gradient in place of the sums. One costly operation of a compiled loop is made once; a sum would be
            made again for each gate.
        gates: `(activations, state) -> new state`, the cheap rest.
        gates_gradient: `(activations, state, new_state, d_new_state) -> (d_sums, d_state)`. None inside `d_state`
            stands for zero.
    """

    activate: Callable[[Tensor], Tensor]
    gates: Callable[[Tensor, State], State]
    gates_gradient: Callable[[Tensor, State, State, State], tuple[Tensor, tuple]]


class Equations(NamedTuple):
    """What the loop needs to know of a cell: its pure functions.

    Attributes:
        recur: `(hidden (rows, ...), recurrent_weights) -> recurrent (rows, ...)`, linear in `hidden`.
        gates: `(projected, recurrent, state, *gate_weights) -> new state`, element-wise.
        gates_gradient: `(projected, recurrent, state, new_state, d_new_state, *gate_weights) ->
            (d_projected, d_recurrent, d_state, d_gate_weights)`, or None to have `gates` differentiated automatically.
            None inside `d_state` stands for zero, and in `d_projected` where a tensor is not float. `d_gate_weights`
            are those of each row, `(rows, *shape of the weight)`: they are added up after the last step.
        recur_gradient: `(recurrent_weights) -> (d_recurrent -> d_hidden)`, or None to have `recur` differentiated
            automatically. It is called once, before the reverse loop: what it makes of the weights is made once.
        whole_batch: Whether `recur` must see all rows at once, its weights having something for each row.
        additive: Whether `gates` and `gates_gradient` look at projected + recurrent alone. They are then given the sum,
            in place of `projected`, and 0.0, and it alone is kept for the gradient.
        activated: Of an additive cell with a `gates_gradient`: the same gates and gradient in another form, which is
            then taken; or None.
    """

    recur: Callable[[Tensor, Any], Tensor]
    gates: Callable[..., State]
    gates_gradient: Callable[..., tuple] | None = None
    recur_gradient: Callable[[Any], Callable[[Tensor], Tensor]] | None = None
    whole_batch: bool = False
    additive: bool = False
    activated: Activated | None = None


def as_state(new: Any, like: State) -> State:
    """Return what a cell's `gates` gave as a plain tuple.

    Raises:
        ValueError: If it is not as many tensors as the state has.
    """
    if not isinstance(new, tuple | list) or len(new) != len(like):
        came = f"{len(new)} values" if isinstance(new, tuple | list) else f"a {type(new).__name__}"
        raise ValueError(
            f"A cell's gates must return a tuple of the new state's {len(like)} tensors, the output first, but they "
            f"returned {came}. With one state, return (hidden,)."
        )
    return tuple(new)
