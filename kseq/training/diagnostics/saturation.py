"""Saturation of gates and activations."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.cells import CoupledLSTMCell
from kseq.cells.lstm import LSTMGates
from kseq.numbers import real
from kseq.training.diagnostics.steps import Steps, Trajectory

RANGES = {"sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "hard_tanh": (-1.0, 1.0)}


class GateSaturation(NamedTuple):
    """Shares of steps in which the activations of one gate are near the ends of their range.

    Attributes:
        low: Float `(units,)`, the share near the lower end: of a gate, closed.
        high: Float `(units,)`, the share near the upper end: of a gate, open.
    """

    low: np.ndarray
    high: np.ndarray

    @property
    def share(self) -> float:
        """The share of saturated activations of all units, at either end."""
        return float((self.low + self.high).mean())


def gate_saturation(
    layer: keras.layers.RNN,
    sequences: Any,
    *,
    mask: Any = None,
    initial_state: Any = None,
    margin: float = 0.05,
) -> dict[str, GateSaturation]:
    """Return how often each gate of a recurrent layer is saturated, where it passes nearly no gradient.

    Args:
        layer: A built recurrent layer of kseq or Keras whose cell applies functions named `recurrent_activation` or
            `activation`, as SimpleRNN, GRU, LSTM and their variants do. Only sigmoid, tanh and their hard forms have
            ends to saturate at; other activations are left out.
        sequences: Inputs of the layer, `(rows, time, features)`.
        mask: Bool `(rows, time)`, True at the real steps; the others do not count.
        initial_state: As the layer takes it; None for the layer's own.
        margin: Width of the two ends, as a share of the activation's range: with 0.05 a sigmoid is saturated below 0.05
            and above 0.95.

    Returns:
        By the gate's name: "input", "forget", "output", "update", "reset", and for the tanh "candidate" and "memory";
        "hidden" for SimpleRNN. Those of other cells are numbered in the order in which the cell's `call` applies them:
        "recurrent_activation 1", "activation 1".

    Raises:
        ValueError: If the layer is not recurrent or not built, or its cell has no such activation.

    Reference: A. Karpathy, J. Johnson, L. Fei-Fei, "Visualizing and understanding recurrent networks", 2015.
    """
    steps = Steps(layer)
    return trajectory_saturation(steps, steps.trajectory(sequences, mask, initial_state), margin)


def trajectory_saturation(steps: Steps, trajectory: Trajectory, margin: float = 0.05) -> dict[str, GateSaturation]:
    """Return what `gate_saturation` does, of steps that have been taken before."""
    margin, cell = real("margin", margin), steps.cell
    if not 0.0 < margin < 0.5:
        raise ValueError(f"margin={margin}, but it must be between 0 and 0.5, the share of the range at each end.")
    inputs, states = steps.rows_of(trajectory, 0, len(trajectory.mask))
    applied: dict[str, list[Tensor]] = {"recurrent_activation": [], "activation": []}
    with contextlib.ExitStack() as stack:
        for name, values in applied.items():
            stack.enter_context(_recorded(cell, name, values))
        steps.step(keras.tree.map_structure(steps.tensor, inputs), [steps.tensor(each) for each in states])
    real_rows, found = trajectory.mask.reshape(-1), {}
    for kind, values in applied.items():
        bottom, top = RANGES.get(getattr(getattr(cell, kind, None), "__name__", ""), (None, None))
        for name, tensor in zip(_names(cell, kind, len(values)), values, strict=True):
            if bottom is None or top is None:
                continue
            shares = (ops.convert_to_numpy(ops.cast(tensor, "float32"))[real_rows] - bottom) / (top - bottom)
            found[name] = GateSaturation((shares < margin).mean(axis=0), (shares > 1.0 - margin).mean(axis=0))
    if not found:
        raise ValueError(
            f"{type(cell).__name__} applies no recurrent_activation or activation that is one of {sorted(RANGES)}, so "
            "nothing saturates."
        )
    return found


@contextlib.contextmanager
def _recorded(cell: Any, name: str, values: list[Tensor]) -> Iterator[None]:
    """Append the results of a cell's function of this name to `values`."""
    function: Callable | None = getattr(cell, name, None)
    if not callable(function):
        yield
        return

    def record(x: Tensor) -> Tensor:
        values.append(function(x))
        return values[-1]

    setattr(cell, name, record)
    try:
        yield
    finally:
        setattr(cell, name, function)


def _names(cell: Any, kind: str, count: int) -> tuple[str, ...]:
    """Return the names of a function's results, in the order in which the cell's `call` applies it."""
    if kind == "recurrent_activation":
        if isinstance(cell, CoupledLSTMCell):
            names = ("forget", "output")
        elif isinstance(cell, LSTMGates):
            names = ("forget", "input", "output")
        elif isinstance(cell, keras.layers.LSTMCell):
            names = ("input", "forget", "output")
        elif isinstance(cell, keras.layers.GRUCell):
            names = ("update", "reset")
        else:
            names = ()
    elif isinstance(cell, LSTMGates | keras.layers.LSTMCell):
        names = ("candidate", "memory")
    elif isinstance(cell, keras.layers.GRUCell):
        names = ("candidate",)
    elif isinstance(cell, keras.layers.SimpleRNNCell):
        names = ("hidden",)
    else:
        names = ()
    return names if len(names) == count else tuple(f"{kind} {number}" for number in range(1, count + 1))
