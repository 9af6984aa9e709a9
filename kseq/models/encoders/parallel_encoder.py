"""Several encoders side by side."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.models.encoders.token_encoder import Encoded, TokenEncoder


@keras.saving.register_keras_serializable(package="kseq")
class ParallelEncoder(TokenEncoder):
    """Reads the same tokens with several encoders, such as a recurrent and a convolutional one.

    The values of the encoders are concatenated, step by step. Each encoder has its own embeddings. Those that have a
    `CharacterEncoder` read the characters of the words, the others the tokens alone.

    A `SequenceClassifier` around it pools by "max", "mean" or "attention" best: with "last" it takes the values at the
    last token, where a backward direction has read that token alone.

    Args:
        encoders: At least one encoder; all know the same ids. Each computes in its own precision.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: int `(batch, time)`.
        lengths: int `(batch,)`, the number of real tokens in each row. Padding never changes an answer.
        characters: int `(batch, time, characters)`, if one of the encoders reads them.
        character_lengths: int `(batch, time)`, the number of real characters in each word.
        training: Whether dropout is on.

    Returns:
        `Encoded(values (batch, time, sum of the encoders' dims), mask, states)`, the states of all encoders.

    Raises:
        ValueError: If there is no encoder, or they read other ids or different numbers of steps.

    Example:
        >>> recurrent = kseq.models.Encoder(5000, 64, kseq.cells.LSTMCell(80))
        >>> convolutional = kseq.models.ConvolutionalEncoder(5000, 64, 50)
        >>> encoder = kseq.models.ParallelEncoder([recurrent, convolutional])
        >>> encoder(np.ones((2, 7), "int32"), np.array([7, 3])).values.shape
        (2, 7, 310)
    """

    def __init__(self, encoders: Sequence[TokenEncoder], **kwargs: Any):
        encoders = list(encoders)
        if not encoders:
            raise ValueError("encoders=[], but ParallelEncoder needs at least one encoder.")
        for encoder in encoders:
            if not hasattr(encoder, "vocabulary_size"):
                name = type(encoder).__name__
                raise ValueError(f"The encoders of a ParallelEncoder read the same tokens, but a {name} reads none.")
        super().__init__(encoders[0].vocabulary_size, **kwargs)
        spelling = [encoder for encoder in encoders if encoder.characters is not None]
        _check_equal("vocabulary_size", [encoder.vocabulary_size for encoder in encoders])
        _check_equal("subsampling", [encoder.subsampling for encoder in encoders])
        _check_equal("characters.vocabulary_size", [encoder.characters.vocabulary_size for encoder in spelling])
        self.encoders = encoders
        freeze_inner_layers(self)

    @property
    def characters(self) -> Any:
        """The `CharacterEncoder` of the first encoder that has one, or None."""
        return next((encoder.characters for encoder in self.encoders if encoder.characters is not None), None)

    @property
    def causal(self) -> bool:
        """Whether all encoders are causal."""
        return all(encoder.causal for encoder in self.encoders)

    @property
    def subsampling(self) -> int:
        """Number of tokens for each step of the values."""
        return self.encoders[0].subsampling

    def build(self, *shapes: Any) -> None:
        """Create the weights; they do not depend on the inputs' shapes."""
        for encoder in self.encoders:
            if not encoder.built:  # a part loaded from a file is built already
                encoder.build()

    def call(
        self,
        tokens: Tensor,
        lengths: Tensor,
        characters: Tensor | None = None,
        character_lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Encoded:
        """Encode a batch, see `TokenEncoder.call`."""
        spelt = () if characters is None else (characters, character_lengths)
        parts = [
            encoder(tokens, lengths, *(() if encoder.characters is None else spelt), training=training)
            for encoder in self.encoders
        ]
        values = ops.concatenate([ops.cast(part.values, self.compute_dtype) for part in parts], axis=-1)
        return Encoded(values, parts[0].mask, tuple(state for part in parts for state in part.states))

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns."""
        parts = [encoder.encoded_shape() for encoder in self.encoders]
        dim = sum(part.values[-1] for part in parts)
        return Encoded((None, None, dim), (None, None), tuple(state for part in parts for state in part.states))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "encoders": [keras.saving.serialize_keras_object(encoder) for encoder in self.encoders],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ParallelEncoder":
        """Create an encoder from the result of `get_config`."""
        return cls(
            **{**config, "encoders": [keras.saving.deserialize_keras_object(each) for each in config["encoders"]]}
        )


def _check_equal(name: str, values: list) -> None:
    if len(set(values)) > 1:
        raise ValueError(f"The encoders of a ParallelEncoder have {name} {values}, but expected one number for all.")
