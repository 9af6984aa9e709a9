"""The time loop of every recurrent cell, and its backpropagation through time.

Notation: at step t a cell turns its projected input p_t and the recurrent map r_t = recur(h_{t-1}) of the previous
hidden state into the new state s_t = gates(p_t, r_t, s_{t-1}), whose first element is the output h_t.

Forward, the projections of all steps were made before the loop, in one product. Backward, from the states and the r_t
(or p_t + r_t) that were kept, `gates` is differentiated step by step, and the recurrent weights' gradient is *one*
product over all steps after the loop (P. Werbos, "Backpropagation through time: what it does and how to do it", 1990).

Everything here is time-major: `(time, batch, ...)`.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.equations import Activated, Equations, State, as_state
from kseq.masking import align_mask
from kseq.row_groups import RowGroups


class _Arguments(NamedTuple):
    """Every tensor of the recurrence; what the custom gradient differentiates."""

    projected: Any  # list of tensors or nests (time, rows, ...), for all rows or each group; of one group: no list
    state: State  # the initial state
    recurrent_weights: Any
    gate_weights: tuple
    mask: Any  # bool (time, batch), or () where every step is real


class _Residuals(NamedTuple):
    """What is kept of a group of rows.

    Attributes:
        arguments: Of the projections those tensors that are not float, in a list.
        summands: Of all steps, see `_Step`, `(time, batch, ...)` each. Their gradients are written over them.
        states: All that the loop passed, the initial one too, `(time + 1, batch, ...)` each.
        final: The state after the last.
    """

    arguments: _Arguments
    summands: list
    states: State
    final: State


class _Step(NamedTuple):
    """What the backward pass knows of one step of a group of rows.

    Attributes:
        others: Those tensors of p_t that are not float.
        state: s_{t-1}, before the step.
        d_output: The gradient of the step's output, `(batch, ...)`; () where outputs are not returned.
        mask: Bool `(batch,)`; () where every step is real.
        summands: The float tensors of p_t, and r_t, `(batch, ...)` each; of an additive cell p_t + r_t alone, or its
            activations.
    """

    others: list
    state: State
    d_output: Any
    mask: Any
    summands: list


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
    rows: RowGroups | None = None,
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
        rows: Given where the projections were made for each of the groups apart: `projected` is then a list.

    Returns:
        `(outputs (time, batch, ...) or None, final state)`.
    """
    apart = rows is not None
    rows = rows or row_groups(equations, state, training)
    smooth = tree.map_structure(_is_float, projected[0] if apart else projected)
    loop = _Loop(equations, smooth, rows, apart, mask is not None, return_sequences, reverse, unroll)
    arguments = _Arguments(
        projected if apart else [projected],
        tuple(state),
        recurrent_weights,
        tuple(gate_weights),
        () if mask is None else mask,
    )
    outputs, final = backend.custom_gradient(
        lambda *arguments: loop.primal(_Arguments(*arguments)),
        lambda *arguments: loop.forward(_Arguments(*arguments)),
        loop.backward,
        tuple(arguments),
        keep_residuals=training,
    )
    return (outputs if return_sequences else None), final


def row_groups(equations: Equations, state: State, training: bool) -> RowGroups:
    """Return the groups that suit a recurrence and its initial state."""
    return RowGroups(1, ops.shape(state[0])[0]) if equations.whole_batch else RowGroups.of(state[0], training)


