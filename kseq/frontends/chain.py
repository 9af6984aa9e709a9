"""A sequence of front ends."""

from collections.abc import Sequence
from typing import Any

import keras

from kseq.backend import Tensor
from kseq.frontends.checks import check_front_ends
from kseq.inner_layers import freeze_inner_layers, hand_down_precision
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class FrontEndChain(keras.layers.Layer, metaclass=ShortHelp):
    """Applies front ends one after the other, such as `LogMelSpectrogram` and `FrameConvolutions`, as one front end.

    A `kseq.models.CTCRecognizer` builds one from a list given as its `front_end`.

    Args:
        front_ends: Front ends, at least one. See `kseq.frontends` for the methods a front end has.
        **kwargs: Arguments of `keras.layers.Layer`. A `dtype` applies to all front ends; without it each has its own.

    Call arguments:
        values: Float `(batch, time, features)`.
        lengths: int `(batch,)`, the number of real frames in each row.

    Returns:
        What the last front end returns, float `(batch, frames(time), channels)`.

    Raises:
        ValueError: If `front_ends` is empty, or one of them has weights of another precision than `dtype`.
        TypeError: If one of them is no front end.

    Example:
        >>> mel = kseq.frontends.LogMelSpectrogram(8000)
        >>> layer = kseq.frontends.FrontEndChain([mel, kseq.frontends.FrameStacking(3)])
        >>> layer(np.ones((2, 4000, 1)), np.array([4000, 800])).shape
        (2, 17, 120)
    """

    def __init__(self, front_ends: Sequence[keras.layers.Layer], **kwargs: Any):
        super().__init__(**kwargs, autocast=False)  # each front end casts for itself: a waveform needs float32
        if isinstance(front_ends, keras.layers.Layer):
            raise TypeError(f"front_ends must be a list, but got a {type(front_ends).__name__} alone. Write [layer].")
        self.front_ends: list[Any] = list(front_ends)
        if not self.front_ends:
            raise ValueError("The list of front ends is empty. Give at least one front end, or None instead of a list.")
        check_front_ends(self.front_ends)
        if kwargs.get("dtype") is not None:
            for layer in self.front_ends:
                hand_down_precision(layer, self)
        freeze_inner_layers(self)

    @property
    def subsampling(self) -> int:
        """Input frames per output frame."""
        product = 1
        for layer in self.front_ends:
            product *= layer.subsampling
        return product

    def frames(self, lengths: Any) -> Any:
        """Return the number of output frames for `lengths` input frames, an int or an int tensor."""
        for layer in self.front_ends:
            lengths = layer.frames(lengths)
        return lengths

    def build(self, values_shape: tuple, lengths_shape: Any = None) -> None:
        """Create the weights."""
        for layer in self.front_ends:
            if not layer.built:
                layer.build(values_shape)
            values_shape = layer.compute_output_shape(values_shape)

    def call(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Apply the front ends."""
        for layer in self.front_ends:
            values, lengths = layer(values, lengths), layer.frames(lengths)
        return values

    def compute_output_shape(self, values_shape: tuple, lengths_shape: Any = None) -> tuple:
        """Return the shape of what `call` returns."""
        for layer in self.front_ends:
            values_shape = layer.compute_output_shape(values_shape)
        return values_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.front_ends]
        return {**super().get_config(), "front_ends": layers}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "FrontEndChain":
        """Create a chain from the result of `get_config`."""
        layers = keras.saving.deserialize_keras_object(config["front_ends"], custom_objects=custom_objects)
        chain = cls(**{**config, "dtype": None, "front_ends": layers})  # the front ends have their own in the config
        chain.dtype_policy = keras.dtype_policies.get(config.get("dtype"))
        return chain
