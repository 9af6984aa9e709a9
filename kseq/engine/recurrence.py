"""The time loop with a hand-written backward pass: backpropagation through time for any cell.

Notation: at step t a cell turns its projected input p_t and the recurrent map r_t = recur(h_{t-1}) of the previous
hidden state into the new state s_t = gates(p_t, r_t, s_{t-1}), whose first element is the output h_t.

Forward, the projections of all steps are computed before the loop, in one product. Backward, the loop differentiates
`gates` step by step, from the stored states and r_t (for additive cells p_t + r_t). The gradient of the recurrent
weights is *one* product over all steps after the loop (P. Werbos, "Backpropagation through time: what it does and how
to do it", 1990).

All tensors are time-major: `(time, rows, ...)`. A step computes the groups of rows one after the other.
"""

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.compiled_parts import Differentiable
from kseq.engine.equations import Activated, Equations, State, Weights, as_state
from kseq.masking import align_mask

Length = Any  # of the loop: int32 scalar, the number of steps to take; () for all


class Rows(NamedTuple):
    """The tensors of a group of rows.

    Attributes:
        projected: A tensor or nest of tensors `(time, rows, ...)`.
        state: The initial state, `(rows, ...)` each.
        mask: Bool `(time, rows)`; () if every step is real.
    """

    projected: Any
    state: State
    mask: Any


class _Stored(NamedTuple):
    """The tensors of a group of rows that the backward pass needs.

    Attributes:
        others: The tensors of the projections that are not float.
        mask: As in `Rows`.
        summands: The summands of `_Step` for all steps, `(time, rows, ...)` each. The backward pass writes
            their gradients into these tensors.
        states: The initial state followed by the states after each step, `(time + 1, rows, ...)` each.
        final: The state after the last step.
    """

    others: list
    mask: Any
    summands: list
    states: State
    final: State


class _Step(NamedTuple):
    """The tensors of one step of a group of rows that the backward pass needs.

    Attributes:
        others: The tensors of p_t that are not float.
        state: s_{t-1}, the state before the step.
        d_output: The gradient of the step's output, `(rows, ...)`; () if outputs are not returned.
        mask: Bool `(rows,)`; () if every step is real.
        summands: The float tensors of p_t, followed by r_t, `(rows, ...)` each. For an additive cell, p_t + r_t alone
            or its activations.
    """

    others: list
    state: State
    d_output: Any
    mask: Any
    summands: list


