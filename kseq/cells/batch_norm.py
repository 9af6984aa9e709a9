"""A cell with batch normalisation of its projected inputs."""

from typing import Any

import keras
from keras import ops, tree

from kseq.backend import Tensor
from kseq.cells.cell import Cell
from kseq.cells.wrapper import WrapperCell
from kseq.engine import Equations
from kseq.inner_layers import freeze_inner_layers
from kseq.masking import align_mask


@keras.saving.register_keras_serializable(package="kseq")
class BatchNormCell(WrapperCell):
    """A cell with batch normalisation of its projected inputs, before the bias is added.

        p_t = gamma * (x_t W - mean) / sqrt(variance + epsilon) + b

    in place of `x_t W + b`. In training, the mean and variance of each unit are taken over all real steps of all rows
    together ("sequence-wise"), and the moving averages are updated with them. At inference, and when the cell is called
    for a single step, the moving averages are used. The recurrent map is not normalised.

    The cell's own bias b takes the place of the shift of batch normalisation and keeps its meaning: an LSTM's forget
    bias of one stays one. A cell without a bias has no shift.

    Args:
        cell: The inner cell.
        momentum: Weight of the old value when a moving average is updated.
        epsilon: Added to the variance.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments: the inner cell's.

    Raises:
        ValueError: If the inner cell is not run through `project`, `recur` and `gates` (`ResidualCell`, `StackedCells`,
            `GRUCell(reset_after=False)`), or its projected inputs are not a single float tensor.

    Example:
        >>> cell = kseq.cells.BatchNormCell(kseq.cells.LSTMCell(16))
        >>> kseq.layers.RNN(cell, return_sequences=True)(np.zeros((2, 10, 8)), training=True).shape
        (2, 10, 16)

    Reference: C. Laurent, G. Pereyra, P. Brakel, Y. Zhang, Y. Bengio, "Batch normalized recurrent neural networks",
    2016.
    """

    def __init__(self, cell: Cell, momentum: float = 0.99, epsilon: float = 1e-3, **kwargs: Any):
        super().__init__(cell, **kwargs)
        self.check_equations(separable=True)
        self.momentum, self.epsilon = momentum, epsilon
        self.normalization = keras.layers.BatchNormalization(
            momentum=momentum, epsilon=epsilon, center=False, dtype=self.dtype_policy, name="normalization"
        )
        freeze_inner_layers(self)

    def build(self, input_shape: tuple) -> None:
        """Create the weights."""
        super().build(input_shape)
        self.normalization.build((None, None, *self._bias(input_shape[1:]).shape[1:]))

    def _bias(self, signal: tuple) -> Tensor:
        """Return b, `(1, units)`: the cell's own projection of inputs that are zero."""
        return self.cell.project(ops.zeros((1, *signal), dtype=self.compute_dtype))

    def equations(self, training: bool = False) -> Equations | None:
        """Return the inner cell's functions and weights, with normalised projected inputs."""
        inner = self.cell.equations(training)
        if inner is None:
            return None

        def project(inputs: Tensor, mask: Tensor | None) -> Any:
            projected = inner.project(inputs, mask)
            self._check_one_float(projected)
            return tree.map_structure(
                lambda leaf: self._normalize(leaf, inputs, mask, training) if _is_float(leaf) else leaf, projected
            )

        # In training the statistics are those of all rows, so the rows must not be split into groups.
        return inner._replace(project=project, projects_rows_apart=inner.projects_rows_apart and not training)

    def _normalize(self, projected: Tensor, inputs: Tensor, mask: Tensor | None, training: bool) -> Tensor:
        """Return the normalised projection of `inputs`, which are those of one step or of all steps."""
        whole = self.is_sequence(inputs)
        bias = self._bias(tuple(inputs.shape[2 if whole else 1 :]))
        values = projected - bias if whole else (projected - bias)[None]
        real = None if mask is None else ops.broadcast_to(align_mask(mask, values[..., 0]), ops.shape(values)[:-1])
        values = self.normalization.call(values, training=training and whole, mask=real if whole else None)
        return (values if whole else values[0]) + bias

    def _check_one_float(self, projected: Any) -> None:
        """Raise if a projection has not exactly one float tensor."""
        count = sum(map(_is_float, tree.flatten(projected)))
        if count != 1:
            raise ValueError(
                f"BatchNormCell normalises projected inputs that are a single float tensor, but those of "
                f"{type(self.cell).__name__} are {count} tensors. Normalise inside that cell instead."
            )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "momentum": self.momentum, "epsilon": self.epsilon}


def _is_float(tensor: Tensor) -> bool:
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))
