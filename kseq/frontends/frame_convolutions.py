"""Convolutions over time, which reduce the frame rate."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.empty_batches import with_rows
from kseq.frontends.checks import check_input, check_shape
from kseq.inner_layers import freeze_inner_layers
from kseq.masking import mask_from_lengths, zero_padding
from kseq.numbers import ids, whole
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class FrameConvolutions(keras.layers.Layer, metaclass=ShortHelp):
    """A stack of convolutions over time, or over time and height, with strides.

        y_t = activation(b + sum_k W_k x_{s t + k}),    k from -(size - 1) // 2 to size // 2,  s the stride

    A row's output depends neither on the other rows nor on the batch's width: each convolution sees zeros beyond the
    row's last frame, whatever the padding holds, and its output frame `t` is always centred at frame `s * t` of its
    input.

    Args:
        filters: Output channels of each convolution, one number per convolution.
        kernel_size: Size of the kernels in frames; with `height_strides` also their height.
        strides: Strides over time: one number for all convolutions, or one for each.
        height_strides: None treats the features as channels. Otherwise the features are an axis of their own, such as
            the rows of a picture or the bands of a spectrogram, and the kernels slide over it with these strides: one
            number for all convolutions, or one for each.
        activation: Function applied after each convolution, by name or as a callable.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, features)`.
        lengths: int `(batch,)`, the number of real frames in each row.

    Returns:
        Float `(batch, frames(time), channels)`, zero after the last real frame; `frames` divides by each stride in turn
        and rounds up. With `height_strides`, `channels` is the last number of filters times the remaining height.

    Raises:
        ValueError: If `filters` is empty, a number is below 1, or the number of strides is not that of convolutions;
            when called, if a shape or the dtype of the lengths is wrong.

    Example:
        >>> layer = kseq.frontends.FrameConvolutions((32, 64), kernel_size=3, strides=(2, 1))
        >>> layer(np.ones((2, 11, 8)), np.array([11, 4])).shape
        (2, 6, 64)

    Reference: D. Amodei et al., "Deep Speech 2: end-to-end speech recognition in English and Mandarin", 2015.
    """

    def __init__(
        self,
        filters: Sequence[int],
        *,
        kernel_size: int = 3,
        strides: int | Sequence[int] = 2,
        height_strides: int | Sequence[int] | None = None,
        activation: Any = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size = tuple(ids("filters", filters).tolist()), whole("kernel_size", kernel_size)
        if not self.filters or min([*self.filters, self.kernel_size]) < 1:
            raise ValueError(
                f"filters={list(self.filters)} and kernel_size={kernel_size}, but expected at least one convolution, "
                "and numbers of at least 1."
            )
        self.strides = _one_each(strides, "strides", len(self.filters))
        flat = height_strides is None
        self.height_strides = None if flat else _one_each(height_strides, "height_strides", len(self.filters))
        self.activation = keras.activations.get(activation)
        self.convolutions = [self._convolution(index) for index in range(len(self.filters))]
        freeze_inner_layers(self)

    def _convolution(self, index: int) -> keras.layers.Layer:
        options = {"activation": self.activation, "dtype": self.dtype_policy}
        if self.height_strides is None:
            return keras.layers.Conv1D(self.filters[index], self.kernel_size, self.strides[index], **options)
        strides = (self.strides[index], self.height_strides[index])
        return keras.layers.Conv2D(self.filters[index], self.kernel_size, strides, **options)

    @property
    def subsampling(self) -> int:
        """Input frames per output frame: output `t` is centred at input frame `t * subsampling`."""
        product = 1
        for stride in self.strides:
            product *= stride
        return product

    def frames(self, lengths: Any) -> Any:
        """Return the number of output frames for `lengths` input frames, an int or an int tensor."""
        for stride in self.strides:
            lengths = (lengths + stride - 1) // stride
        return lengths

    def build(self, values_shape: tuple, lengths_shape: Any = None) -> None:
        """Create the kernels."""
        check_shape(self, values_shape)
        channels, height = (values_shape[-1], None) if self.height_strides is None else (1, values_shape[-1])
        for convolution, filters in zip(self.convolutions, self.filters, strict=True):
            convolution.build((None, None, channels) if height is None else (None, None, None, channels))
            channels = filters

    def call(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Run the convolutions."""
        check_input(self, values, lengths)
        return with_rows(self._convolve, values, lengths)

    def _convolve(self, values: Tensor, lengths: Tensor) -> Tensor:
        around = ((self.kernel_size - 1) // 2, self.kernel_size // 2)  # "same" would depend on the batch's width
        if self.height_strides is not None:
            values = values[..., None]  # (batch, time, height, 1)
        values = zero_padding(values, mask_from_lengths(lengths, ops.shape(values)[1]))
        for convolution, stride in zip(self.convolutions, self.strides, strict=True):
            values = ops.pad(values, [(0, 0), *([around] * (len(values.shape) - 2)), (0, 0)])
            values, lengths = convolution(values), (lengths + stride - 1) // stride
            values = zero_padding(values, mask_from_lengths(lengths, ops.shape(values)[1]))
        if self.height_strides is None:
            return values
        batch, time, height, channels = ops.shape(values)
        return ops.reshape(values, (batch, time, height * channels))

    def compute_output_shape(self, values_shape: tuple, lengths_shape: Any = None) -> tuple:
        """Return the shape of what `call` returns."""
        check_shape(self, values_shape)
        batch, time, height = values_shape
        for stride in self.height_strides or ():
            height = (height + stride - 1) // stride
        rows = 1 if self.height_strides is None else height
        return batch, None if time is None else self.frames(time), rows * self.filters[-1]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": list(self.filters),
            "kernel_size": self.kernel_size,
            "strides": list(self.strides),
            "height_strides": None if self.height_strides is None else list(self.height_strides),
            "activation": keras.activations.serialize(self.activation),
        }


def _one_each(numbers: Any, name: str, count: int) -> tuple[int, ...]:
    """Return one number for each convolution."""
    several = isinstance(numbers, Iterable) and getattr(numbers, "shape", None) != ()
    numbers = tuple(ids(name, numbers).tolist()) if several else (whole(name, numbers),) * count
    if len(numbers) != count or min(numbers) < 1:
        raise ValueError(
            f"{name}={list(numbers)} for {count} convolutions: give one number for all, or one for each, at least 1."
        )
    return numbers