class Recurrence:
    """The time loop of a cell: its forward pass, with and without what a gradient needs, and its backward pass.

    At a step whose mask is False the state is held, so that the final state is that of the last real step.

    Args:
        equations: The cell's functions. `project` and `weights` are not called.
        like: A group of rows, whose structure and dtypes are those of all groups.
        return_sequences: Whether to return the outputs of all steps.
        unroll: Unroll the loop (needs a static number of steps).
    """

    def __init__(self, equations: Equations, like: Rows, *, return_sequences: bool = True, unroll: bool = False):
        self.equations, self.return_sequences, self.unroll = equations, return_sequences, unroll
        self.smooth = tree.map_structure(_is_float, like.projected)  # of each tensor of the projections
        self.masked = not isinstance(like.mask, tuple)

    @property
    def functions(self) -> Differentiable:
        """The loop with its gradient, in the form of `backend.custom_gradient`."""
        return Differentiable(self.primal, self.forward, self.backward)

    @property
    def activated(self) -> Activated | None:
        """The gates in two parts, if the cell has this form with a hand-written gradient; None otherwise."""
        by_hand = self.equations.additive and self.equations.gates_gradient is not None
        return self.equations.activated if by_hand else None

    def primal(self, groups: list[Rows], weights: Weights, length: Length) -> list[tuple[Any, State]]:
        """Return the outputs (or ()) and the final state of each group.

        The loop gets no other buffers: XLA would allocate them even if nothing used them.
        """
        states = [group.state for group in groups]

        def outputs(states: list, summands: list) -> tuple[list, list]:
            return [state[0] if self.return_sequences else () for state in states], [() for _ in states]

        finals, (stacked, _) = backend.scan_in_place(
            functools.partial(self._step, weights, outputs),
            states,
            [(group.projected, group.mask) for group in groups],
            [() for _ in groups],
            unroll=self.unroll,
            fetch_ahead=self.activated is None,
            like=lambda: outputs(states, [])[0],
            length=_or_none(length),
        )
        return list(zip(stacked, finals, strict=True))

    def forward(self, groups: list[Rows], weights: Weights, length: Length) -> tuple[list[tuple[Any, State]], tuple]:
        """Return what `primal` returns, and the residuals. For an additive cell they overwrite the projections."""
        additive, nothing = self.equations.additive, [() for _ in groups]

        def summands_of_step(states: list, summands: list) -> tuple[list, list]:
            return (nothing, summands) if additive else (summands, nothing)

        def recurrent() -> list:
            return [self.equations.recur(group.state[0], weights.recurrent) for group in groups]

        finals, ((recurrents, states), sums) = backend.scan_in_place(
            functools.partial(self._step, weights, summands_of_step),
            [group.state for group in groups],
            [(() if additive else group.projected, group.mask) for group in groups],
            [group.projected if additive else () for group in groups],
            unroll=self.unroll,
            fetch_ahead=self.activated is None,
            keep_carries=True,
            like=(lambda: nothing) if additive else recurrent,
            length=_or_none(length),
        )
        stored = [
            _Stored(
                self._leaves(group.projected, smooth=False),
                group.mask,
                [last] if additive else [*self._leaves(group.projected, smooth=True), last],
                passed,
                final,
            )
            for group, last, passed, final in zip(groups, sums if additive else recurrents, states, finals, strict=True)
        ]
        outputs = [passed[0][1:] if self.return_sequences else () for passed in states]
        return list(zip(outputs, finals, strict=True)), (stored, weights, length)

    def _step(self, weights: Weights, results: Callable[[list, list], tuple], states: list, at: tuple) -> tuple:
        """Compute one step of all groups.

        Args:
            weights: The cell's weights, as tensors.
            results: `(new states, summands) -> (outputs, buffers)`, what the loop stores of the step. The summands are
                the last of `_Step.summands`, one for each group.
            states: The state of each group.
            at: `([(p_t, mask), ...], [buffer, ...])`. Of an additive cell p_t is
                in the buffer; of others the buffer is ().

        Returns:
            `(new states, results)`.
        """
        equations, after, summands = self.equations, [], []
        for state, (projected, mask), buffer in zip(states, *at, strict=True):
            projected = projected if isinstance(buffer, tuple) and not buffer else buffer
            summand = recurrent = equations.recur(state[0], weights.recurrent)
            if equations.additive:
                summand = projected = projected + recurrent
                recurrent = 0.0
            if self.activated is not None:
                summand = self.activated.activate(projected)
                new = self.activated.gates(summand, state)
            else:
                new = equations.gates(projected, recurrent, state, *weights.gates)
            new = as_state(new, like=state)
            if self.masked:
                new = tuple(_where(mask, a, b) for a, b in zip(new, state, strict=True))
            after.append(new)
            summands.append(summand)
        return after, results(after, summands)

    def _leaves(self, projected: Any, *, smooth: bool) -> list:
        """Return the float tensors of `projected` if `smooth`, the others if not."""
        leaves = zip(tree.flatten(projected), tree.flatten(self.smooth), strict=True)
        return [leaf for leaf, is_smooth in leaves if is_smooth == smooth]

    def _merge(self, smooth: Iterable, others: Iterable) -> Any:
        """Undo `_leaves`: return the projections of these float tensors and `others`."""
        smooth, others = iter(smooth), iter(others)
        return tree.map_structure(lambda is_smooth: next(smooth if is_smooth else others), self.smooth)

    def backward(self, residuals: tuple, cotangents: list[tuple]) -> tuple[list[Rows], Weights, Any]:
        """Return the gradients of the groups and of the weights."""
        groups: list[_Stored] = residuals[0]
        weights: Weights = residuals[1]
        length = residuals[2]
        # The masked step of such a cell has more operations: copies of its inputs cost more than they save.
        ahead = "buffers" if self.masked and self.activated is not None else True
        to_hidden = self._recur_backward(weights.recurrent)

        def step(carry: list, at: tuple[list, list]) -> tuple[list, tuple]:
            done = [
                self._step_backward(weights.gates, to_hidden, carried, _Step(others, state, d_output, mask, summands))
                for carried, (others, state, d_output, mask), summands in zip(carry, *at, strict=True)
            ]
            return [carried for carried, _ in done], ((), [d_summands for _, d_summands in done])

        carry, (_, d_summands) = backend.scan_in_place(
            step,
            [
                (tuple(d_final), group.final, self._no_gate_weights(weights.gates, group.final))
                for (_, d_final), group in zip(cotangents, groups, strict=True)
            ],
            [
                (group.others, _before(group.states), d_outputs, group.mask)
                for (d_outputs, _), group in zip(cotangents, groups, strict=True)
            ],
            [group.summands for group in groups],
            reverse=True,
            unroll=self.unroll,
            fetch_ahead=ahead,
            like=lambda: (),
            length=_or_none(length),
        )
        additive = self.equations.additive
        d_groups = [
            Rows(self._merge(d if additive else d[:-1], itertools.repeat(None)), d_state, None if self.masked else ())
            for d, (d_state, _, _) in zip(d_summands, carry, strict=True)
        ]
        d_recurrent = [
            self._weights_backward(weights.recurrent, group, d[-1]) for group, d in zip(groups, d_summands, strict=True)
        ]
        d_gates = self._total_gate_weights([d for _, _, d in carry], weights.gates)
        return d_groups, Weights(_total(d_recurrent), d_gates), () if isinstance(length, tuple) else None

    def _no_gate_weights(self, gate_weights: tuple, state: State) -> tuple:
        """Return the zeros to which the steps add; with a hand-written gradient one for each row, summed at the end."""
        by_hand = self.equations.gates_gradient is not None
        rows = ops.shape(state[0])[:1] if by_hand else ()
        return tuple(ops.zeros((*rows, *w.shape), dtype=_at_least_float32(w.dtype)) for w in gate_weights)

    def _total_gate_weights(self, groups: list[tuple], gate_weights: tuple) -> tuple:
        if self.equations.gates_gradient is not None:
            groups = [tuple(ops.sum(d, axis=0) for d in group) for group in groups]
        return tuple(ops.cast(d, w.dtype) for d, w in zip(_total(groups), gate_weights, strict=True))

    def _weights_backward(self, recurrent_weights: Any, group: _Stored, d_recurrent: Tensor) -> Any:
        """Return the gradient of the recurrent weights, as one product over all steps."""
        hidden = _merge_steps(group.states[0][:-1])
        _, pullback = backend.vector_jacobian_product(
            lambda weights: self.equations.recur(hidden, weights), recurrent_weights
        )
        (gradient,) = pullback(_merge_steps(d_recurrent))
        return gradient

    def _recur_backward(self, recurrent_weights: Any) -> Callable[[_Step, Tensor], Tensor]:
        """Return the function `(step, d_recurrent) -> d_hidden`, hand-written or automatic."""
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

    def _step_backward(self, gate_weights: tuple, to_hidden: Callable, carry: tuple, at: _Step) -> tuple:
        """Compute the gradient of one step.

        Args:
            gate_weights: Tensors.
            to_hidden: See `_recur_backward`.
            carry: `(d_state, state, d_gate_weights)` after the step: the gradient of the state, the state, and the
                gradient of the gate weights so far.
            at: The step.

        Returns:
            `(carry before the step, d_summands)`.
        """
        d_state, new_state, d_gate_weights = carry
        if self.return_sequences:
            d_state = (d_state[0] + at.d_output, *d_state[1:])
        d_new = d_state
        if self.masked:
            d_new = tuple(_where(at.mask, d, ops.zeros_like(d)) for d in d_state)
        d_summands, d_direct, d_weights = self._gates_backward(at, new_state, d_new, gate_weights)
        paths = [[d] for d in d_direct]
        paths[0].append(to_hidden(at, d_summands[-1]))
        if self.masked:  # a held state passes its gradient straight back
            paths = [[*path, _where(at.mask, ops.zeros_like(d), d)] for path, d in zip(paths, d_state, strict=True)]
        d_before = tuple(_sum(path, like=d) for path, d in zip(paths, d_state, strict=True))
        d_gate_weights = tuple(t + ops.cast(d, t.dtype) for t, d in zip(d_gate_weights, d_weights, strict=True))
        return (d_before, at.state, d_gate_weights), d_summands

    def _gates_backward(self, at: _Step, new_state: State, d_new: State, gate_weights: tuple) -> tuple:
        """Return `(d_summands, d_state, d_gate_weights)` of `gates`, hand-written or automatic."""
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


