"""Element-wise linear recurrences, `h_t = a_t * h_{t-1} + b_t`, in few sequential steps.

A step is the map (a, b) of the state. The map (a, b) followed by (a', b') is one map, (a' a, a' b + b'), so time can be
divided into chunks (G. Blelloch, "Prefix sums and their applications", 1990):

1. For all chunks at once, step by step: compute the map of each whole chunk.
2. Chunk by chunk, from these maps and by the same method: compute the state before each chunk.
3. For all chunks at once, step by step: compute the states.

The gradient is also such a recurrence, from the last step to the first. With g_t the gradient that reaches h_t from
outside, `d_t = g_t + a_{t+1} * d_{t+1}` is the gradient of b_t, and `d_t * h_{t-1}` is that of a_t. Nothing is divided
by a decay and no logarithms are added, so decays of exactly zero or one are as accurate as others. All computations are
in float32 or float64.

All tensors are time-major: `(time, batch, ...)`.
"""

from collections.abc import Callable

import keras
from keras import ops

from kseq import backend
from kseq.backend import Tensor
from kseq.masking import align_mask

RADIX = 8  # steps of a chunk, all unrolled; with more, XLA recomputes too many of them instead of storing them
LEVELS = 2  # chunks, and chunks of chunks; a loop runs over the remaining time / RADIX ** LEVELS steps

Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # (state, decay, value) -> (new state, output)


def linear_recurrence(
    decay: Tensor, increments: Tensor, initial: Tensor, mask: Tensor | None = None, *, reverse: bool = False
) -> Tensor:
    """Return all states of `h_t = decay_t * h_{t-1} + increments_t`.

    Args:
        decay: a, float `(time, batch, units)`; between -1 and 1, if states are to stay bounded.
        increments: b, float `(time, batch, units)`.
        initial: The state before the first step, float `(batch, units)`.
        mask: Bool `(time, batch)`, True at real steps; at others the state is held. None if all steps are real.
        reverse: Run from the last step to the first. Each state has the index of its increment.

    Returns:
        h, `(time, batch, units)`, in the precision of `increments`.

    Example:
        >>> linear_recurrence(np.full((4, 1, 1), 0.5), np.ones((4, 1, 1)), np.zeros((1, 1)))[:, 0, 0]
        [1.0, 1.5, 1.75, 1.875]
    """
    decay, increments, initial = (ops.convert_to_tensor(x) for x in (decay, increments, initial))
    dtype = increments.dtype
    if mask is not None:
        decay, increments = hold(decay, increments, mask)
    if reverse:
        decay, increments = ops.flip(decay, axis=0), ops.flip(increments, axis=0)
    states = backend.custom_gradient(
        lambda *arguments: _forward(*arguments)[0],
        _forward,
        _backward,
        (precise(decay), precise(increments), precise(initial)),
        keep_residuals=True,  # two of the three residuals exist anyway
    )
    return ops.cast(ops.flip(states, axis=0) if reverse else states, dtype)


def _forward(decay: Tensor, increments: Tensor, initial: Tensor) -> tuple[Tensor, tuple]:
    _, states = solve(advance, decay, increments, initial)
    return states, (decay, states, initial)


def _backward(residuals: tuple, d_states: Tensor) -> tuple:
    decay, states, initial = residuals
    d_initial, d_increments = solve(retreat, decay, d_states, ops.zeros_like(initial), reverse=True)
    return d_increments * states_before(states, initial), d_increments, d_initial


def advance(state: Tensor, decay: Tensor, increment: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state after a step, both as the new state and as the output."""
    new = decay * state + increment
    return new, new


def depart(state: Tensor, decay: Tensor, increment: Tensor) -> tuple[Tensor, Tensor]:
    """Return the state after a step, and as the output the state before it."""
    return decay * state + increment, state


def retreat(adjoint: Tensor, decay: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of the state before a step, and as the output the gradient of the step's increment."""
    d_increment = adjoint + gradient
    return decay * d_increment, d_increment


def solve(
    step: Step, decay: Tensor, values: Tensor, state: Tensor, *, reverse: bool = False, levels: int = LEVELS
) -> tuple[Tensor, Tensor]:
    """Run all steps.

    Args:
        step: `advance`, `depart` or `retreat`.
        decay: `(time, ...)`.
        values: `(time, ...)`, the increments or the gradients.
        state: `(...)`, the state before the first step.
        reverse: Run from the last step to the first.
        levels: How many times to divide time into chunks.

    Returns:
        `(last state (...), outputs (time, ...))`.
    """
    time, *rest = ops.shape(values)
    short = isinstance(time, int) and time <= RADIX
    if short or levels == 0:
        return backend.scan(lambda s, at: step(s, *at), state, (decay, values), reverse=reverse, unroll=short)
    chunks = -(-time // RADIX)
    steps = list(zip(_steps_of_chunks(decay, chunks, 1.0), _steps_of_chunks(values, chunks, 0.0), strict=True))
    order = range(RADIX)[::-1] if reverse else range(RADIX)
    product, carried = ops.ones_like(steps[0][0]), ops.zeros_like(steps[0][1])  # (chunks, ...)
    for place in order:
        product, (carried, _) = product * steps[place][0], step(carried, *steps[place])
    last, state = solve(depart, product, carried, state, reverse=reverse, levels=levels - 1)
    outputs = [state] * RADIX
    for place in order:
        state, outputs[place] = step(state, *steps[place])
    return last, first(ops.reshape(ops.stack(outputs, axis=1), (chunks * RADIX, *rest)), time)


def _steps_of_chunks(values: Tensor, chunks: int | Tensor, fill: float) -> list[Tensor]:
    """Return `(time, ...)` as RADIX tensors `(chunks, ...)`: the first steps of all chunks, the second, and so on."""
    time, *rest = ops.shape(values)
    return ops.unstack(ops.reshape(pad(values, chunks * RADIX - time, fill), (chunks, RADIX, *rest)), RADIX, axis=1)


def hold(decay: Tensor, increments: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the coefficients, replaced by 1 and 0 where `mask` is False, which holds the state."""
    mask = align_mask(mask, decay)
    return ops.where(mask, decay, ops.ones_like(decay)), ops.where(mask, increments, ops.zeros_like(increments))


def states_before(states: Tensor, initial: Tensor) -> Tensor:
    """Return the states before each step, given those after each step, `(time, ...)` both."""
    return ops.concatenate([initial[None], states[:-1]], axis=0)


def precise(values: Tensor) -> Tensor:
    """Return half precision as float32, and other values unchanged."""
    return values if keras.backend.standardize_dtype(values.dtype) == "float64" else ops.cast(values, "float32")


def pad(values: Tensor, steps: int | Tensor, fill: float | None = None) -> Tensor:
    """Append `steps` steps to `(time, ...)`, filled with `fill`: zeros or False by default."""
    if isinstance(steps, int) and steps == 0:
        return values
    return ops.pad(values, [[0, steps], *[[0, 0]] * (len(values.shape) - 1)], constant_values=fill)


def first(values: Tensor, steps: int | Tensor) -> Tensor:
    """Return the first `steps` of `(time, ...)`. In a TensorFlow graph the gradient of `values[:steps]` is slow."""
    time, *rest = ops.shape(values)
    whole = isinstance(time, int) and isinstance(steps, int) and time == steps
    return values if whole else ops.slice(values, [0] * len(values.shape), (steps, *rest))
