"""Norms of the Jacobians of a recurrent layer's last state, and what they say about its gradients."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq import backend
from kseq.backend import Tensor
from kseq.training.diagnostics.steps import Steps, Trajectory

SMALL, LARGE = 1e-3, 1e3  # norms over the longest distance, beyond which a gradient has vanished or exploded
MOST_ELEMENTS = 2**22  # of the Jacobians that are computed at once, which bounds the memory


class GradientFlow(NamedTuple):
    """What becomes of a gradient on its way back through time.

    Attributes:
        factor: What its norm is multiplied by at each step, on average.
        distance: The longest distance, in steps.
        norm: The norm over that distance, the geometric mean of the rows.
        verdict: "vanishes" if the norm is below 1e-3, "explodes" if it is above 1e3, otherwise "is kept".
    """

    factor: float
    distance: int
    norm: float
    verdict: str


def state_jacobian_norms(
    layer: keras.layers.RNN,
    sequences: Any,
    *,
    mask: Any = None,
    initial_state: Any = None,
    state: int | None = None,
) -> np.ndarray:
    """Return the norms of d s_T / d s_(T - d), the last state's derivative by the state d steps before, for each d.

    They bound the gradient that reaches a step from d steps later. The derivatives of single steps are the backend's
    own, and their product is taken in float64, so that it can grow beyond what the layer's precision holds.

    Args:
        layer: A built recurrent layer of kseq or Keras, with any cell.
        sequences: Inputs of the layer, float `(rows, time, features)`, or the nest of tensors that its cell accepts. A
            few rows are enough: the work is that of `rows * time * state size` backward steps.
        mask: Bool `(rows, time)`, True at the real steps; the others do not count. None: all are real.
        initial_state: As the layer takes it; None for the layer's own.
        state: Index of the state tensor s, of an LSTM 0 for the hidden state and 1 for the memory. None: all tensors
            together, as one vector.

    Returns:
        Float64 `(rows, time + 1)`: the spectral norm, that is the largest singular value, at distances 0 (where it is
        1), 1, 2 ... up to the initial state; NaN beyond the real steps of a row.

    Raises:
        ValueError: If the layer is not recurrent or not built, the mask has another shape, or there is no such state.

    Example:
        >>> layer = kseq.layers.SimpleRNN(2, activation=None, recurrent_initializer=keras.initializers.Identity(0.5))
        >>> _ = layer(np.zeros((1, 3, 2)))
        >>> kseq.training.state_jacobian_norms(layer, np.zeros((1, 3, 2)))
        array([[1.   , 0.5  , 0.25 , 0.125]])

    Reference: Y. Bengio, P. Simard, P. Frasconi, "Learning long-term dependencies with gradient descent is difficult",
    1994.
    """
    steps = Steps(layer)
    trajectory = steps.trajectory(sequences, mask, initial_state)
    return trajectory_norms(steps, trajectory, state)


def trajectory_norms(steps: Steps, trajectory: Trajectory, state: int | None = None) -> np.ndarray:
    """Return what `state_jacobian_norms` does, of steps that have been taken before."""
    time, rows = trajectory.mask.shape
    sizes = [int(np.prod(values.shape[2:])) for values in trajectory.states]
    if state is not None and not 0 <= state < len(sizes):
        raise ValueError(f"state={state}, but {type(steps.cell).__name__} has {len(sizes)} state tensors, from 0 on.")
    ends = np.cumsum([0, *sizes])
    chosen = slice(None) if state is None else slice(ends[state], ends[state + 1])
    product = np.repeat(np.eye(ends[-1])[None, chosen], rows, axis=0)  # (rows, chosen, all)
    norms = np.full((rows, time + 1), np.nan)
    norms[:, 0] = 1.0
    distances = np.zeros(rows, int)
    span = max(1, MOST_ELEMENTS // (max(1, rows) * int(ends[-1]) ** 2))  # steps at once
    for end in range(time, 0, -span):
        start = max(0, end - span)
        local = _local_jacobians(steps, *steps.rows_of(trajectory, start, end))
        local = local.reshape(end - start, rows, ends[-1], ends[-1])
        for at in reversed(range(start, end)):
            real = trajectory.mask[at]
            with np.errstate(all="ignore"):  # an exploding product becomes infinite
                product[real] = product[real] @ local[at - start, real]
            distances += real
            norms[real, distances[real]] = _spectral_norms(product[real][:, :, chosen])
    return norms


def gradient_flow(norms: np.ndarray) -> GradientFlow:
    """Return whether gradients vanish or explode, from the norms of `state_jacobian_norms`.

    Args:
        norms: Float `(rows, distances)`, at distances 0, 1, 2 ...; NaN where a row has none.

    Raises:
        ValueError: If there is no distance of at least one step.
    """
    norms = np.atleast_2d(np.asarray(norms, "float64"))
    lengths = (np.cumsum(np.isnan(norms), axis=1) == 0).sum(axis=1)
    distance = int(lengths.max(initial=0)) - 1
    if distance < 1:
        raise ValueError(f"norms have shape {norms.shape}, but a distance of at least one step is needed.")
    with np.errstate(divide="ignore"):
        norm = float(np.exp(np.log(norms[lengths == distance + 1, distance]).mean()))
    verdict = "vanishes" if norm < SMALL else "explodes" if not norm <= LARGE else "is kept"
    return GradientFlow(norm ** (1.0 / distance), distance, norm, verdict)


def _local_jacobians(steps: Steps, inputs: Any, states: list[np.ndarray]) -> np.ndarray:
    """Return d s' / d s of one step, float64 `(rows, size, size)`, for states `(rows, ...)` each."""
    rows, shapes = len(states[0]), [values.shape[1:] for values in states]
    sizes = [int(np.prod(shape)) for shape in shapes]
    size = sum(sizes)
    repeated = [steps.tensor(np.repeat(values, size, axis=0)) for values in states]
    inputs = keras.tree.map_structure(lambda x: steps.tensor(np.repeat(x, size, axis=0)), inputs)
    _, pullback = backend.vector_jacobian_product(lambda *flat: steps.step(inputs, list(flat)), *repeated)
    basis = np.split(np.tile(np.eye(size), (rows, 1)), np.cumsum(sizes)[:-1], axis=1)
    cotangents = [steps.tensor(part.reshape(-1, *shape)) for part, shape in zip(basis, shapes, strict=True)]
    gradients = [_flat(each, rows * size) for each in pullback(cotangents)]
    return np.concatenate(gradients, axis=1).reshape(rows, size, size)


def _flat(values: Tensor, rows: int) -> np.ndarray:
    return ops.convert_to_numpy(ops.cast(values, "float32")).astype("float64").reshape(rows, -1)


def _spectral_norms(matrices: np.ndarray) -> np.ndarray:
    """Return the largest singular values of finite matrices `(rows, m, n)`, infinity for the others."""
    finite = np.isfinite(matrices).all(axis=(1, 2))
    norms = np.full(len(matrices), np.inf)
    norms[finite] = np.linalg.norm(matrices[finite], 2, axis=(1, 2))
    return norms
