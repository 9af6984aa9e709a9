"""Linear recurrences whose decays and increments a cell's gates compute from its inputs alone.

`kseq.engine.linear_recurrence` describes how time is divided into chunks. Here the loop over the steps of a chunk also
computes the gates, forward and backward. Intermediate values are then used while they are in the processor's cache, and
few of them are written to memory. States overwrite the increments, and gradients overwrite their variables.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.engine.linear_recurrence import advance, depart, first, hold, pad, precise, retreat, solve, states_before

COPIES = 8  # rows of ones in `_sum_rows`; with one row the product would be no product of matrices
FEWEST_STEPS, MOST_STEPS = 10, 16  # steps of a chunk; any number from 5 to 50 takes about the same time


class GatedEquations(NamedTuple):
    """The pure functions of a cell that the recurrence uses.

    Attributes:
        project: `(inputs (steps, rows, features), weights) -> projected`: the products of all steps, a nest of tensors
            `(steps, rows, units)`, stored for the gradient.
        coefficients: `(projected, *gate_weights) -> (decay, increment)` of one step, each `(rows, units)`: the
            element-wise part, computed again for the gradient. `projected` is float32 or float64, and a gate weight is
            `(units,)` or `(rows, units)`.
    """

    project: Callable[[Tensor, Any], Any]
    coefficients: Callable[..., tuple[Tensor, Tensor]]

    def precise_coefficients(self, projected: Any, gate_weights: tuple) -> tuple[Tensor, Tensor]:
        """Return the coefficients in float32 or float64, for projections and weights of any precision."""
        projected, gate_weights = tree.map_structure(precise, (projected, tuple(gate_weights)))
        return self.coefficients(projected, *gate_weights)


class _Arguments(NamedTuple):
    """All tensors of the recurrence, which the custom gradient differentiates.

    The axis `steps` runs over the steps of a chunk, the axis `rows` over all chunks of all rows of the batch.
    """

    projected: Any  # (steps, rows, units) each
    initial: Tensor  # (batch, units)
    gate_weights: tuple
    mask: Any  # bool (steps, rows), or () if every step is real


class _Residuals(NamedTuple):
    arguments: _Arguments
    decay: Tensor  # (steps, rows, units)
    states: Tensor  # (steps, rows, units)
    products: Tensor  # the product of each chunk's decays, (rows, units)
    starts: Tensor  # the state before each chunk, (rows, units)


def gated_linear_recurrence(
    equations: GatedEquations,
    inputs: Tensor,
    initial: Tensor,
    weights: Any,
    gate_weights: tuple = (),
    mask: Tensor | None = None,
    *,
    training: bool = False,
) -> Tensor:
    """Return all states of the linear recurrence whose coefficients a cell computes from its inputs.

    Args:
        equations: The cell's functions.
        inputs: Float `(time, batch, features)`, finite in the padding.
        initial: Float `(batch, units)`.
        weights: The last argument of `equations.project`, a nest of tensors.
        gate_weights: The last arguments of `equations.coefficients`, tensors `(units,)`. The backward pass calls it
            with one copy for each row, `(rows, units)`.
        mask: Bool `(time, batch)`, True at real steps; at others the state is held. None if all steps are real.
        training: Whether a gradient is likely to be asked for, so that projections and decays are stored. Gradients are
            correct either way.

    Returns:
        The states `(time, batch, units)`, in float32 or float64.
    """
    chunks = _Chunks.of(inputs)
    run = _Run(equations, chunks)
    projected = equations.project(chunks.split(inputs), weights)
    states = backend.custom_gradient(
        lambda *arguments: run.primal(_Arguments(*arguments)),
        lambda *arguments: run.forward(_Arguments(*arguments)),
        run.backward,
        (projected, precise(initial), gate_weights, () if mask is None else chunks.split(mask)),
        keep_residuals=training,
    )
    return chunks.join(states)


class _Chunks(NamedTuple):
    """The division of time into chunks. The last chunk is padded with zeros.

    The padding changes no result: no real step comes after it, and the gradient that reaches it is zero.
    """

    time: int | Tensor
    batch: int | Tensor
    steps: int | Tensor  # in a chunk
    count: int | Tensor  # number of chunks

    @classmethod
    def of(cls, inputs: Tensor) -> "_Chunks":
        """Choose the length of the chunks for inputs `(time, batch, ...)` so that there is little padding."""
        time, batch, *_ = ops.shape(inputs)
        if not isinstance(time, int):
            steps = ops.maximum(1, ops.minimum(time, FEWEST_STEPS))
        elif time <= MOST_STEPS:
            steps = max(1, time)
        else:
            steps = min(range(FEWEST_STEPS, MOST_STEPS + 1), key=lambda steps: -time % steps)
        return cls(time, batch, steps, -(-time // steps))

    @property
    def rows(self) -> int | Tensor:
        """The number of chunks in the whole batch."""
        return self.count * self.batch

    def split(self, values: Tensor) -> Tensor:
        """Return `(time, batch, ...)` as `(steps, rows, ...)`."""
        values = pad(values, self.steps * self.count - self.time)
        rest = ops.shape(values)[2:]
        values = _swap(ops.reshape(values, (self.count, self.steps, self.batch, *rest)))
        return ops.reshape(values, (self.steps, self.rows, *rest))

    def join(self, values: Tensor) -> Tensor:
        """Return `(steps, rows, ...)` as `(time, batch, ...)`."""
        rest = ops.shape(values)[2:]
        values = _swap(ops.reshape(values, (self.steps, self.count, self.batch, *rest)))
        return first(ops.reshape(values, (self.steps * self.count, self.batch, *rest)), self.time)

    def starts(self, maps: tuple[Tensor, Tensor], initial: Tensor, *, reverse: bool = False) -> tuple[Tensor, Tensor]:
        """Return the last state `(batch, units)` and those before each chunk `(rows, units)`, from the chunks' maps."""
        units = initial.shape[-1]
        product, carried = (ops.reshape(x, (self.count, self.batch, units)) for x in maps)
        last, starts = solve(depart, product, carried, initial, reverse=reverse)
        return last, ops.reshape(starts, (self.rows, units))


