"""The response of a recurrent layer to bounded inputs."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from kseq import backend
from kseq.numbers import real, whole
from kseq.training.diagnostics.steps import Steps

MOST_GROWTH = 1.25  # of the largest state in the second half, up to which it counts as bounded


class BoundedInputResponse(NamedTuple):
    """The largest magnitude of a layer's state while it reads bounded inputs.

    Attributes:
        peaks: Float `(steps,)`, the largest magnitude of any state element of any row up to each step.
        growth: The last peak divided by that after half of the steps; 1 if both are 0.
        bounded: Whether the growth is finite and at most 1.25.
    """

    peaks: np.ndarray
    growth: float
    bounded: bool


def bounded_input_response(
    layer: keras.layers.RNN,
    *,
    bound: float = 1.0,
    steps: int = 200,
    rows: int = 8,
    features: int | None = None,
    seed: int = 0,
) -> BoundedInputResponse:
    """Check that bounded inputs give bounded states (BIBO stability), by running a layer on such inputs.

    The inputs are constants of either sign, alternating signs, random signs, and signs of the gradient that random
    combinations of the last state have with respect to the inputs. For a linear recurrence the latter are the inputs
    which make these combinations largest.

    The check can show that states grow; that they stay bounded it shows only for these inputs and steps. A state that
    still grows because its memory is longer than `steps` cannot be told from an unbounded one: raise `steps`.

    Args:
        layer: A built recurrent layer of kseq or Keras, with any cell that reads vectors.
        bound: The largest magnitude of an input.
        steps: Number of steps.
        rows: Number of random inputs, and of those from gradients.
        features: Number of input features; None: of the cell's `kernel`.
        seed: Seed of the random numbers.

    Raises:
        ValueError: If the layer is not recurrent or not built, a number is out of range, or the number of features is
            not known.

    Example:
        >>> layer = kseq.layers.SimpleRNN(2, activation=None, recurrent_initializer="identity")
        >>> layer.build((None, None, 2))
        >>> kseq.training.bounded_input_response(layer).bounded
        False
    """
    stepper = Steps(layer)
    bound, steps, rows = real("bound", bound), whole("steps", steps), whole("rows", rows)
    if bound <= 0 or steps < 2 or rows < 1:
        raise ValueError(f"bound={bound} and rows={rows} must be above 0, and steps={steps} at least 2.")
    generator = np.random.default_rng(seed)
    size = stepper.features(features)
    fixed = np.ones((3, steps, size))
    fixed[1], fixed[2, ::2] = -1.0, -1.0
    signs = np.where(generator.random((rows, steps, size)) < 0.5, -1.0, 1.0)
    inputs = np.concatenate([fixed, signs, _gradient_signs(stepper, rows, steps, size, generator)])
    if layer.go_backwards:
        inputs = inputs[:, ::-1]
    with np.errstate(all="ignore"):
        states = stepper.trajectory((bound * inputs).astype("float32")).states
    largest = np.max([np.abs(each[1:]).reshape(steps, -1).max(axis=1) for each in states], axis=0)
    peaks = np.maximum.accumulate(np.where(np.isnan(largest), np.inf, largest))
    half = peaks[steps // 2 - 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        growth = 1.0 if peaks[-1] == 0 else float(peaks[-1] / half)
    return BoundedInputResponse(peaks, growth, bool(growth <= MOST_GROWTH))


def _gradient_signs(stepper: Steps, rows: int, steps: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Return the signs of random combinations' gradients by the inputs, `(rows, steps, size)`, in the order of steps.

    Past the range of floats the gradient of the first steps is not finite or zero; there the signs are 1.
    """
    zeros = np.zeros((rows, steps, size), "float32")
    trajectory = stepper.trajectory(zeros)
    inputs, signs = stepper.tensor(zeros[:, 0]), np.ones((rows, steps, size))
    last = [ops.convert_to_numpy(each[-1]) for each in trajectory.states]
    cotangents = [stepper.tensor(generator.normal(size=each.shape).astype("float32")) for each in last]

    def pull(inputs: backend.Tensor, states: list, cotangents: list) -> tuple:
        _, pullback = backend.vector_jacobian_product(lambda x, *flat: stepper.step(x, list(flat)), inputs, *states)
        return pullback(cotangents)

    graph = backend.as_graph(pull)
    for at in reversed(range(steps)):
        states = [stepper.tensor(each[at]) for each in trajectory.states]
        gradient, *cotangents = graph(inputs, states, cotangents)
        gradient = ops.convert_to_numpy(ops.cast(gradient, "float32"))
        signs[:, at] = np.where(gradient < 0, -1.0, 1.0)
    return signs
