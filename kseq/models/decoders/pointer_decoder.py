"""A decoder that may copy tokens of the source."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.attention import Attention
from kseq.attention.rows import repeat_for_rows
from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.ids import check_ids, known_integers
from kseq.inner_layers import freeze_inner_layers
from kseq.masking import mask_from_lengths
from kseq.models.decoders.decoder import Decoder, DecoderMemory
from kseq.models.encoders.encoder import Encoded
from kseq.numbers import whole

NO_COPY = -1  # in the table: a source token that is no token of the target's vocabulary
IMPOSSIBLE = -1e30  # the logit of a token that is neither in the vocabulary nor in the source
LEAST_WEIGHT = 1e-9  # of a source token in a copy's probability, so that a token to which nothing attends is possible


@keras.saving.register_keras_serializable(package="kseq")
class PointerDecoder(Decoder):
    """A `Decoder` that may copy source tokens, also those that its vocabulary lacks (See et al. 2017).

    The probability of a token is `p P(token) + (1 - p) A(token)`: P is the softmax over the vocabulary, A the sum of
    the attention weights of the source tokens that are this token, and p = sigmoid(w [h; x] + b) is computed from the
    attentional vector h and the embedding x of the previous token. (In the paper, the attention's context and the
    cell's state stand in place of h, which is computed from them.)

    A source token that the target's vocabulary lacks has an id of its own: `vocabulary_size + position`, where the
    position is that of the first equal token of the source. Each occurrence of a token that is unknown to the source's
    vocabulary too has an id of its own. So a target has ids up to `vocabulary_size + copied_positions - 1`.
    `kseq.training.text_pairs(..., copied_positions=...)` makes such targets, and exports and `translate` write the
    source's own words in their place.

    Args:
        vocabulary_size: Number of token ids of the target's vocabulary.
        embedding_dim: Size of a token's embedding.
        cell: As in `Decoder`.
        copies: The target id of each source id, int `(source vocabulary,)`; -1 for a token that the target's vocabulary
            lacks. `kseq.text.copied_ids(source_tokenizer, target_tokenizer)` returns it.
        copied_positions: Number of source positions from which tokens outside of the vocabulary can be copied. Such
            tokens at later positions cannot be copied: their attention counts for the unknown token.
        source_unknown_id: Id of unknown tokens in the source.
        unknown_id: Id of unknown tokens in the target. It also stands for copied tokens as a previous token.
        attention: As in `Decoder`.
        **kwargs: The other arguments of `Decoder`, without `context`.

    Call arguments:
        tokens: As in `Decoder`.
        encoded: The encoder's `Encoded`, with the source's `tokens`, which `Seq2Seq` adds.
        training: Whether dropout is on.

    Returns:
        The logarithms of the probabilities, float32 `(batch, time, vocabulary_size + copied_positions)`; -1e30 for
        tokens that are neither in the vocabulary nor in the source. A token of the source counts with a weight of at
        least 1e-9, so its copy is possible even if nothing attends to it.

    Raises:
        ValueError: If an option is out of range, an id in `copies` is not one of the vocabulary, or the encoder has not
            one value for each source token.

    Reference: A. See, P. Liu, C. Manning, "Get to the point: summarization with pointer-generator networks", 2017.
    """

    reads_weights = True

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        cell: Cell,
        *,
        copies: Sequence[int],
        copied_positions: int = 64,
        source_unknown_id: int = 1,
        unknown_id: int = 1,
        attention: Attention | None = None,
        **kwargs: Any,
    ):
        super().__init__(vocabulary_size, embedding_dim, cell, attention=attention, **kwargs)
        if self.attention is None:
            raise ValueError(f"context={self.context!r}, but a PointerDecoder copies by attention. Leave context out.")
        table = known_integers(copies, "copies")
        if table is None or table.ndim != 1:
            raise ValueError(f"copies={copies!r}, but it must be a list of ids, one for each source id.")
        self.copies = table.tolist()
        self.copied_positions = whole("copied_positions", copied_positions)
        if self.copied_positions < 0:
            raise ValueError(f"copied_positions={copied_positions}, but a number of positions is at least 0.")
        self.source_unknown_id = whole("source_unknown_id", source_unknown_id)
        self.unknown_id = whole("unknown_id", unknown_id)
        check_ids(np.where(table == NO_COPY, 0, table), vocabulary_size, "copies")
        check_ids(np.array([self.unknown_id]), vocabulary_size, "unknown_id")
        check_ids(np.array([self.source_unknown_id]), len(self.copies), "source_unknown_id")
        self.embedding.unknown_id = self.unknown_id
        self.gate = keras.layers.Dense(1, dtype="float32")
        freeze_inner_layers(self)

    def _embedding_layer(self) -> keras.layers.Embedding:
        return KnownEmbedding(self.vocabulary_size, self.embedding_dim, dtype=self.dtype_policy)

    @property
    def num_tokens(self) -> int:
        """Number of token ids, with those of copied tokens."""
        return self.vocabulary_size + self.copied_positions

    def build(self, tokens_shape: tuple, encoded_shape: Encoded) -> None:
        """Create the weights, see `Decoder.build`."""
        super().build(tokens_shape, encoded_shape)
        self.gate.build((None, None, self.units + self.embedding_dim))

    def memory(self, encoded: Encoded) -> DecoderMemory:
        """Return the part of the source that all steps read, with the ids of the tokens to copy."""
        if encoded.tokens is None:
            raise ValueError("A PointerDecoder reads the source's tokens: call it with encoded._replace(tokens=...).")
        tokens, time = encoded.tokens, encoded.values.shape[1]
        if tokens.shape[1] == 0:  # an encoder pads empty rows to one step
            tokens = ops.pad(tokens, [(0, 0), (0, 1)])
        if None not in (time, tokens.shape[1]) and tokens.shape[1] != time:
            raise ValueError(
                f"The encoder has {time} values for {tokens.shape[1]} source tokens, but a PointerDecoder needs one "
                "value for each token. Use an encoder that keeps the number of steps."
            )
        return super().memory(encoded)._replace(copies=self.copied_ids(tokens))

    def copied_ids(self, tokens: Tensor) -> Tensor:
        """Return the target id of each source token of `tokens`, int32 `(batch, time)`."""
        time = ops.shape(tokens)[1]
        tokens = ops.pad(tokens, [(0, 0), (0, 1)])  # for argmax, there may be no tokens
        places = ops.arange(ops.shape(tokens)[1], dtype="int32")
        # The places of equal tokens; those in the padding come after all real ones.
        equal = ops.cast(tokens[:, :, None] == tokens[:, None], "int32")  # (batch, time, time)
        first = ops.cast(ops.argmax(equal, axis=-1), "int32")
        first = ops.where(tokens == self.source_unknown_id, places, first)
        own = ops.where(first < self.copied_positions, self.vocabulary_size + first, self.unknown_id)
        ids = ops.take(ops.convert_to_tensor(np.array(self.copies, "int32")), tokens, axis=0)
        return ops.where(ids == NO_COPY, own, ids)[:, :time]

    def can_write(self, target: Tensor, source: Tensor, source_lengths: Tensor) -> Tensor:
        """Return whether each target token is in the vocabulary or can be copied, bool `(batch, target time)`.

        Args:
            target: int32 `(batch, target time)`.
            source: int32 `(batch, source time)`.
            source_lengths: int32 `(batch,)`.
        """
        real = mask_from_lengths(source_lengths, ops.shape(source)[1])
        copied = ops.where(real, self.copied_ids(source), NO_COPY)
        in_source = ops.any(target[:, :, None] == copied[:, None], axis=-1)
        return ops.logical_or(target < self.vocabulary_size, in_source)

    def logits(self, hidden: Tensor, embedded: Tensor, weights: Tensor, memory: DecoderMemory) -> Tensor:
        """Return the logarithms of the probabilities `(..., num_tokens)`, see `Decoder.logits`."""
        features = ops.concatenate([hidden, ops.cast(embedded, hidden.dtype)], axis=-1)
        gate = ops.cast(self.gate(features), "float32")
        of_vocabulary = ops.log_softmax(super().logits(hidden, embedded, weights, memory), axis=-1)
        of_vocabulary = of_vocabulary + ops.log_sigmoid(gate)
        missing = ops.full((*ops.shape(of_vocabulary)[:-1], self.copied_positions), IMPOSSIBLE, dtype="float32")
        of_vocabulary = ops.concatenate([of_vocabulary, missing], axis=-1)
        copied = self._copied(ops.cast(weights, "float32"), memory.copies, memory.attended.mask)
        some = copied > 0
        of_copies = ops.log(ops.where(some, copied, 1.0)) + ops.log_sigmoid(-gate)
        return ops.where(some, ops.logaddexp(of_vocabulary, of_copies), of_vocabulary)

    def _copied(self, weights: Tensor, copies: Tensor, mask: Tensor | None) -> Tensor:
        """Return the sums of the weights `(..., source time)` of each token id, `(..., num_tokens)`."""
        *lead, time = ops.shape(weights)
        least = ops.full(ops.shape(copies), LEAST_WEIGHT, "float32")
        least = least if mask is None else ops.where(mask[:, : ops.shape(copies)[1]], least, 0.0)
        if len(lead) == 1:
            copies, least = (repeat_for_rows(each, lead[0]) for each in (copies, least))
        else:
            copies, least = (ops.broadcast_to(each[:, None], (*lead, time)) for each in (copies, least))
        weights = ops.maximum(weights, least)
        count = lead[0] if len(lead) == 1 else lead[0] * lead[1]
        places = ops.arange(count, dtype="int32")[:, None] * self.num_tokens + ops.reshape(copies, (count, time))
        sums = ops.segment_sum(ops.reshape(weights, (-1,)), ops.reshape(places, (-1,)), count * self.num_tokens)
        return ops.reshape(sums, (*lead, self.num_tokens))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "copies": self.copies,
            "copied_positions": self.copied_positions,
            "source_unknown_id": self.source_unknown_id,
            "unknown_id": self.unknown_id,
        }


class KnownEmbedding(keras.layers.Embedding):
    """An embedding in which ids beyond the vocabulary are looked up as the unknown token."""

    unknown_id = 1

    def call(self, tokens: Tensor) -> Tensor:
        """Return the embeddings."""
        return super().call(ops.where(tokens < self.input_dim, tokens, self.unknown_id))


def check_source(decoder: PointerDecoder, encoder: Any) -> None:
    """Raise ValueError if a decoder's table of copies is not for an encoder's tokens."""
    if not hasattr(encoder, "vocabulary_size"):
        raise ValueError(
            f"A PointerDecoder copies source tokens, but a {type(encoder).__name__} reads none. Use a Decoder."
        )
    if len(decoder.copies) != encoder.vocabulary_size:
        raise ValueError(
            f"copies has {len(decoder.copies)} ids, but the encoder reads {encoder.vocabulary_size} tokens: give an id "
            "for each, such as kseq.text.copied_ids(source_tokenizer, target_tokenizer)."
        )
    if encoder.subsampling != 1:
        raise ValueError(
            f"The encoder has one step for {encoder.subsampling} source tokens, but a PointerDecoder copies by the "
            "attention to single tokens. Use an encoder that keeps the number of steps."
        )


def check_copies(inputs: Mapping[str, Any], decoder: PointerDecoder) -> None:
    """Raise ValueError if a target in the arrays copies a token that its source does not have."""
    target, lengths = np.asarray(inputs["target"]), np.asarray(inputs["target_lengths"])
    written = decoder.can_write(*(ops.cast(inputs[name], "int32") for name in ("target", "source", "source_lengths")))
    wrong = ~ops.convert_to_numpy(written) & (np.arange(target.shape[1]) < lengths[:, None])
    if wrong.any():
        place = tuple(int(axis) for axis in np.argwhere(wrong)[0])
        position = int(target[place]) - decoder.vocabulary_size
        raise ValueError(
            f"target{list(place)} = {target[place]} is the copy of the source token at position {position}, but "
            f"source[{place[0]}] has no token there that the vocabulary of {decoder.vocabulary_size} lacks. Make the "
            "rows with kseq.training.text_pairs(..., copied_positions=...)."
        )