class _Run(NamedTuple):
    """The forward and backward passes."""

    equations: GatedEquations
    chunks: _Chunks

    def primal(self, arguments: _Arguments) -> Tensor:
        return self.forward(arguments)[0]

    def forward(self, arguments: _Arguments) -> tuple[Tensor, _Residuals]:
        shape, dtype = (self.chunks.rows, arguments.initial.shape[-1]), arguments.initial.dtype

        def summarise(total: tuple, at: tuple) -> tuple[tuple, tuple]:
            (product, carried), (projected, mask) = total, at
            decay, increment = self._coefficients(projected, mask, arguments.gate_weights)
            return (product * decay, advance(carried, decay, increment)[0]), (decay, increment)

        maps, (decay, increments) = _scan(
            summarise, (ops.ones(shape, dtype), ops.zeros(shape, dtype)), (arguments.projected, arguments.mask)
        )
        _, starts = self.chunks.starts(maps, arguments.initial)

        def take(state: Tensor, at: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[tuple, Tensor]]:
            state, new = advance(state, *at)
            return state, ((), new)

        _, (_, states) = backend.scan_in_place(take, starts, decay, increments)
        return states, _Residuals(arguments, decay, states, maps[0], starts)

    def _coefficients(self, projected: Any, mask: Any, gate_weights: tuple) -> tuple[Tensor, Tensor]:
        decay, increment = self.equations.precise_coefficients(projected, gate_weights)
        return (decay, increment) if isinstance(mask, tuple) else hold(decay, increment, mask)

    def backward(self, residuals: _Residuals, d_states: Tensor) -> tuple:
        arguments, decay, states, products, starts = residuals
        summary, _ = _scan(
            lambda adjoint, at: (retreat(adjoint, *at)[0], ()), ops.zeros_like(starts), (decay, d_states), reverse=True
        )
        d_initial, ends = self.chunks.starts((products, summary), ops.zeros_like(arguments.initial), reverse=True)

        def step(carry: tuple, at: tuple) -> tuple[tuple, tuple]:
            (adjoint, totals), ((mask, decay, d_state, before), projected) = carry, at
            adjoint, d_increment = retreat(adjoint, decay, d_state)
            d_projected, d_gate_weights = self._coefficients_backward(
                projected, mask, arguments.gate_weights, (d_increment * before, d_increment)
            )
            return (adjoint, tree.map_structure(_add, totals, d_gate_weights)), ((), d_projected)

        (_, totals), (_, d_projected) = backend.scan_in_place(
            step,
            (ends, tuple(ops.zeros_like(precise(w)) for w in arguments.gate_weights)),
            (arguments.mask, decay, d_states, states_before(states, starts)),
            arguments.projected,
            reverse=True,
        )
        d_gate_weights = tuple(ops.cast(d, w.dtype) for d, w in zip(totals, arguments.gate_weights, strict=True))
        return d_projected, d_initial, d_gate_weights, () if isinstance(arguments.mask, tuple) else None

    def _coefficients_backward(self, projected: Any, mask: Any, gate_weights: tuple, cotangents: tuple) -> tuple:
        """Return `(d_projected, d_gate_weights)`."""
        rows = ops.shape(tree.flatten(projected)[0])[0]
        _, pullback = backend.vector_jacobian_product(
            lambda projected, *of_rows: self._coefficients(projected, mask, of_rows),
            projected,
            *(ops.broadcast_to(w, (rows, *w.shape)) for w in gate_weights),
        )
        d_projected, *d_of_rows = pullback(cotangents)
        return d_projected, tuple(_sum_rows(d) for d in d_of_rows)


def _scan(step: Callable, carry: Any, inputs: Any, *, reverse: bool = False) -> tuple[Any, Any]:
    """Scan without `fetch_ahead`: for few steps over large tensors its copies cost more than they save."""
    return backend.scan(step, carry, inputs, reverse=reverse, fetch_ahead=False)


def _swap(values: Tensor) -> Tensor:
    return ops.transpose(values, (1, 0, *range(2, len(values.shape))))


def _sum_rows(values: Tensor) -> Tensor:
    """Return the sum of `(rows, units)` over the rows, as a product: on a CPU, XLA's sum adds one number at a time."""
    return ops.matmul(ops.ones((COPIES, ops.shape(values)[0]), dtype=values.dtype), values)[0]


def _add(total: Tensor, gradient: Tensor) -> Tensor:
    return total + ops.cast(gradient, total.dtype)
