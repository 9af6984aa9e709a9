"""What makes of many frames fewer ones, before a recurrent encoder reads them."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.masking import mask_from_lengths, zero_padding


@keras.saving.register_keras_serializable(package="kseq")
class FrameStacking(keras.layers.Layer):
    """Joins each `count` frames that follow one another to one: `y_t = [x_{nt}; x_{nt+1}; ... x_{nt+n-1}]`.

    A row whose frames are no multiple of `count` is filled up with zeros, whatever its padding holds.

    Args:
        count: Frames in a stack, at least 1.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, features)`.
        lengths: int `(batch,)`, the real frames of each row.

    Returns:
        Float `(batch, ceil(time / count), count * features)`. `frames` says how many are real.

    Raises:
        ValueError: If `count` is below 1.

    Example:
        >>> kseq.models.FrameStacking(3)(np.ones((2, 10, 8)), np.array([10, 4])).shape
        (2, 4, 24)

    Reference: H. Sak, A. Senior, K. Rao, F. Beaufays, "Fast and accurate recurrent neural network acoustic models for
    speech recognition", 2015.
    """

    def __init__(self, count: int, **kwargs: Any):
        super().__init__(**kwargs)
        if count < 1:
            raise ValueError(f"count={count}, but a stack has at least 1 frame.")
        self.count = count

    @property
    def subsampling(self) -> int:
        """How many frames become one: what comes out at `t` begins at frame `t * subsampling`."""
        return self.count

    def frames(self, lengths: Any) -> Any:
        """Return how many frames are left of `lengths`, an int or an int tensor."""
        return (lengths + self.count - 1) // self.count

    def call(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Stack the frames."""
        values = zero_padding(values, mask_from_lengths(lengths, ops.shape(values)[1]))
        batch, time, features = ops.shape(values)
        frames = self.frames(time)
        values = ops.pad(values, [(0, 0), (0, frames * self.count - time), (0, 0)])
        return ops.reshape(values, (batch, frames, self.count * features))

    def compute_output_shape(self, values_shape: tuple, lengths_shape: Any = None) -> tuple:
        """Return the shape of the stacks."""
        del lengths_shape
        batch, time, features = values_shape
        return batch, None if time is None else self.frames(time), self.count * features

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable(package="kseq")
class FrameConvolutions(keras.layers.Layer):
    """Convolutions over time, or over time and height, each of which may leave out frames.

        y_t = activation(b + sum_k W_k x_{s t + k}),    k from -(size - 1) // 2 to size // 2,  s the stride

    What a row's neighbours hold never comes into it, and where it stands in a batch makes no difference: beyond its
    last frame there are zeros for each convolution, whatever the padding holds, and frame `t` of a convolution is
    always centred at frame `s * t` of its input.

    Args:
        filters: Channels of each convolution; their number is that of convolutions, at least 1.
        kernel_size: Frames, and with `height_strides` rows, that one convolution sees.
        strides: Of time, for all convolutions or for each.
        height_strides: None: the features are channels. Numbers: they are the heights of a picture, or the bands of a
            spectrogram, and kernels slide over them as well, with these strides for all convolutions or for each.
        activation: Function after each convolution, by name or as a callable.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, features)`.
        lengths: int `(batch,)`, the real frames of each row.

    Returns:
        Float `(batch, frames(time), channels)`, zero after the last real one; `frames` divides by each stride and
        rounds up. With `height_strides` the channels are those of the last convolution times the rows that are left.

    Raises:
        ValueError: If there is no convolution, a number is below 1, or strides are not as many as convolutions.

    Example:
        >>> layer = kseq.models.FrameConvolutions((32, 64), kernel_size=3, strides=(2, 1))
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
        self.filters, self.kernel_size = tuple(filters), kernel_size
        if not self.filters or min([*self.filters, kernel_size]) < 1:
            raise ValueError(
                f"filters={list(self.filters)} and kernel_size={kernel_size}, but there must be at least one "
                "convolution, and all numbers must be 1 or more."
            )
        self.strides = _for_each(strides, "strides", len(self.filters))
        flat = height_strides is None
        self.height_strides = None if flat else _for_each(height_strides, "height_strides", len(self.filters))
        self.activation = keras.activations.get(activation)
        self.convolutions = [self._convolution(index) for index in range(len(self.filters))]

    def _convolution(self, index: int) -> keras.layers.Layer:
        options = {"activation": self.activation, "dtype": self.dtype_policy}
        if self.height_strides is None:
            return keras.layers.Conv1D(self.filters[index], self.kernel_size, self.strides[index], **options)
        strides = (self.strides[index], self.height_strides[index])
        return keras.layers.Conv2D(self.filters[index], self.kernel_size, strides, **options)

    @property
    def subsampling(self) -> int:
        """How many frames become one: what comes out at `t` is centred at frame `t * subsampling`."""
        product = 1
        for stride in self.strides:
            product *= stride
        return product

    def frames(self, lengths: Any) -> Any:
        """Return how many frames are left of `lengths`, an int or an int tensor."""
        for stride in self.strides:
            lengths = (lengths + stride - 1) // stride
        return lengths

    def build(self, values_shape: tuple, lengths_shape: Any = None) -> None:
        """Create the kernels."""
        del lengths_shape
        channels, height = (values_shape[-1], None) if self.height_strides is None else (1, values_shape[-1])
        for convolution, filters in zip(self.convolutions, self.filters, strict=True):
            convolution.build((None, None, channels) if height is None else (None, None, None, channels))
            channels = filters

    def call(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Run the convolutions."""
        if values.shape[0] == 0:
            return ops.zeros(self.compute_output_shape(values.shape), dtype=self.compute_dtype)
        if values.shape[0] is None:  # TensorFlow's convolutions give no rows a wrong shape: have them see one
            rows = ops.shape(values)[0]
            none = ops.cast(ops.equal(rows, 0), "int32")
            values = ops.pad(values, [(0, none), (0, 0), (0, 0)])
            return self._convolved(values, ops.pad(lengths, [(0, none)]))[:rows]
        return self._convolved(values, lengths)

    def _convolved(self, values: Tensor, lengths: Tensor) -> Tensor:
        around = ((self.kernel_size - 1) // 2, self.kernel_size // 2)  # not "same", which goes by the batch's width
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
        del lengths_shape
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


def _for_each(numbers: Any, name: str, count: int) -> tuple[int, ...]:
    """Return one number for each convolution."""
    numbers = (numbers,) * count if isinstance(numbers, int) else tuple(numbers)
    if len(numbers) != count or min(numbers) < 1:
        raise ValueError(
            f"{name}={list(numbers)} for {count} convolutions: give one number, or one for each, of at least 1."
        )
    return numbers