def _or_none(length: Any) -> Tensor | None:
    return None if isinstance(length, tuple) else length


def _before(states: State) -> State:
    """Return the states before each step, `(time, rows, ...)`, from the initial state and those after each step."""
    return tuple(each[:-1] for each in states)


def _is_float(tensor: Any) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def _at_least_float32(dtype: Any) -> str:
    return keras.backend.result_type(dtype, "float32")


def _where(mask: Tensor, real: Tensor, padding: Tensor) -> Tensor:
    """Return `real` in rows where `mask`, bool `(rows,)`, is True, else `padding`, both `(rows, ...)`."""
    return ops.where(align_mask(mask, real), real, padding)


def _merge_steps(values: Tensor) -> Tensor:
    """Return `(time, rows, ...)` as `(time * rows, ...)`."""
    time, rows, *rest = ops.shape(values)
    return ops.reshape(values, (time * rows, *rest))


def _total(gradients: list) -> Any:
    """Return the sum of gradients of the same nest of weights."""
    return tree.map_structure(lambda *parts: sum(parts[1:], parts[0]), *gradients)


def _sum(terms: list, like: Tensor) -> Tensor:
    """Return the sum of the terms that are not None, or zeros."""
    given = [term for term in terms if term is not None]
    return sum(given[1:], given[0]) if given else ops.zeros_like(like)
