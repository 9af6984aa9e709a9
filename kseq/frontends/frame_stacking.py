"""Stacks of neighbouring frames, which reduce the frame rate."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.frontends.checks import check_input, check_shape
from kseq.masking import mask_from_lengths, zero_padding
from kseq.numbers import whole
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class FrameStacking(keras.layers.Layer, metaclass=ShortHelp):
    """Concatenates every `n = count` consecutive frames: `y_t = [x_{nt}; x_{nt+1}; ... x_{nt+n-1}]`.

    If a row's length is not a multiple of `count`, zeros complete its last stack, whatever the padding holds.

    Args:
        count: Frames in a stack, at least 1.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, features)`.
        lengths: int `(batch,)`, the number of real frames in each row.

    Returns:
        Float `(batch, ceil(time / count), count * features)`. `frames(lengths)` of them are real.

    Raises:
        ValueError: If `count` is below 1, or a shape or the dtype of the lengths is wrong.

    Example:
        >>> kseq.frontends.FrameStacking(3)(np.ones((2, 10, 8)), np.array([10, 4])).shape
        (2, 4, 24)

    Reference: H. Sak, A. Senior, K. Rao, F. Beaufays, "Fast and accurate recurrent neural network acoustic models for
    speech recognition", 2015.
    """

    def __init__(self, count: int, **kwargs: Any):
        super().__init__(**kwargs)
        count = whole("count", count)
        if count < 1:
            raise ValueError(f"count={count}, but a stack has at least 1 frame.")
        self.count = count

    @property
    def subsampling(self) -> int:
        """Input frames per output frame: output `t` begins at input frame `t * subsampling`."""
        return self.count

    def frames(self, lengths: Any) -> Any:
        """Return the number of output frames for `lengths` input frames, an int or an int tensor."""
        return (lengths + self.count - 1) // self.count

    def call(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Stack the frames."""
        check_input(self, values, lengths)
        values = zero_padding(values, mask_from_lengths(lengths, ops.shape(values)[1]))
        batch, time, features = ops.shape(values)
        frames = self.frames(time)
        values = ops.pad(values, [(0, 0), (0, frames * self.count - time), (0, 0)])
        return ops.reshape(values, (batch, frames, self.count * features))

    def compute_output_shape(self, values_shape: tuple, lengths_shape: Any = None) -> tuple:
        """Return the shape of what `call` returns."""
        check_shape(self, values_shape)
        batch, time, features = values_shape
        return batch, None if time is None else self.frames(time), self.count * features

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "count": self.count}
