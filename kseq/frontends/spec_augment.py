"""SpecAugment: masks and warps of spectrograms in training."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, random_bits
from kseq.frontends.checks import check_input, check_shape
from kseq.masking import mask_from_lengths, zero_padding
from kseq.numbers import real, whole
from kseq.short_help import ShortHelp

MANTISSA = 2**23 - 1  # the bits of a float32 from which a uniform number is made


@keras.saving.register_keras_serializable(package="kseq")
class SpecAugment(keras.layers.Layer, metaclass=ShortHelp):
    """Masks random bands and random stretches of time of each row in training; otherwise the values pass unchanged.

    A mask over the bands has a width from 0 to `frequency_width` and lies anywhere; one over time has a width from 0 to
    `time_width`, or to `time_share` of the row's length if that is less, and lies among its real frames. All are drawn
    uniformly, for each row anew. As a front end it stands after `LogMelSpectrogram`:
    `CTCRecognizer(1, ..., front_end=[LogMelSpectrogram(16000), SpecAugment(), FrameStacking(3)])`.

    Args:
        frequency_masks: Number of masks over the bands in a row.
        frequency_width: Largest width of one, in bands.
        time_masks: Number of masks over time in a row.
        time_width: Largest width of one, in frames.
        time_share: Largest width of a mask over time, as a share of the row's length, from 0 to 1.
        time_warp: Largest distance, in frames, by which a random frame moves; the frames before and after are stretched
            and shrunk by linear interpolation, and the row keeps its length. Rows of at most twice this length are not
            warped. 0: no warp.
        fill: Value under the masks; None: the mean of the row's real values.
        seed: Seed of the random numbers; None: a random one.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, features)`.
        lengths: int `(batch,)`, the number of real frames in each row.
        training: Whether to mask; Keras gives it inside a model.

    Returns:
        Float `(batch, time, features)`, zero in the padding. `frames(lengths)` are the lengths.

    Raises:
        ValueError: If an option is out of range, or a shape or the dtype of the lengths is wrong.

    Example:
        >>> layer = kseq.frontends.SpecAugment(frequency_width=10, time_width=20)
        >>> layer(np.ones((2, 100, 40)), np.array([100, 60]), training=True).shape
        (2, 100, 40)

    Reference: D. Park, W. Chan, Y. Zhang, C. Chiu, B. Zoph, E. Cubuk, Q. Le, "SpecAugment: a simple data augmentation
    method for automatic speech recognition", 2019.
    """

    def __init__(
        self,
        *,
        frequency_masks: int = 2,
        frequency_width: int = 27,
        time_masks: int = 2,
        time_width: int = 100,
        time_share: float = 1.0,
        time_warp: int = 0,
        fill: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        counts = {
            "frequency_masks": frequency_masks,
            "frequency_width": frequency_width,
            "time_masks": time_masks,
            "time_width": time_width,
            "time_warp": time_warp,
        }
        for name, value in counts.items():
            setattr(self, name, whole(name, value))
            if value < 0:
                raise ValueError(f"{name}={value}, but it must be at least 0.")
        self.time_share, self.fill = real("time_share", time_share), None if fill is None else real("fill", fill)
        if not 0 <= self.time_share <= 1:
            raise ValueError(f"time_share={time_share}, but a share is from 0 to 1.")
        self.seed = None if seed is None else whole("seed", seed)
        self.seeds = keras.random.SeedGenerator(self.seed)

    @property
    def subsampling(self) -> int:
        """Input frames per output frame."""
        return 1

    def frames(self, lengths: Any) -> Any:
        """Return `lengths`: each frame stays."""
        return lengths

    def call(self, values: Tensor, lengths: Tensor, training: bool | None = None) -> Tensor:
        """Mask the values in training."""
        check_input(self, values, lengths)
        values = zero_padding(values, mask_from_lengths(lengths, ops.shape(values)[1]))
        if not training:
            return values
        lengths = ops.cast(ops.clip(lengths, 0, ops.shape(values)[1]), "float32")
        if self.time_warp:
            values = self._warped(values, lengths)
        batch, time, bands = ops.shape(values)
        of_band = self._masked(self.frequency_masks, batch, bands, self.frequency_width, ops.full((batch,), bands))
        widest = ops.minimum(float(self.time_width), ops.floor(self.time_share * lengths))
        of_time = self._masked(self.time_masks, batch, time, widest, lengths)
        masked = ops.logical_or(of_band[:, None, :], of_time[:, :, None])  # (batch, time, bands)
        filled = ops.where(masked, self._fill(values, lengths), values)
        return zero_padding(filled, mask_from_lengths(ops.cast(lengths, "int32"), time))

    def _fill(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return the value under the masks, `(batch, 1, 1)` or a number."""
        if self.fill is not None:
            return ops.cast(self.fill, values.dtype)
        count = ops.maximum(lengths, 1.0)[:, None, None] * ops.cast(ops.shape(values)[2], "float32")
        total = ops.sum(ops.cast(values, "float32"), axis=(1, 2), keepdims=True)
        return ops.cast(total / count, values.dtype)

    def _uniform(self, shape: tuple) -> Tensor:
        """Return random numbers in [0, 1), the same whether XLA compiles them or not."""
        bits = ops.bitwise_and(random_bits(shape, self.seeds), np.uint32(MANTISSA))
        return ops.cast(bits, "float32") / (MANTISSA + 1.0)

    def _masked(self, count: int, batch: Any, size: Any, widest: Any, lengths: Tensor) -> Tensor:
        """Return which places are under one of `count` masks, bool `(batch, size)`."""
        places = ops.arange(size, dtype="float32")
        lengths = ops.cast(lengths, "float32")[:, None]
        widest = ops.broadcast_to(ops.reshape(ops.cast(widest, "float32"), (-1, 1)), (batch, 1))
        widest = ops.minimum(widest, lengths)
        shape = (batch, max(count, 1))
        widths = ops.floor(self._uniform(shape) * (widest + 1.0))  # (batch, count), from 0 to the widest
        starts = ops.floor(self._uniform(shape) * (lengths - widths + 1.0))
        inside = ops.logical_and(places >= starts[..., None], places < (starts + widths)[..., None])
        inside = ops.any(inside, axis=1)
        return inside if count else ops.zeros_like(inside)

    def _warped(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return the values with one frame of each row moved, and those around it interpolated."""
        distance, time = float(self.time_warp), ops.shape(values)[1]
        batch = ops.shape(values)[0]
        last = ops.maximum(lengths - 1.0, 0.0)[:, None]
        start = distance + ops.floor(self._uniform((batch, 1)) * (last - 2.0 * distance + 1.0))
        moved = start + ops.floor(self._uniform((batch, 1)) * (2.0 * distance + 1.0)) - distance
        moved = ops.clip(moved, 1.0, ops.maximum(last - 1.0, 1.0))  # the first and the last frame stay
        steps = ops.arange(time, dtype="float32")[None]
        before = steps * start / ops.maximum(moved, 1.0)
        after = last - (last - steps) * (last - start) / ops.maximum(last - moved, 1.0)
        source = ops.where(steps <= moved, before, after)
        warps = ops.logical_and(lengths[:, None] > 2.0 * distance, steps <= last)
        source = ops.clip(ops.where(warps, source, steps), 0.0, ops.cast(time - 1, "float32"))
        low = ops.floor(source)
        share = ops.cast(source - low, values.dtype)[..., None]
        low = ops.cast(low, "int32")
        high = ops.minimum(low + 1, time - 1)
        at_low, at_high = (ops.take_along_axis(values, place[..., None], axis=1) for place in (low, high))
        return at_low + share * (at_high - at_low)

    def compute_output_shape(self, values_shape: tuple, lengths_shape: Any = None) -> tuple:
        """Return the shape of the values."""
        check_shape(self, values_shape)
        return tuple(values_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("frequency_masks", "frequency_width", "time_masks", "time_width", "time_share", "time_warp", "fill")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}, "seed": self.seed}
