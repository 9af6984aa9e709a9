"""The encoder of pictures and other grids."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.empty_batches import with_rows
from kseq.inner_layers import freeze_inner_layers
from kseq.models.encoders.array_encoder import ArrayEncoder
from kseq.models.encoders.token_encoder import Encoded
from kseq.numbers import flag, ids, positive_int, share

KERNEL_SIZE, STRIDE = 3, 2  # of a convolution: it halves the height and the width


@keras.saving.register_keras_serializable(package="kseq")
class GridEncoder(ArrayEncoder):
    """Reads a picture, or a grid of features, for a decoder that attends to its cells (show, attend and tell).

        a_ij = W g_ij + b + r_i + c_j

    with g_ij the features that convolutions compute for the cell in row i and column j. r_i and c_j are learned vectors
    of the row and the column, by which the attention and the decoder can tell left from right. The cells are the
    memory, row after row; a decoder's `Bridge` makes the first state of their mean.

    Args:
        shape: `(height, width, channels)` of a picture. Exported with `inputs="png"`, the model gets pictures resized
            to it, with values from 0 to 1; train it on such values.
        units: Number of values of a cell.
        convolutions: Numbers of filters of convolutions, each of which halves the height and the width, rounded up;
            `()` for a grid whose features need none. Or a Keras layer or model `(batch, height, width, channels) ->
            (batch, rows, columns, features)`, which is trained with the encoder unless its `trainable` is False.
        positions: Whether r_i and c_j are added.
        dropout: Share of the values of the cells dropped in training.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: float or int `(batch, height, width, channels)`.
        training: Whether dropout is on.

    Returns:
        `Encoded(values (batch, rows * columns, units), mask, states)` with one state `(batch, units)`, the mean of the
        cells.

    Raises:
        ValueError: If an option is out of range, `convolutions` do not return a grid, or the pictures have another
            size.

    Attributes:
        grid_shape: `(rows, columns)` of the cells: `weights.reshape(*grid_shape)` are the attention's weights over the
            picture.

    Example:
        >>> encoder = kseq.models.GridEncoder((32, 48, 3), 64, convolutions=(16, 32, 64))
        >>> encoder(np.ones((2, 32, 48, 3), "float32")).values.shape, encoder.grid_shape
        ((2, 24, 64), (4, 6))

    Reference: K. Xu et al., "Show, attend and tell: neural image caption generation with visual attention", 2015. Its
    cells have no vectors of rows and columns.
    """

    def __init__(
        self,
        shape: Sequence[int],
        units: int,
        *,
        convolutions: Sequence[int] | keras.layers.Layer = (32, 64),
        positions: bool = True,
        dropout: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(shape, **kwargs)
        if len(self.row_shape) != 3:
            raise ValueError(f"shape={shape!r}, but a GridEncoder reads pictures (height, width, channels).")
        self.units, self.dropout = positive_int(self, "units", units), share(self, "dropout", dropout)
        self.positions = flag("positions", positions)
        self.filters: list[int] | None = None
        self.convolutions: Any = convolutions
        if not isinstance(convolutions, keras.layers.Layer):
            filters = self.filters = ids("convolutions", convolutions).tolist()
            if min(filters, default=1) < 1:
                raise ValueError(f"convolutions={convolutions!r}, but a convolution has at least 1 filter.")
            self.convolutions = keras.Sequential([self._convolution(number) for number in filters]) if filters else None
        self.grid_shape = self._grid_shape()
        self.project = keras.layers.Dense(self.units, dtype=self.dtype_policy)
        self.cell_dropout = keras.layers.Dropout(self.dropout, dtype=self.dtype_policy)
        freeze_inner_layers(self)

    def _convolution(self, filters: int) -> keras.layers.Layer:
        return keras.layers.Conv2D(
            filters, KERNEL_SIZE, STRIDE, padding="same", activation="relu", dtype=self.dtype_policy
        )

    def _grid_shape(self) -> tuple[int, int]:
        """Return the numbers of rows and columns, or raise ValueError if the convolutions return no grid of fixed size.

        Sets the number of features of a cell.
        """
        shape = (None, *self.row_shape)
        if self.convolutions is not None:
            shape = self.convolutions.compute_output_shape(shape)
        if not isinstance(shape, tuple | list) or len(shape) != 4 or None in shape[1:]:
            raise ValueError(
                f"The convolutions make {shape} of {('batch', *self.row_shape)}, but they must make a grid (batch, "
                "rows, columns, features) of fixed size. Leave out flattening and pooling over the whole picture."
            )
        self.features = shape[3]
        return shape[1], shape[2]

    def build(self, values_shape: Any = None, lengths_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on the inputs' shapes."""
        if self.convolutions is not None and not self.convolutions.built:
            self.convolutions.build((None, *self.row_shape))
        self.project.build((None, None, self.features))
        if self.positions:
            start = keras.initializers.RandomNormal(stddev=0.1)
            rows, columns = self.grid_shape
            self.row_vectors = self.add_weight(name="row_vectors", shape=(rows, self.units), initializer=start)
            self.column_vectors = self.add_weight(name="column_vectors", shape=(columns, self.units), initializer=start)

    def encode(self, values: Tensor, training: bool | None = None) -> Encoded:
        """Encode a batch, see `ArrayEncoder.encode`."""
        if self.convolutions is not None:
            values = with_rows(lambda pictures: self.convolutions(pictures, training=training), values)
        cells = self.project(ops.cast(values, self.compute_dtype))  # (batch, rows, columns, units)
        if self.positions:
            cells = cells + ops.cast(self.row_vectors[:, None] + self.column_vectors, cells.dtype)
        rows, columns = self.grid_shape
        batch = ops.shape(cells)[0]
        cells = ops.reshape(cells, (batch, rows * columns, self.units))
        cells = self.cell_dropout(cells, training=training)
        return Encoded(cells, ops.ones((batch, rows * columns), dtype="bool"), (ops.mean(cells, axis=1),))

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns."""
        rows, columns = self.grid_shape
        return Encoded((None, rows * columns, self.units), (None, rows * columns), ((None, self.units),))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        layer = self.filters is None
        return {
            **super().get_config(),
            "shape": list(self.row_shape),
            "units": self.units,
            "convolutions": keras.saving.serialize_keras_object(self.convolutions) if layer else self.filters,
            "positions": self.positions,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GridEncoder":
        """Create an encoder from the result of `get_config`."""
        return cls(**{**config, "convolutions": keras.saving.deserialize_keras_object(config["convolutions"])})
