"""Front ends, one after the other."""

from collections.abc import Sequence
from typing import Any

import keras

from kseq.backend import Tensor


@keras.saving.register_keras_serializable(package="kseq")
class FrontEndChain(keras.layers.Layer):
    """Runs front ends one after the other, such as `LogMelSpectrogram` and `FrameConvolutions`, as one front end.

    A recognizer makes one of the list that it is given as its `front_end`.

    Args:
        front_ends: Layers with what a front end has: `call(values, lengths)`, `frames(lengths)`, `subsampling` and
            `compute_output_shape`; at least one.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, time, features)`.
        lengths: int `(batch,)`, the real frames of each row.

    Returns:
        What the last front end returns, float `(batch, frames(time), channels)`.

    Raises:
        ValueError: If there is no front end.

    Example:
        >>> mel = kseq.models.LogMelSpectrogram(8000)
        >>> layer = kseq.models.FrontEndChain([mel, kseq.models.FrameStacking(3)])
        >>> layer(np.ones((2, 4000, 1)), np.array([4000, 800])).shape
        (2, 17, 120)
    """

    def __init__(self, front_ends: Sequence[keras.layers.Layer], **kwargs: Any):
        super().__init__(**kwargs, autocast=False)  # each casts what it is given itself: a waveform needs float32
        self.front_ends: list[Any] = list(front_ends)
        if not self.front_ends:
            raise ValueError("The list of front ends is empty. Give at least one, or no list but None.")

    @property
    def subsampling(self) -> int:
        """How many frames become one."""
        product = 1
        for layer in self.front_ends:
            product *= layer.subsampling
        return product

    def frames(self, lengths: Any) -> Any:
        """Return how many frames are left of `lengths`, an int or an int tensor."""
        for layer in self.front_ends:
            lengths = layer.frames(lengths)
        return lengths

    def build(self, values_shape: tuple, lengths_shape: Any = None) -> None:
        """Create the weights."""
        del lengths_shape
        for layer in self.front_ends:
            if not layer.built:
                layer.build(values_shape)
            values_shape = layer.compute_output_shape(values_shape)

    def call(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Run them."""
        for layer in self.front_ends:
            values, lengths = layer(values, lengths), layer.frames(lengths)
        return values

    def compute_output_shape(self, values_shape: tuple, lengths_shape: Any = None) -> tuple:
        """Return the shape of what `call` returns."""
        del lengths_shape
        for layer in self.front_ends:
            values_shape = layer.compute_output_shape(values_shape)
        return values_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.front_ends]
        return {**super().get_config(), "front_ends": layers}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "FrontEndChain":
        """Make a chain from `get_config`."""
        layers = keras.saving.deserialize_keras_object(config["front_ends"], custom_objects=custom_objects)
        return cls(**{**config, "front_ends": layers})
