"""The contract of encoders of arrays of numbers, such as vectors and pictures."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.models.encoders.token_encoder import Encoded
from kseq.numbers import ids
from kseq.short_help import ShortHelp


class ArrayEncoder(keras.layers.Layer, metaclass=ShortHelp):
    """The base class of encoders that read one array of numbers for each row, of a fixed shape, for a `Seq2Seq`.

    A subclass defines `encode`, `encoded_shape` and `get_config`, and `build` so that it can be called without shapes.
    A row's answer must not depend on the other rows. `tests/contracts/test_encoder_contract.py` checks this of every
    encoder of kseq.

    Args:
        row_shape: Shape of a row's array.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        row_shape: Shape of a row's array.
        characters: None: there are no words.
        subsampling: 1: there are no steps.
    """

    characters: Any = None
    subsampling: int = 1

    def __init__(self, row_shape: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.row_shape = tuple(ids("shape", row_shape).tolist())
        if not self.row_shape or min(self.row_shape) < 1:
            raise ValueError(f"shape={row_shape!r}, but {type(self).__name__} needs sizes of at least 1.")

    def call(self, values: Tensor, lengths: None = None, training: bool | None = None) -> Encoded:
        """Encode a batch.

        Args:
            values: float or int `(batch, *row_shape)`.
            lengths: None: unlike rows of tokens, arrays are never padded.
            training: Whether dropout is on.

        Raises:
            ValueError: If the arrays have another shape, or there are lengths.
        """
        if lengths is not None:
            raise ValueError(f"{type(self).__name__} got lengths={lengths!r}, but reads arrays without padding.")
        if len(values.shape) != 1 + len(self.row_shape) or any(
            size not in (None, own) for size, own in zip(values.shape[1:], self.row_shape, strict=True)
        ):
            raise ValueError(
                f"{type(self).__name__} reads arrays {('batch', *self.row_shape)}, but got shape {tuple(values.shape)}."
            )
        return self.encode(ops.cast(values, self.compute_dtype), training=training)

    def encode(self, values: Tensor, training: bool | None = None) -> Encoded:
        """Return the `Encoded` of `values` `(batch, *row_shape)`, in the layer's compute dtype; all steps are real."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(values, training).")

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns, with None for the batch."""
        raise NotImplementedError(f"{type(self).__name__} must define encoded_shape().")
