"""A bridge: the map from an encoder's final states to a decoder's initial states."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class Bridge(keras.layers.Layer, metaclass=ShortHelp):
    """Maps an encoder's final states to a decoder's initial states: `tanh(W [s1; s2; ...] + b)`.

    Args:
        sizes: Units of each state tensor of the decoder.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        states: Tuple of tensors `(batch, units)`, those of both directions if the encoder is bidirectional.

    Returns:
        Tuple of tensors `(batch, size)`, one for each of `sizes`.
    """

    def __init__(self, sizes: list[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.sizes = list(sizes)
        self.dense = keras.layers.Dense(sum(sizes), activation="tanh", dtype=self.dtype_policy)
        freeze_inner_layers(self)

    def build(self, states_shape: Any) -> None:
        """Create the weights for states of the given shapes."""
        self.dense.build((None, sum(shape[-1] for shape in states_shape)))

    def call(self, states: tuple) -> tuple[Tensor, ...]:
        """Map the states."""
        mapped = self.dense(ops.concatenate(states, axis=-1))
        ends = [sum(self.sizes[: index + 1]) for index in range(len(self.sizes))]
        return tuple(mapped[:, end - size : end] for size, end in zip(self.sizes, ends, strict=True))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "sizes": self.sizes}
