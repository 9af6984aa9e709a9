"""Sinusoidal encodings of positions."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.layers.position_offsets import check_offset, check_values, positions_of
from kseq.numbers import real
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class SinusoidalPositionalEncoding(keras.layers.Layer, metaclass=ShortHelp):
    """Adds sines and cosines of the position to each step.

        encoding(position, 2 i)     = sin(position / max_wavelength ** (2 i / dim))
        encoding(position, 2 i + 1) = cos(position / max_wavelength ** (2 i / dim))

    Args:
        max_wavelength: Longest wavelength, divided by 2 pi.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, dim)`, or `(batch, dim)` for one step. Their Keras mask is passed on.
        offset: Position of the first step: an int, or an int tensor of shape `()`, or `(batch,)` with one for each row.

    Returns:
        The sum, of the shape of `values`, in the layer's compute dtype.

    Raises:
        ValueError: If an argument has a wrong shape or dtype, or the offset is a negative int.

    Example:
        >>> encoding = kseq.layers.SinusoidalPositionalEncoding()
        >>> encoding(np.zeros((2, 7, 16), "float32")).shape
        (2, 7, 16)
        >>> encoding(np.zeros((2, 16), "float32"), offset=6).shape  # the last of these steps
        (2, 16)

    Reference: A. Vaswani et al., "Attention is all you need", 2017.
    """

    def __init__(self, max_wavelength: float = 10_000.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.max_wavelength = real("max_wavelength", max_wavelength)
        if self.max_wavelength <= 0:
            raise ValueError(f"max_wavelength={max_wavelength}, but it must be above 0.")
        self.supports_masking = True
        self.built = True

    def call(self, values: Tensor, offset: Any = 0) -> Tensor:
        """Add the encodings."""
        check_values("SinusoidalPositionalEncoding", values)
        offset = check_offset("SinusoidalPositionalEncoding", offset)
        single = len(values.shape) == 2
        steps = values[:, None] if single else values
        encodings = ops.cast(self._encodings(positions_of(steps, offset), steps.shape[-1]), self.compute_dtype)
        summed = steps + encodings
        return summed[:, 0] if single else summed

    def _encodings(self, positions: Tensor, dim: int) -> Tensor:
        pairs = ops.arange((dim + 1) // 2, dtype="float32")
        frequencies = self.max_wavelength ** (-2.0 * pairs / dim)
        angles = ops.cast(positions, "float32")[..., None] * frequencies  # (..., time, dim / 2)
        waves = ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1)  # (..., time, dim / 2, 2)
        return ops.reshape(waves, (*ops.shape(positions), 2 * pairs.shape[0]))[..., :dim]

    def compute_output_shape(self, values_shape: tuple, offset_shape: Any = None) -> tuple:
        """Return the shape of the values."""
        return values_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "max_wavelength": self.max_wavelength}
