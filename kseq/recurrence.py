"""The time loop of every recurrent cell, and its backpropagation through time.

Notation: at step t a cell turns its projected input p_t and the recurrent map r_t = recur(h_{t-1}) of the previous
hidden state into the new state s_t = gates(p_t, r_t, s_{t-1}), whose first element is the output h_t.

Forward, the projections of all steps were made before the loop, in one product. Backward, from the states and the r_t
that were kept, `gates` is differentiated step by step, and the recurrent weights' gradient is *one* product over all
steps after the loop (P. Werbos, "Backpropagation through time: what it does and how to do it", 1990).

Everything here is time-major: `(time, batch, ...)`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.masking import align_mask

State = tuple  # of tensors (batch, ...), the output first; cells use NamedTuples


class Equations(NamedTuple):
    """What the loop needs to know of a cell: its pure functions.

    Attributes:
        recur: `(hidden (rows, ...), recurrent_weights) -> recurrent (rows, ...)`, linear in `hidden`.
        gates: `(projected, recurrent, state, *gate_weights) -> new state`, element-wise.
        gates_gradient: `(projected, recurrent, state, new_state, d_new_state, *gate_weights) ->
            (d_projected, d_recurrent, d_state, d_gate_weights)`, or None to have `gates` differentiated automatically.
            None inside `d_state` stands for zero, and in `d_projected` where a tensor is not float.
        recur_gradient: `(recurrent_weights) -> (d_recurrent -> d_hidden)`, or None to have `recur` differentiated
            automatically. It is called once, before the reverse loop: what it makes of the weights is made once.
    """

    recur: Callable[[Tensor, Any], Tensor]
    gates: Callable[..., State]
    gates_gradient: Callable[..., tuple] | None = None
    recur_gradient: Callable[[Any], Callable[[Tensor], Tensor]] | None = None


class _Arguments(NamedTuple):
    """Every tensor of the recurrence; what the custom gradient differentiates."""

    projected: Any  # tensor or nest of tensors (time, batch, ...); those that are not float get no gradient
    state: State  # the initial state
    recurrent_weights: Any
    gate_weights: tuple
    mask: Any  # bool (time, batch), or () where every step is real


class _Residuals(NamedTuple):
    arguments: _Arguments
    states: State  # after each step: (time, batch, ...) each
    recurrent: Tensor  # r_t of each step: (time, batch, ...)


class _Step(NamedTuple):
    """What the backward pass knows of one step, or of all of them: then with `time` as the first axis.

    Attributes:
        projected: p_t, `(batch, ...)`, or a nest of such.
        recurrent: r_t, `(batch, ...)`.
        state: s_{t-1}, before the step.
        new_state: s_t, after it.
        d_output: The gradient of the step's output, `(batch, ...)`; () where outputs are not returned.
        mask: Bool `(batch,)`; () where every step is real.
    """

    projected: Any
    recurrent: Tensor
    state: State
    new_state: State
    d_output: Any
    mask: Any


def recurrence(
    equations: Equations,
    projected: Any,
    state: State,
    recurrent_weights: Any,
    gate_weights: tuple = (),
    *,
    mask: Tensor | None = None,
    return_sequences: bool = True,
    reverse: bool = False,
    unroll: bool = False,
    training: bool = False,
) -> tuple[Tensor | None, State]:
    """Run a cell over time.

    On a step whose mask is False the state is held, so that the final state is that of the last real step.

    Args:
        equations: The cell's functions.
        projected: `(time, batch, ...)`, the cell's projection of the inputs, finite in the padding; or a nest of such
            tensors. Those that are not float (random numbers of the steps) get no gradient.
        state: Initial state, a tuple of tensors `(batch, ...)`.
        recurrent_weights: What `equations.recur` takes: a tensor or a nest of tensors.
        gate_weights: Further tensors that `equations.gates` takes.
        mask: bool `(time, batch)`, True at real steps; None when all are.
        return_sequences: Whether to return the outputs of all steps.
        reverse: Go from the last step to the first. Outputs keep the place of their inputs.
        unroll: Write the steps out instead of looping (needs a static time).
        training: Whether a gradient is likely to follow: the states are then kept. Gradients are right either way.

    Returns:
        `(outputs (time, batch, ...) or None, final state)`.
    """
    loop = _Loop(equations, mask is not None, return_sequences, reverse, unroll)
    arguments = _Arguments(
        projected, tuple(state), recurrent_weights, tuple(gate_weights), () if mask is None else mask
    )
    outputs, final = backend.custom_gradient(
        lambda *arguments: loop.primal(_Arguments(*arguments)),
        lambda *arguments: loop.forward(_Arguments(*arguments)),
        loop.backward,
        tuple(arguments),
        keep_residuals=training,
    )
    return (outputs if return_sequences else None), final


class _Loop(NamedTuple):
    """The recurrence's forward and backward passes under one setting of its options."""

    equations: Equations
    masked: bool
    return_sequences: bool
    reverse: bool
    unroll: bool

    def primal(self, arguments: _Arguments) -> tuple[Any, State]:
        """Store nothing but the outputs that were asked for: a loop under XLA keeps every buffer it is given."""
        final, outputs = self._run(arguments, lambda _, new: new[0] if self.return_sequences else ())
        return outputs, final

    def forward(self, arguments: _Arguments) -> tuple[tuple[Any, State], _Residuals]:
        final, (recurrent, states) = self._run(arguments, lambda recurrent, new: (recurrent, new))
        outputs = states[0] if self.return_sequences else ()
        return (outputs, final), _Residuals(arguments, states, recurrent)

    def _run(self, arguments: _Arguments, keep: Callable[[Tensor, State], Any]) -> tuple[State, Any]:
        recur, gates = self.equations.recur, self.equations.gates

        def step(state: State, inputs: tuple) -> tuple[State, Any]:
            projected, mask = inputs
            recurrent = recur(state[0], arguments.recurrent_weights)
            new = as_state(gates(projected, recurrent, state, *arguments.gate_weights), like=state)
            if self.masked:
                new = tuple(_where(mask, after, before) for after, before in zip(new, state, strict=True))
            return new, keep(recurrent, new)

        inputs = (arguments.projected, arguments.mask)
        return backend.scan(step, arguments.state, inputs, reverse=self.reverse, unroll=self.unroll)

    def backward(self, residuals: _Residuals, cotangents: tuple) -> tuple:
        arguments, states, recurrent = residuals
        d_outputs, d_final = cotangents
        previous = tuple(self._previous(s, first) for s, first in zip(states, arguments.state, strict=True))
        to_hidden = self._recur_backward(arguments.recurrent_weights)

        def step(carry: tuple, at: _Step) -> tuple[tuple, tuple]:
            d_state, d_gate_weights = carry
            d_projected, d_recurrent, d_state, d_weights = self._step_backward(arguments, to_hidden, d_state, at)
            d_gate_weights = tuple(total + d for total, d in zip(d_gate_weights, d_weights, strict=True))
            # Cells that add the two have one gradient for both: it is stacked once.
            shared = d_recurrent is d_projected[-1]
            return (d_state, d_gate_weights), (d_projected if shared else [*d_projected, d_recurrent])

        (d_initial, d_gate_weights), gradients = backend.scan(
            step,
            (tuple(d_final), tuple(ops.zeros_like(w) for w in arguments.gate_weights)),
            _Step(arguments.projected, recurrent, previous, states, d_outputs, arguments.mask),
            reverse=not self.reverse,
            unroll=self.unroll,
        )
        _, pullback = backend.vector_jacobian_product(
            lambda weights: self.equations.recur(_merge_steps(previous[0]), weights), arguments.recurrent_weights
        )
        (d_recurrent_weights,) = pullback(_merge_steps(gradients[-1]))
        given = iter(gradients)
        d_projected = tree.map_structure(lambda x: next(given) if _is_float(x) else None, arguments.projected)
        return d_projected, d_initial, d_recurrent_weights, d_gate_weights, None if self.masked else ()

    def _previous(self, states: Tensor, initial: Tensor) -> Tensor:
        """Shift states after each step to states before it, `(time, batch, ...)` both."""
        ends = [states[1:], initial[None]] if self.reverse else [initial[None], states[:-1]]
        return ops.concatenate(ends, axis=0)

    def _recur_backward(self, recurrent_weights: Any) -> Callable[[_Step, Tensor], Tensor]:
        """Return `(step, d_recurrent) -> d_hidden`, by hand or automatically."""
        if self.equations.recur_gradient is not None:
            to_hidden = self.equations.recur_gradient(recurrent_weights)
            return lambda at, d_recurrent: to_hidden(d_recurrent)

        def automatic(at: _Step, d_recurrent: Tensor) -> Tensor:
            _, pullback = backend.vector_jacobian_product(
                lambda hidden: self.equations.recur(hidden, recurrent_weights), at.state[0]
            )
            (d_hidden,) = pullback(d_recurrent)
            return d_hidden

        return automatic

    def _step_backward(self, arguments: _Arguments, to_hidden: Callable, d_state: State, at: _Step) -> tuple:
        """Return the gradients of one step: `(d_projected, d_recurrent, d_state, d_gate_weights)`."""
        if self.return_sequences:
            d_state = (d_state[0] + at.d_output, *d_state[1:])
        d_new = d_state
        if self.masked:
            d_new = tuple(_where(at.mask, d, ops.zeros_like(d)) for d in d_state)
        d_projected, d_recurrent, d_direct, d_weights = self._gates_backward(at, d_new, arguments.gate_weights)
        paths = [[d] for d in d_direct]
        paths[0].append(to_hidden(at, d_recurrent))
        if self.masked:  # a held state hands its gradient straight back
            paths = [[*path, _where(at.mask, ops.zeros_like(d), d)] for path, d in zip(paths, d_state, strict=True)]
        d_before = tuple(_sum(path, like=d) for path, d in zip(paths, d_state, strict=True))
        return d_projected, d_recurrent, d_before, d_weights

    def _gates_backward(self, at: _Step, d_new: State, gate_weights: tuple) -> tuple:
        """Return `(d_projected, d_recurrent, d_state, d_gate_weights)` of `gates`, by hand or automatically.

        `d_projected` is the list of the gradients of those tensors of `projected` that are float.
        """
        gates, gates_gradient = self.equations.gates, self.equations.gates_gradient
        if gates_gradient is not None:
            d_projected, *others = gates_gradient(
                at.projected, at.recurrent, at.state, at.new_state, d_new, *gate_weights
            )
            return [d for d in tree.flatten(d_projected) if d is not None], *others

        def function(smooth: list, recurrent: Tensor, state: State, *weights: Tensor) -> State:
            return tuple(gates(_merge_float(smooth, at.projected), recurrent, state, *weights))

        _, pullback = backend.vector_jacobian_product(
            function, _float_leaves(at.projected), at.recurrent, tuple(at.state), *gate_weights
        )
        d_projected, d_recurrent, d_state, *d_weights = pullback(d_new)
        return d_projected, d_recurrent, d_state, tuple(d_weights)


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


def _is_float(tensor: Any) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def _float_leaves(nest: Any) -> list:
    return [leaf for leaf in tree.flatten(nest) if _is_float(leaf)]


def _merge_float(smooth: list, nest: Any) -> Any:
    """Return `nest` with its float tensors replaced, in order."""
    given = iter(smooth)
    return tree.map_structure(lambda leaf: next(given) if _is_float(leaf) else leaf, nest)


def _where(mask: Tensor, real: Tensor, padding: Tensor) -> Tensor:
    """Choose by row: `mask` bool `(batch,)`, the others `(batch, ...)`."""
    return ops.where(align_mask(mask, real), real, padding)


def _merge_steps(values: Tensor) -> Tensor:
    """`(time, batch, ...)` to `(time * batch, ...)`."""
    time, batch, *rest = ops.shape(values)
    return ops.reshape(values, (time * batch, *rest))


def _sum(terms: list, like: Tensor) -> Tensor:
    """Add the terms that are not None."""
    given = [term for term in terms if term is not None]
    return sum(given[1:], given[0]) if given else ops.zeros_like(like)
