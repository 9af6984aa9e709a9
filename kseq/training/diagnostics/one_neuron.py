"""Fixed points of the recurrent network with a single neuron, h' = f(w h + b)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq import backend
from kseq.numbers import real

# The values that are searched: 2001 from -1000 to 1000, with steps of 0.006 near 0, which is one of them.
GRID = np.sinh(np.linspace(-8.0, 8.0, 2001)) * 1000.0 / np.sinh(8.0)


class FixedPoint(NamedTuple):
    """A fixed point of h' = f(w h + b).

    Attributes:
        value: The value h.
        slope: The derivative of the map there, w f'(w h + b): what a small deviation is multiplied by at each step.
        stable: Whether the slope's magnitude is below 1, so that deviations die out.
    """

    value: float
    slope: float
    stable: bool


class StabilityMap(NamedTuple):
    """Numbers of fixed points of h' = f(w h + b) over weights and biases.

    Attributes:
        weights: Float `(n,)`, the weights w.
        biases: Float `(m,)`, the biases b.
        stable: Int `(n, m)`, the number of stable fixed points of each pair.
        unstable: Int `(n, m)`, the number of the others.
    """

    weights: np.ndarray
    biases: np.ndarray
    stable: np.ndarray
    unstable: np.ndarray


def fixed_points(weight: float, bias: float, activation: Any = "tanh") -> list[FixedPoint]:
    """Return the fixed points of the one-neuron network h' = f(w h + b), the smallest first.

    Args:
        weight: The recurrent weight w.
        bias: The bias b.
        activation: The activation f: a name known to Keras, or an element-wise function of tensors.

    Returns:
        Those of magnitude at most 1000 at which f(w h + b) - h changes its sign, to about 1e-6. Of a whole interval of
        fixed points, which a linear f has with w = 1 and b = 0, the point nearest to 0 is given.

    Example:
        >>> [(round(point.value, 3), point.stable) for point in kseq.training.fixed_points(2.0, 0.0)]
        [(-0.958, True), (0.0, False), (0.958, True)]

    Reference: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    weight, bias = real("weight", weight), real("bias", bias)
    _, values, slopes = _find(keras.activations.get(activation), weight, np.array([bias]))
    return [FixedPoint(float(h), float(slope), bool(abs(slope) < 1)) for h, slope in zip(values, slopes, strict=True)]


def stability_map(weights: Any, biases: Any, activation: Any = "tanh") -> StabilityMap:
    """Return how many stable and unstable fixed points h' = f(w h + b) has for each weight and bias.

    Args:
        weights: Float `(n,)`, the recurrent weights w.
        biases: Float `(m,)`, the biases b.
        activation: As in `fixed_points`.

    Raises:
        ValueError: If weights or biases are not `(n,)`.
    """
    weights, biases = np.asarray(weights, "float64"), np.asarray(biases, "float64")
    if weights.ndim != 1 or biases.ndim != 1 or not weights.size or not biases.size:
        raise ValueError(f"weights and biases have shapes {weights.shape} and {biases.shape}, but must be (n,).")
    function = keras.activations.get(activation)
    counts = np.zeros((2, len(weights), len(biases)), int)
    for row, weight in enumerate(weights):
        columns, _, slopes = _find(function, weight, biases)
        for kind, kept in enumerate((np.abs(slopes) < 1, np.abs(slopes) >= 1)):
            counts[kind, row] = np.bincount(columns[kept], minlength=len(biases))
    return StabilityMap(weights, biases, *counts)


def _find(function: Callable, weight: float, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each fixed point of each bias: `(index of the bias, h, slope)`, all `(points,)`, in increasing order."""
    residuals = _apply(function, weight * GRID + biases[:, None]) - GRID  # (biases, grid)
    dtype = keras.backend.standardize_dtype(ops.convert_to_tensor(GRID).dtype)
    noise = 8.0 * np.finfo(dtype).eps * np.abs(GRID)  # of rounding, where the sign of a residual means nothing
    signs = np.where(np.abs(residuals) <= noise, 0.0, np.sign(residuals))
    index, place = np.nonzero(signs[:, :-1] * signs[:, 1:] < 0)
    values = _bisect(function, weight, biases[index], GRID[place], GRID[place + 1])
    touching = [(row, GRID[at]) for row, line in enumerate(signs == 0) for at in _nearest_of_runs(line)]
    index = np.concatenate([index, np.array([row for row, _ in touching], int)])
    values = np.concatenate([values, [value for _, value in touching]])
    order = np.lexsort((values, index))
    index, values = index[order], values[order]
    inputs = ops.convert_to_tensor(weight * values + biases[index])
    outputs, pullback = backend.vector_jacobian_product(function, inputs)
    slopes = weight * ops.convert_to_numpy(pullback(ops.ones_like(outputs))[0])
    return index, values, slopes


def _bisect(function: Callable, weight: float, biases: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return points between `low` and `high` at which the residuals change their sign, all `(points,)`."""
    at_low = np.sign(_apply(function, weight * low + biases) - low)
    for _ in range(40):
        middle = (low + high) / 2
        same = np.sign(_apply(function, weight * middle + biases) - middle) == at_low
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return (low + high) / 2


def _nearest_of_runs(line: np.ndarray) -> list[int]:
    """Return for each run of True in `line` `(grid,)` its index nearest to the grid's middle, which is 0."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
    runs = zip(edges[::2], edges[1::2] - 1, strict=True)
    return [int(np.clip(len(GRID) // 2, first, last)) for first, last in runs]


def _apply(function: Callable, values: np.ndarray) -> np.ndarray:
    """Return an element-wise function of float64 values; JAX computes it in float32."""
    return ops.convert_to_numpy(function(ops.convert_to_tensor(values))).astype("float64")
