"""A recurrent layer's cell, called step by step outside of the layer's loop."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.engine.stepwise_loop import step_function


class Trajectory(NamedTuple):
    """What a cell read and what its state was, in the order in which the steps ran.

    Attributes:
        inputs: Nest of float arrays `(time, rows, ...)`.
        states: List of float arrays `(time + 1, rows, ...)`, one for each tensor of the state; the initial state first.
        mask: Bool `(time, rows)`, True at the real steps. At the others the state is held.
    """

    inputs: Any
    states: list[np.ndarray]
    mask: np.ndarray


class Steps:
    """The steps of a recurrent layer.

    Args:
        layer: A built layer of kseq or Keras with a cell, such as `kseq.layers.LSTM(8)`.

    Raises:
        ValueError: If it is no such layer, or has not been built.
    """

    def __init__(self, layer: Any):
        if not isinstance(layer, keras.layers.RNN):
            raise ValueError(
                f"{getattr(layer, 'name', layer)!r} is a {type(layer).__name__}, but expected a recurrent layer with a "
                "cell, such as kseq.layers.LSTM. Of a Bidirectional give forward_layer or backward_layer, of a stack "
                "one of its layers."
            )
        if not layer.built:
            raise ValueError(f"{layer.name} has no weights yet. Call it, or layer.build((None, None, features)).")
        self.layer, self.cell = layer, layer.cell
        self._take = step_function(layer.cell, training=False)
        self._structure: Any = None

    def features(self, given: int | None) -> int:
        """Return the number of input features, or raise if it is not known."""
        if given is not None:
            return given
        kernel = getattr(self.cell, "kernel", None)
        if kernel is None or len(kernel.shape) != 2:
            raise ValueError(
                f"The number of input features of {type(self.cell).__name__} is not known: it has no matrix named "
                "kernel. Pass features=, the size of the layer's input at one step."
            )
        return int(kernel.shape[0])

    def step(self, inputs: Any, states: list[Tensor]) -> list[Tensor]:
        """Return the flat state after one step of `(rows, ...)` tensors."""
        _, after = self._take(inputs, tree.pack_sequence_as(self._structure, list(states)))
        return tree.flatten(after)

    def trajectory(self, sequences: Any, mask: Any = None, initial_state: Any = None) -> Trajectory:
        """Run the layer's cell over sequences `(rows, time, ...)`, from the layer's initial state by default."""
        backwards = self.layer.go_backwards
        inputs = tree.map_structure(lambda x: _time_first(x, backwards), sequences)
        time, rows = tree.flatten(inputs)[0].shape[:2]
        real = np.ones((time, rows), bool) if mask is None else _time_first(mask, backwards).astype(bool)
        if real.shape != (time, rows):
            raise ValueError(f"mask has shape {real.shape[::-1]}, but expected (rows, time) = {(rows, time)}.")
        begin = self.layer.get_initial_state(rows) if initial_state is None else initial_state
        self._structure = tree.map_structure(lambda _: 0, begin)
        begin = [ops.cast(tensor, self.dtype) for tensor in tree.flatten(begin)]
        step = backend.as_graph(self._held_step)
        states, collected = begin, [begin]
        for at in range(time):
            now = tree.map_structure(lambda x, at=at: self.tensor(x[at]), inputs)
            states = step(now, states, ops.convert_to_tensor(real[at]))
            collected.append(states)
        arrays = [np.stack([_array(each[place]) for each in collected]) for place in range(len(begin))]
        return Trajectory(inputs, arrays, real)

    def rows_of(self, trajectory: Trajectory, start: int, end: int) -> tuple[Any, list[np.ndarray]]:
        """Return `(inputs, states before the step)` of the steps from `start` to `end`, with every step as a row."""
        inputs = tree.map_structure(lambda x: x[start:end].reshape(-1, *x.shape[2:]), trajectory.inputs)
        return inputs, [x[start:end].reshape(-1, *x.shape[2:]) for x in trajectory.states]

    @property
    def dtype(self) -> str:
        """The precision of the state."""
        return getattr(self.cell, "compute_dtype", self.layer.compute_dtype)

    def tensor(self, values: np.ndarray) -> Tensor:
        """Return an array as a tensor; floats in the cell's precision."""
        return ops.convert_to_tensor(values, self.dtype if values.dtype.kind == "f" else None)

    def _held_step(self, inputs: Any, states: list[Tensor], real: Tensor) -> list[Tensor]:
        def hold(new: Tensor, old: Tensor) -> Tensor:
            return ops.where(ops.reshape(real, (-1,) + (1,) * (len(new.shape) - 1)), new, old)

        return [hold(*pair) for pair in zip(self.step(inputs, states), states, strict=True)]


def _array(values: Any) -> np.ndarray:
    """Return values as an array; floats in float32 at least, since NumPy lacks some precisions."""
    array = ops.convert_to_numpy(values)
    return array.astype("float32") if array.dtype.kind not in "biuf" or array.dtype == np.float16 else array


def _time_first(values: Any, backwards: bool) -> np.ndarray:
    array = np.swapaxes(_array(values), 0, 1)
    return array[::-1] if backwards else array
