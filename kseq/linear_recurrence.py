"""Recurrences that are linear in the state, `h_t = a_t * h_{t-1} + b_t` element by element, in few turns.

A step is the map (a, b) of the state. The map (a, b) and after it (a', b') are one map, (a' a, a' b + b'), so time can
be cut into chunks (G. Blelloch, "Prefix sums and their applications", 1990):

1. all chunks at once, step by step: the map of each chunk as a whole;
2. chunk after chunk, with these maps: the state at each chunk's start;
3. all chunks at once, step by step, from there: the states.

The gradient is such a recurrence too, from the last step to the first: with g_t the gradient that comes into h_t from
outside, `d_t = g_t + a_{t+1} * d_{t+1}` is that of b_t, and `d_t * h_{t-1}` that of a_t. Nothing is divided by a decay
and no logarithms are added up: decays of exactly zero and one are as good as any. All is done in float32 at least.

Everything here is time-major: `(time, batch, ...)`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.masking import align_mask

FEWEST_STEPS, MOST_STEPS = 10, 16  # of a chunk; the time taken differs little from 5 steps to 50
RADIX = 8  # steps of a chunk that are written out; more is slower in XLA, which computes them again for each other
LEVELS = 2  # chunks of chunks; what is left, time / RADIX ** LEVELS, is a loop

Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # (state, decay, value) -> (new state, output)


def linear_recurrence(
    decay: Tensor, increments: Tensor, initial: Tensor, mask: Tensor | None = None, *, reverse: bool = False
) -> Tensor:
    """Return all states of `h_t = decay_t * h_{t-1} + increments_t`.

    Args:
        decay: a, float `(time, batch, units)`; between -1 and 1, if states are to stay bounded.
        increments: b, float `(time, batch, units)`.
        initial: The state before the first step, `(batch, units)`.
        mask: Bool `(time, batch)`, True at real steps; at others the state is held. None when all are.
        reverse: Go from the last step to the first. States keep the place of their increments.

    Returns:
        h, `(time, batch, units)`, in the precision of `increments`.

    Example:
        >>> linear_recurrence(np.full((4, 1, 1), 0.5), np.ones((4, 1, 1)), np.zeros((1, 1)))[:, 0, 0]
        [1.0, 1.5, 1.75, 1.875]
    """
    dtype = keras.backend.standardize_dtype(ops.convert_to_tensor(increments).dtype)
    decay, increments, initial = (_precise(ops.convert_to_tensor(x)) for x in (decay, increments, initial))
    if mask is not None:
        decay, increments = _held(decay, increments, mask)
    if reverse:
        decay, increments = ops.flip(decay, axis=0), ops.flip(increments, axis=0)
    states = backend.custom_gradient(
        lambda *arguments: _solve(_advance, *arguments)[1], _forward, _backward, (decay, increments, initial),
        keep_residuals=True,
    )  # fmt: skip
    return ops.cast(ops.flip(states, axis=0) if reverse else states, dtype)


def _forward(decay: Tensor, increments: Tensor, initial: Tensor) -> tuple[Tensor, tuple]:
    _, states = _solve(_advance, decay, increments, initial)
    return states, (decay, states, initial)


def _backward(residuals: tuple, d_states: Tensor) -> tuple:
    decay, states, initial = residuals
    d_initial, d_increments = _solve(_retreat, decay, d_states, ops.zeros_like(initial), reverse=True)
    return d_increments * _before(states, initial), d_increments, d_initial


def _advance(state: Tensor, decay: Tensor, increment: Tensor) -> tuple[Tensor, Tensor]:
    """Give the state after the step."""
    new = decay * state + increment
    return new, new


def _depart(state: Tensor, decay: Tensor, increment: Tensor) -> tuple[Tensor, Tensor]:
    """Give the state before the step."""
    return decay * state + increment, state


def _retreat(adjoint: Tensor, decay: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Take the gradient from after a step to before it; give that of the step's increment."""
    d_increment = adjoint + gradient
    return decay * d_increment, d_increment


