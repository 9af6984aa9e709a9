"""The memory curve of a recurrent layer."""

from typing import NamedTuple

import keras
import numpy as np

from kseq.numbers import real, whole
from kseq.training.diagnostics.steps import Steps


class MemoryCurve(NamedTuple):
    """How well a linear readout of the state recovers the input of some steps before.

    Attributes:
        delays: Int `(longest,)`: 1, 2 ... steps.
        recovered: Float `(longest,)`, the squared correlation of the recovered and the true input, from 0 to 1.
    """

    delays: np.ndarray
    recovered: np.ndarray

    @property
    def capacity(self) -> float:
        """The short-term memory capacity: the sum of the curve, at most the number of units of the state."""
        return float(self.recovered.sum())


def memory_curve(
    layer: keras.layers.RNN,
    *,
    longest: int = 50,
    scale: float = 0.1,
    features: int | None = None,
    samples: int = 4000,
    seed: int = 0,
) -> MemoryCurve:
    """Return how much of its past inputs a recurrent layer's state still contains, by the delay.

    The layer reads independent uniform noise, the same value in all input features. For each delay a linear readout of
    the state is fitted by least squares to half of the samples; its squared correlation with the delayed noise on the
    other half is the value of the curve.

    Args:
        layer: A built recurrent layer of kseq or Keras, with any cell that reads vectors.
        longest: The longest delay, in steps.
        scale: The noise is between `-scale` and `scale`. Small noise keeps activations in their linear part, where the
            memory is longest.
        features: Number of input features; None: of the cell's `kernel`.
        samples: Number of samples in each half, at least four times the size of the state.
        seed: Seed of the noise.

    Raises:
        ValueError: If the layer is not recurrent or not built, a number is out of range, there are fewer samples, or
            the number of features is not known.

    Example:
        >>> curve = kseq.training.memory_curve(layer, longest=20)
        >>> curve.capacity, curve.recovered[:3]

    Reference: H. Jaeger, "Short term memory in echo state networks", 2001.
    """
    steps, scale = Steps(layer), real("scale", scale)
    longest, samples = whole("longest", longest), whole("samples", samples)
    if longest < 1 or scale <= 0 or samples < 1:
        raise ValueError(f"longest={longest}, samples={samples} and scale={scale} must be above 0.")
    rows = 20  # of each half, which run side by side
    kept = -(-samples // rows)
    noise = np.random.default_rng(seed).uniform(-scale, scale, (2 * rows, longest + kept)).astype("float32")
    inputs = np.repeat(noise[:, :, None], steps.features(features), axis=2)
    if layer.go_backwards:
        inputs = inputs[:, ::-1]
    states = steps.trajectory(inputs).states
    # (half, rows, kept, size): the states after `longest` steps or more, that is after each input that has all delays
    flat = np.concatenate([x[longest + 1 :].reshape(kept, 2 * rows, -1) for x in states], axis=2)
    if samples < 4 * flat.shape[2]:
        raise ValueError(
            f"samples={samples}, but the state has {flat.shape[2]} elements, for which at least {4 * flat.shape[2]} "
            "samples are needed."
        )
    flat = np.swapaxes(flat, 0, 1).reshape(2, rows * kept, -1).astype("float64")
    past = np.stack([noise[:, longest - d : longest - d + kept] for d in range(1, longest + 1)], axis=-1)
    past = past.reshape(2, rows * kept, longest)
    fitted, held_out = (np.concatenate([each, np.ones((len(each), 1))], axis=1) for each in flat)
    readout, *_ = np.linalg.lstsq(fitted, past[0], rcond=None)
    return MemoryCurve(np.arange(1, longest + 1), _squared_correlations(held_out @ readout, past[1]))


def _squared_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the squared correlation of each column of two matrices; 0 where one is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scales = np.square(a).sum(axis=0) * np.square(b).sum(axis=0)
    return np.where(scales > 0, np.square((a * b).sum(axis=0)) / np.maximum(scales, 1e-300), 0.0)
