"""The contract of encoders of token ids, and the output of every encoder."""

from typing import Any, NamedTuple

import keras

from kseq.backend import Tensor
from kseq.numbers import whole
from kseq.short_help import ShortHelp


class Encoded(NamedTuple):
    """The output of an encoder.

    Attributes:
        values: Outputs of the top layer, `(batch, time, dim)`.
        mask: Bool `(batch, time)`, True at the real steps.
        states: Summaries of each row, `(batch, units)` each. Of a recurrent encoder, the final states of the top
            layer: the forward ones, then the backward ones.
        tokens: The source's token ids, int `(batch, time)`, for decoders that copy; else None.
    """

    values: Tensor
    mask: Tensor
    states: tuple
    tokens: Any = None


class TokenEncoder(keras.layers.Layer, metaclass=ShortHelp):
    """The base class of encoders: what `Seq2Seq`, `Tagger` and `SequenceClassifier` demand of one.

    A subclass defines `call`, `encoded_shape` and `get_config`, and `build` so that it can be called without shapes.
    Its answers must not depend on the padding, which may hold any ids, nor on the other rows of the batch. A row of
    length 0 has finite values; a batch whose texts are all empty, of 0 steps, may be padded to one step.
    `tests/contracts/test_encoder_contract.py` checks this of every encoder of kseq.

    Args:
        vocabulary_size: Number of token ids.
        **kwargs: Arguments of `keras.layers.Layer`.

    Attributes:
        vocabulary_size: Number of token ids.
        characters: The `CharacterEncoder` of the words' characters, which are then inputs too; or None.
        bidirectional: Whether the two halves of the values are the outputs of a forward and of a backward direction.
        causal: Whether the values of a step depend on the steps before it, and on itself, alone.
        subsampling: Number of tokens for each step of the values; `n` tokens have `n / subsampling` steps, rounded up.
    """

    characters: Any = None
    bidirectional: bool = False
    causal: bool = False
    subsampling: int = 1

    def __init__(self, vocabulary_size: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocabulary_size = whole("vocabulary_size", vocabulary_size)

    def call(
        self,
        tokens: Tensor,
        lengths: Tensor,
        characters: Tensor | None = None,
        character_lengths: Tensor | None = None,
        training: bool | None = None,
    ) -> Encoded:
        """Encode a batch.

        Args:
            tokens: int `(batch, time)`.
            lengths: int `(batch,)`, the number of real tokens in each row.
            characters: int `(batch, time, characters)`, for an encoder with characters only.
            character_lengths: int `(batch, time)`, the number of real characters in each word.
            training: Whether dropout is on.
        """
        raise NotImplementedError(f"{type(self).__name__} must define call(tokens, lengths, ...).")

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns, with None for the batch and the time."""
        raise NotImplementedError(f"{type(self).__name__} must define encoded_shape().")