class _Loop(NamedTuple):
    """The recurrence's forward and backward passes under one setting of its options."""

    equations: Equations
    smooth: Any  # bool in the place of each tensor of the projections: whether it is float
    rows: RowGroups
    apart: bool  # whether each group has its own projections, and gets their gradient
    masked: bool
    return_sequences: bool
    reverse: bool
    unroll: bool

    def primal(self, arguments: _Arguments) -> tuple[Any, State]:
        """Store nothing but the outputs that were asked for: a loop under XLA keeps every buffer it is given."""
        groups = self._split(arguments)

        def step(states: list, inputs: list) -> tuple[list, list]:
            new = [self._step(group, *each)[0] for group, *each in zip(groups, states, inputs, strict=True)]
            return new, [state[0] if self.return_sequences else () for state in new]

        states, inputs = [group.state for group in groups], [(group.projected, group.mask) for group in groups]
        finals, outputs = backend.scan(
            step, states, inputs, reverse=self.reverse, unroll=self.unroll, fetch_ahead=self.activated is None
        )
        return self.rows.join(outputs, axis=1), self.rows.join(finals, axis=0)

    @property
    def activated(self) -> Activated | None:
        """The form of the gates that keeps activations, where the cell has one."""
        by_hand = self.equations.additive and self.equations.gates_gradient is not None
        return self.equations.activated if by_hand else None

    def forward(self, arguments: _Arguments) -> tuple[tuple[Any, State], list[_Residuals]]:
        """Keep what the backward pass needs; of an additive cell it is written over the projections."""
        groups, additive = self._split(arguments), self.equations.additive

        def step(states: list, at: tuple[list, list]) -> tuple[list, tuple]:
            inputs, projected = at
            if additive:
                inputs = [(p, mask) for p, (_, mask) in zip(projected, inputs, strict=True)]
            done = [self._step(*each) for each in zip(groups, states, inputs, strict=True)]
            summands, nothing = [summand for _, summand in done], [() for _ in done]
            return [new for new, _ in done], (nothing, summands) if additive else (summands, nothing)

        finals, ((recurrent, states), sums) = backend.scan_in_place(
            step,
            [group.state for group in groups],
            [(() if additive else group.projected, group.mask) for group in groups],
            [group.projected if additive else () for group in groups],
            reverse=self.reverse,
            unroll=self.unroll,
            fetch_ahead=self.activated is None,
            keep_carries=True,
        )
        residuals = [
            _Residuals(
                group._replace(projected=self._leaves(group.projected, smooth=False)),
                [kept] if additive else [*self._leaves(group.projected, smooth=True), kept],
                passed,
                final,
            )
            for group, kept, passed, final in zip(groups, sums if additive else recurrent, states, finals, strict=True)
        ]
        outputs = [self._after(passed[0]) if self.return_sequences else () for passed in states]
        return (self.rows.join(outputs, axis=1), self.rows.join(finals, axis=0)), residuals

    def _before(self, states: Tensor) -> Tensor:
        """Return the states before each step, `(time, batch, ...)`, of all that the loop passed."""
        return states[1:] if self.reverse else states[:-1]

    def _after(self, states: Tensor) -> Tensor:
        """Return the states after each step, `(time, batch, ...)`, of all that the loop passed."""
        return states[:-1] if self.reverse else states[1:]

    def _split(self, arguments: _Arguments) -> list[_Arguments]:
        """Return the arguments of each group of rows; `projected` is then one nest."""
        projected = arguments.projected
        if not self.apart:
            projected = self.rows.split(projected[0], axis=1)
        masks, states = self.rows.split(arguments.mask, axis=1), self.rows.split(arguments.state, axis=0)
        return [
            arguments._replace(projected=p, mask=mask, state=state)
            for p, mask, state in zip(projected, masks, states, strict=True)
        ]

    def _step(self, group: _Arguments, state: State, at: tuple) -> tuple[State, Tensor]:
        """Return the state after a step, of p_t and mask, and what is kept of it: see `_Step.summands`."""
        projected, mask = at
        summand = recurrent = self.equations.recur(state[0], group.recurrent_weights)
        if self.equations.additive:
            summand = projected = projected + recurrent
            recurrent = 0.0
        if self.activated is not None:
            summand = self.activated.activate(projected)
            new = self.activated.gates(summand, state)
        else:
            new = self.equations.gates(projected, recurrent, state, *group.gate_weights)
        new = as_state(new, like=state)
        if self.masked:
            new = tuple(_where(mask, after, before) for after, before in zip(new, state, strict=True))
        return new, summand

    def _leaves(self, projected: Any, *, smooth: bool) -> list:
        """Return the tensors of projections that are float, or those that are not."""
        leaves = zip(tree.flatten(projected), tree.flatten(self.smooth), strict=True)
        return [leaf for leaf, is_smooth in leaves if is_smooth == smooth]

    def _merge(self, smooth: Iterable, others: Iterable) -> Any:
        """Return the projections of which these are the `_leaves`."""
        smooth, others = iter(smooth), iter(others)
        return tree.map_structure(lambda is_smooth: next(smooth if is_smooth else others), self.smooth)

    def backward(self, residuals: list[_Residuals], cotangents: tuple) -> tuple:
        d_outputs, d_final = cotangents
        rows, groups = self.rows, [group.arguments for group in residuals]
        to_hidden = self._recur_backward(groups[0].recurrent_weights)

        def step(carry: list, at: tuple[list, list]) -> tuple[list, tuple]:
            done = [
                self._step_backward(groups[0], to_hidden, carried, _Step(others, state, d_output, mask, summands))
                for carried, (others, state, d_output, mask), summands in zip(carry, *at, strict=True)
            ]
            return [carried for carried, _ in done], ((), [d_summands for _, d_summands in done])

        carry = [
            (d_state, group.final, self._no_gate_weights(group.arguments))
            for d_state, group in zip(rows.split(tuple(d_final), axis=0), residuals, strict=True)
        ]
        inputs = [
            (group.arguments.projected, tuple(map(self._before, group.states)), d_output, group.arguments.mask)
            for group, d_output in zip(residuals, rows.split(d_outputs, axis=1), strict=True)
        ]
        carry, (_, d_summands) = backend.scan_in_place(
            step, carry, inputs, [group.summands for group in residuals], reverse=not self.reverse, unroll=self.unroll
        )
        d_projected = d_summands if self.equations.additive else [d[:-1] for d in d_summands]
        return (
            [
                self._merge(d, itertools.repeat(None))
                for d in (d_projected if self.apart else [rows.join(d_projected, axis=1)])
            ],
            rows.join([d_state for d_state, _, _ in carry], axis=0),
            _total([self._weights_backward(group, d[-1]) for group, d in zip(residuals, d_summands, strict=True)]),
            self._total_gate_weights([d for _, _, d in carry], groups[0].gate_weights),
            None if self.masked else (),
        )

    def _no_gate_weights(self, group: _Arguments) -> tuple:
        """Return the zeros to which the steps add: for each row where the gradient is written by hand."""
        by_hand = self.equations.gates_gradient is not None
        rows = ops.shape(group.state[0])[:1] if by_hand else ()
        return tuple(ops.zeros((*rows, *w.shape), dtype=_at_least_float32(w.dtype)) for w in group.gate_weights)

    def _total_gate_weights(self, groups: list[tuple], gate_weights: tuple) -> tuple:
        if self.equations.gates_gradient is not None:
            groups = [tuple(ops.sum(d, axis=0) for d in group) for group in groups]
        return tuple(ops.cast(d, w.dtype) for d, w in zip(_total(groups), gate_weights, strict=True))

    def _weights_backward(self, group: _Residuals, d_recurrent: Tensor) -> Any:
        """Return the recurrent weights' gradient, in one product over all steps."""
        hidden = _merge_steps(self._before(group.states[0]))
        _, pullback = backend.vector_jacobian_product(
            lambda weights: self.equations.recur(hidden, weights), group.arguments.recurrent_weights
        )
        (gradient,) = pullback(_merge_steps(d_recurrent))
        return gradient

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

    def _step_backward(self, arguments: _Arguments, to_hidden: Callable, carry: tuple, at: _Step) -> tuple:
        """Return `((d_state, state, d_gate_weights), d_summands)` of one step; the carry has the state after it."""
        d_state, new_state, d_gate_weights = carry
        if self.return_sequences:
            d_state = (d_state[0] + at.d_output, *d_state[1:])
        d_new = d_state
        if self.masked:
            d_new = tuple(_where(at.mask, d, ops.zeros_like(d)) for d in d_state)
        d_summands, d_direct, d_weights = self._gates_backward(at, new_state, d_new, arguments.gate_weights)
        paths = [[d] for d in d_direct]
        paths[0].append(to_hidden(at, d_summands[-1]))
        if self.masked:  # a held state hands its gradient straight back
            paths = [[*path, _where(at.mask, ops.zeros_like(d), d)] for path, d in zip(paths, d_state, strict=True)]
        d_before = tuple(_sum(path, like=d) for path, d in zip(paths, d_state, strict=True))
        d_gate_weights = tuple(t + ops.cast(d, t.dtype) for t, d in zip(d_gate_weights, d_weights, strict=True))
        return (d_before, at.state, d_gate_weights), d_summands

    def _gates_backward(self, at: _Step, new_state: State, d_new: State, gate_weights: tuple) -> tuple:
        """Return `(d_summands, d_state, d_gate_weights)` of `gates`, by hand or automatically."""
        gates, gates_gradient, additive = self.equations.gates, self.equations.gates_gradient, self.equations.additive

        def parts(summands: list) -> tuple[Any, Any]:
            return (summands[0], 0.0) if additive else (self._merge(summands[:-1], at.others), summands[-1])

        if self.activated is not None:
            d_sums, d_state = self.activated.gates_gradient(at.summands[0], at.state, new_state, d_new)
            return [d_sums], d_state, ()
        if gates_gradient is not None:
            d_projected, d_recurrent, *rest = gates_gradient(
                *parts(at.summands), at.state, new_state, d_new, *gate_weights
            )
            d_summands = [d_recurrent] if additive else [*self._leaves(d_projected, smooth=True), d_recurrent]
            return d_summands, *rest

        _, pullback = backend.vector_jacobian_product(
            lambda summands, state, *weights: tuple(gates(*parts(summands), state, *weights)),
            at.summands,
            tuple(at.state),
            *gate_weights,
        )
        d_summands, d_state, *d_weights = pullback(d_new)
        return d_summands, d_state, tuple(d_weights)


def _is_float(tensor: Any) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def _at_least_float32(dtype: Any) -> str:
    return keras.backend.result_type(dtype, "float32")


def _where(mask: Tensor, real: Tensor, padding: Tensor) -> Tensor:
    """Choose by row: `mask` bool `(batch,)`, the others `(batch, ...)`."""
    return ops.where(align_mask(mask, real), real, padding)


def _merge_steps(values: Tensor) -> Tensor:
    """`(time, batch, ...)` to `(time * batch, ...)`."""
    time, batch, *rest = ops.shape(values)
    return ops.reshape(values, (time * batch, *rest))


def _total(gradients: list) -> Any:
    """Add nests of gradients of the same weights."""
    return tree.map_structure(lambda *parts: sum(parts[1:], parts[0]), *gradients)


def _sum(terms: list, like: Tensor) -> Tensor:
    """Add the terms that are not None."""
    given = [term for term in terms if term is not None]
    return sum(given[1:], given[0]) if given else ops.zeros_like(like)
