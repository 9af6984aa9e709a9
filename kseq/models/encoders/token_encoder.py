"""The contract of encoders of token ids, and the output of every encoder."""

from typing import Any, NamedTuple

import keras

from kseq.backend import Tensor
from kseq.numbers import whole
from kseq.short_help import ShortHelp


class Encoded(NamedTuple):
    """The output of an encoder.

    Attributes:
        values: Outputs of the top layer, `(batch, time, dim)`; of an encoder of arrays, time is the number of cells.
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
    """The base class of encoders of tokens: what `Seq2Seq`, `Tagger` and `SequenceClassifier` demand of one.

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
        carries_state: Whether `read_on` continues a text from a state, as recurrent encoders that are causal do.
        subsampling: Number of tokens for each step of the values; `n` tokens have `n / subsampling` steps, rounded up.

    A causal encoder that a `LanguageModel` can have also defines `initial_state` and `step`, and `read_on` if it
    carries a state.
    """

    characters: Any = None
    bidirectional: bool = False
    causal: bool = False
    carries_state: bool = False
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

    def initial_state(self, batch: int | Tensor, max_length: int | None = None) -> Any:
        """Return the state before the first token of `batch` texts, a nest of tensors with the rows first.

        Args:
            batch: Number of texts.
            max_length: Largest number of tokens that a search will write, for an encoder with a cache. None: as many as
                the encoder can read.
        """
        raise NotImplementedError(f"{type(self).__name__} must define initial_state(batch, max_length).")

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the values of one more token of each text, `(rows, dim)`, and the new state; tokens are `(rows,)`."""
        raise NotImplementedError(f"{type(self).__name__} must define step(tokens, state).")

    def read_on(
        self,
        tokens: Tensor,
        lengths: Tensor,
        state: Any,
        restart: Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[Encoded, Any]:
        """Encode the next tokens of texts whose beginnings were read before.

        Args:
            tokens: int `(batch, time)`.
            lengths: int `(batch,)`, the number of real tokens in each row.
            state: The state before the first of them.
            restart: Bool `(batch, time)`, True at the first token of a text, which is read from the initial state;
                None if no other texts begin in these tokens.
            training: Whether dropout is on.

        Returns:
            `(encoded, state)`, the state after each row's last real token.
        """
        raise NotImplementedError(f"{type(self).__name__} must define read_on(tokens, lengths, state, ...).")