def _solve(
    step: Step, decay: Tensor, values: Tensor, state: Tensor, *, reverse: bool = False, levels: int = LEVELS
) -> tuple[Tensor, Tensor]:
    """Return the last state and the outputs `(time, ...)` of a step that is linear in the state."""
    time, *rest = ops.shape(values)
    short = isinstance(time, int) and time <= RADIX
    if short or levels == 0:
        return backend.scan(lambda s, at: step(s, *at), state, (decay, values), reverse=reverse, unroll=short)
    chunks = -(-time // RADIX)
    steps = list(zip(*(_steps(x, chunks, fill) for x, fill in ((decay, 1.0), (values, 0.0))), strict=True))
    order = range(RADIX)[::-1] if reverse else range(RADIX)
    product, carried = ops.ones_like(steps[0][0]), ops.zeros_like(steps[0][1])
    for place in order:
        product, (carried, _) = product * steps[place][0], step(carried, *steps[place])
    last, state = _solve(_depart, product, carried, state, reverse=reverse, levels=levels - 1)
    outputs = [state] * RADIX
    for place in order:
        state, outputs[place] = step(state, *steps[place])
    joined = ops.reshape(ops.stack(outputs, axis=1), (chunks * RADIX, *rest))
    return last, _first(joined, time)


def _steps(values: Tensor, chunks: int | Tensor, fill: float) -> list[Tensor]:
    """Return `(time, ...)` as RADIX tensors `(chunks, ...)`: the first step of all chunks, the second and so on."""
    time, *rest = ops.shape(values)
    return ops.unstack(ops.reshape(_pad(values, chunks * RADIX - time, fill), (chunks, RADIX, *rest)), RADIX, axis=1)


class GatedEquations(NamedTuple):
    """What the recurrence needs to know of a cell whose decays and increments depend on its inputs alone.

    Attributes:
        project: `(inputs (rows, features), weights) -> projected`, a nest of tensors `(rows, units)`: what is costly,
            and kept for the gradient.
        coefficients: `(projected, *gate_weights) -> (decay, increment)`, `(rows, units)` both: what is element-wise,
            and computed again for the gradient. It gets `projected` in float32, or float64.
    """

    project: Callable[[Tensor, Any], Any]
    coefficients: Callable[..., tuple[Tensor, Tensor]]

    def precise_coefficients(self, projected: Any, gate_weights: tuple) -> tuple[Tensor, Tensor]:
        """Return the coefficients in float32 or float64, of projections and weights in any precision."""
        projected, gate_weights = tree.map_structure(_precise, (projected, tuple(gate_weights)))
        return self.coefficients(projected, *gate_weights)


class _Arguments(NamedTuple):
    """Every tensor of the recurrence; what the custom gradient differentiates. Steps come first, then rows."""

    inputs: Tensor  # (steps of a chunk, chunks * batch, features)
    initial: Tensor  # (batch, units)
    weights: Any
    gate_weights: tuple
    mask: Any  # bool (steps of a chunk, chunks * batch), or () where every step is real


class _Residuals(NamedTuple):
    arguments: _Arguments
    projected: Any
    decay: Tensor
    states: Tensor
    products: Tensor  # of each chunk's decays, (chunks * batch, units)
    starts: Tensor  # the state at each chunk's start, (chunks * batch, units)


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
    """Return all states of the linear recurrence whose coefficients a cell makes of its inputs.

    It is `linear_recurrence` with the cell's part taken into the loop over the steps of a chunk, about the square root
    of all steps in number: what a turn makes of its inputs is still in the processor's cache when it is used.

    Args:
        equations: The cell's functions.
        inputs: `(time, batch, features)`, finite in the padding.
        initial: `(batch, units)`.
        weights: What `equations.project` takes, a nest of tensors.
        gate_weights: Further tensors that `equations.coefficients` takes.
        mask: Bool `(time, batch)`, True at real steps; None when all are.
        training: Whether a gradient is likely to follow. Gradients are right either way.

    Returns:
        `(time, batch, units)`, in float32 or float64.
    """
    time, batch, _ = ops.shape(inputs)
    steps = _steps_of_a_chunk(time)
    chunks = _Chunks(time, batch, steps, -(-time // steps))
    arguments = _Arguments(
        chunks.split(inputs), _precise(initial), weights, gate_weights, () if mask is None else chunks.split(mask)
    )
    run = _Run(equations, chunks)
    states = backend.custom_gradient(
        lambda *arguments: run.states(_Arguments(*arguments), lambda _: ())[0],
        lambda *arguments: run.forward(_Arguments(*arguments)),
        run.backward,
        tuple(arguments),
        keep_residuals=training,
    )
    return chunks.join(states)


class _Chunks(NamedTuple):
    """How time is cut: chunks go into the rows, next to the batch. The last chunk is padded with zeros.

    That changes nothing: no real step comes after them, and the gradient that comes in from them is zero.
    """

    time: int | Tensor
    batch: int | Tensor
    steps: int | Tensor  # of a chunk
    count: int | Tensor  # of chunks

    def split(self, values: Tensor) -> Tensor:
        """`(time, batch, ...)` to `(steps, count * batch, ...)`."""
        values = _pad(values, self.steps * self.count - self.time)
        rest = ops.shape(values)[2:]
        values = _swap(ops.reshape(values, (self.count, self.steps, self.batch, *rest)))
        return ops.reshape(values, (self.steps, self.count * self.batch, *rest))

    def join(self, values: Tensor) -> Tensor:
        """`(steps, count * batch, ...)` to `(time, batch, ...)`."""
        rest = ops.shape(values)[2:]
        values = _swap(ops.reshape(values, (self.steps, self.count, self.batch, *rest)))
        return _first(ops.reshape(values, (self.steps * self.count, self.batch, *rest)), self.time)

    def starts(self, maps: tuple[Tensor, Tensor], initial: Tensor, *, reverse: bool = False) -> tuple[Tensor, Tensor]:
        """Return the last state `(batch, units)`, and that before each chunk `(count * batch, units)`."""
        shape = (self.count, self.batch, initial.shape[-1])
        product, carried = (ops.reshape(x, shape) for x in maps)
        last, starts = _solve(_depart, product, carried, initial, reverse=reverse)
        return last, ops.reshape(starts, (self.count * self.batch, initial.shape[-1]))


class _Run(NamedTuple):
    """The forward and backward passes of `gated_linear_recurrence`."""

    equations: GatedEquations
    chunks: _Chunks

    def coefficients(self, projected: Any, mask: Any, gate_weights: tuple) -> tuple[Tensor, Tensor]:
        decay, increment = self.equations.precise_coefficients(projected, gate_weights)
        return (decay, increment) if isinstance(mask, tuple) else _held(decay, increment, mask)

    def states(self, arguments: _Arguments, keep: Callable[[Any], Any]) -> tuple[Tensor, tuple]:
        """Return the states, and `(what is kept of the projections, decays, chunks' products, chunks' starts)`."""

        shape, dtype = (self.chunks.count * self.chunks.batch, arguments.initial.shape[-1]), arguments.initial.dtype

        def summarise(total: tuple, at: tuple) -> tuple[tuple, tuple]:
            inputs, mask = at
            projected = self.equations.project(inputs, arguments.weights)
            decay, increment = self.coefficients(projected, mask, arguments.gate_weights)
            return (total[0] * decay, _advance(total[1], decay, increment)[0]), (keep(projected), decay, increment)

        maps, (projected, decay, increments) = self._scan(
            summarise, (ops.ones(shape, dtype), ops.zeros(shape, dtype)), (arguments.inputs, arguments.mask)
        )
        _, starts = self.chunks.starts(maps, arguments.initial)
        _, states = self._scan(lambda state, at: _advance(state, *at), starts, (decay, increments))
        return states, (projected, decay, maps[0], starts)

    def forward(self, arguments: _Arguments) -> tuple[Tensor, _Residuals]:
        states, (projected, decay, products, starts) = self.states(arguments, lambda projected: projected)
        return states, _Residuals(arguments, projected, decay, states, products, starts)

    def backward(self, residuals: _Residuals, d_states: Tensor) -> tuple:
        arguments, projected, decay, states, products, starts = residuals
        adjoint, _ = self._scan(
            lambda adjoint, at: (_retreat(adjoint, *at)[0], ()), ops.zeros_like(starts), (decay, d_states), reverse=True
        )
        d_initial, ends = self.chunks.starts((products, adjoint), ops.zeros_like(arguments.initial), reverse=True)

        def step(carry: tuple, at: tuple) -> tuple[tuple, Tensor]:
            adjoint, totals = carry
            inputs, mask, projected, decay, d_state, before = at
            adjoint, d_increment = _retreat(adjoint, decay, d_state)
            _, pullback = backend.vector_jacobian_product(
                lambda projected, *gate_weights: self.coefficients(projected, mask, gate_weights),
                projected, *arguments.gate_weights,
            )  # fmt: skip
            d_projected, *d_gate_weights = pullback((d_increment * before, d_increment))
            _, pullback = backend.vector_jacobian_product(self.equations.project, inputs, arguments.weights)
            d_inputs, d_weights = pullback(d_projected)
            return (adjoint, tree.map_structure(_add, totals, (d_weights, tuple(d_gate_weights)))), d_inputs

        weights = (arguments.weights, arguments.gate_weights)
        (_, totals), d_inputs = self._scan(
            step,
            (ends, tree.map_structure(lambda w: ops.zeros_like(_precise(w)), weights)),
            (arguments.inputs, arguments.mask, projected, decay, d_states, _before(states, starts)),
            reverse=True,
        )
        d_weights, d_gate_weights = tree.map_structure(lambda total, w: ops.cast(total, w.dtype), totals, weights)
        return d_inputs, d_initial, d_weights, d_gate_weights, () if isinstance(arguments.mask, tuple) else None

    def _scan(self, step: Callable, carry: Any, inputs: Any, *, reverse: bool = False) -> tuple[Any, Any]:
        return backend.scan(step, carry, inputs, reverse=reverse, fetch_ahead=False)


def _held(decay: Tensor, increments: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coefficients with those that hold the state where `mask` is False."""
    mask = align_mask(mask, decay)
    return ops.where(mask, decay, ops.ones_like(decay)), ops.where(mask, increments, ops.zeros_like(increments))


def _before(states: Tensor, initial: Tensor) -> Tensor:
    """Shift states after each step to states before it, `(time, ...)` both."""
    return ops.concatenate([initial[None], states[:-1]], axis=0)


def _precise(values: Tensor) -> Tensor:
    """Half precision as float32; the rest as it is."""
    return values if keras.backend.standardize_dtype(values.dtype) == "float64" else ops.cast(values, "float32")


def _pad(values: Tensor, steps: int | Tensor, fill: Any = None) -> Tensor:
    """Append steps of `fill`, zeros by default, to `(time, ...)`."""
    if isinstance(steps, int) and steps == 0:
        return values
    return ops.pad(values, [[0, steps], *[[0, 0]] * (len(values.shape) - 1)], constant_values=fill)


def _first(values: Tensor, steps: int | Tensor) -> Tensor:
    """Return the first `steps` of `(time, ...)`; in a graph of TensorFlow the gradient of `values[:steps]` is slow."""
    time, *rest = ops.shape(values)
    return values if isinstance(time, int) and isinstance(steps, int) and time == steps else ops.slice(values, [0] * len(values.shape), (steps, *rest))


def _steps_of_a_chunk(time: int | Tensor) -> int | Tensor:
    """Return a number between FEWEST_STEPS and MOST_STEPS that leaves little to be padded, or `time` if that is less."""
    if not isinstance(time, int):
        return ops.maximum(1, ops.minimum(time, FEWEST_STEPS))
    return min(range(FEWEST_STEPS, MOST_STEPS + 1), key=lambda steps: -time % steps) if time > MOST_STEPS else max(1, time)


def _swap(values: Tensor) -> Tensor:
    return ops.transpose(values, (1, 0, *range(2, len(values.shape))))


def _add(total: Tensor, gradient: Tensor) -> Tensor:
    return total + ops.cast(gradient, total.dtype)
