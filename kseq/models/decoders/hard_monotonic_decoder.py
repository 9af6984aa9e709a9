"""A decoder with hard monotonic attention, summed over all alignments."""

from typing import Any

import keras
from keras import ops

from kseq.attention import AdditiveAttention, Attention, DotProductAttention
from kseq.attention.rows import join_rows, split_rows
from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.decoding import StepOutput
from kseq.layers.step_runner import run_steps
from kseq.models.decoders.decoder import Decoder, DecoderMemory, DecoderState
from kseq.models.encoders.encoder import Encoded
from kseq.numbers import whole

SCORING = AdditiveAttention, DotProductAttention  # the other mechanisms do more than score
LOG_ZERO = -1e30  # finite: differences of it are no NaN


@keras.saving.register_keras_serializable(package="kseq")
class HardMonotonicDecoder(Decoder):
    """A `Decoder` that reads one source step for each token, and never goes back (Wu & Cotterell 2019).

    The source step that a token is written from is a hidden variable, whose positions never decrease. The probability
    of a target is the sum over all its alignments, so the loss needs none. Given the step i of the previous token, the
    next token is written from step j with the probability

        A(i, j) = exp(score(s, h_j) + b[j - i]) / sum over j' >= i of the same    for j >= i, else 0

    where s is the top layer's output and h_j the encoder's value at step j. The score is that of the attention, and b
    one learned number for each distance. The token's distribution is the softmax of the logits of
    `tanh(W [s; h_j] + b)`, which in a `Decoder` are those of one weighted mean of all h_j.

    It suits targets in the order of their sources: pronunciations, inflection, transliteration, accents. Its logits
    take `(batch, target time, source time, vocabulary)` numbers in training.

    Args:
        vocabulary_size: Number of token ids.
        embedding_dim: Size of a token's embedding.
        cell: As in `Decoder`.
        distances: Number of distances j - i with a number b of their own; all longer ones share the last. 0: none.
        attention: The mechanism that scores source steps: an `AdditiveAttention`, the default, or a
            `DotProductAttention`. Its dropout must be 0, because no weights are dropped.
        **kwargs: The other arguments of `Decoder`, without `context` and `input_feeding`.

    Call arguments:
        tokens: As in `Decoder`.
        encoded: The encoder's `Encoded`.
        training: Whether dropout is on.

    Returns:
        The logarithms of the probabilities, float32 `(batch, time, vocabulary)`. With `return_weights` also the
        probabilities of the source steps given the tokens before, float32 `(batch, time, source time)`.

    Raises:
        ValueError: If an option is out of range, or a decoder that sums over alignments has no use for it.

    Reference: S. Wu, R. Cotterell, "Exact hard monotonic attention for character-level transduction", 2019.
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        cell: Cell,
        *,
        distances: int = 8,
        attention: Attention | None = None,
        **kwargs: Any,
    ):
        super().__init__(vocabulary_size, embedding_dim, cell, attention=attention, **kwargs)
        self.distances = whole("distances", distances)
        if self.distances < 0:
            raise ValueError(f"distances={distances}, but a number of distances is at least 0.")
        if self.attention is None or self.input_feeding:
            raise ValueError(
                f"context={self.context!r} and input_feeding={self.input_feeding}, but a HardMonotonicDecoder reads "
                "single source steps, and its cells read none. Leave both out."
            )
        if type(self.attention) not in SCORING or self.attention.dropout:
            raise ValueError(
                f"attention={self.attention} with dropout={self.attention.dropout}, but a HardMonotonicDecoder needs "
                f"the scores alone, of {' or '.join(each.__name__ for each in SCORING)} without dropout."
            )

    def build(self, tokens_shape: tuple, encoded_shape: Encoded) -> None:
        """Create the weights, see `Decoder.build`."""
        super().build(tokens_shape, encoded_shape)
        if self.distances:
            self.distance_scores = self.add_weight(
                name="distance_scores", shape=(self.distances,), initializer="zeros", dtype="float32", autocast=False
            )

    def initial_state(self, encoded: Encoded) -> DecoderState:
        """Return the state before the first token: the "token before" was written from the first source step."""
        batch, time = ops.shape(encoded.values)[:2]
        start = ops.broadcast_to(_first_step(time)[None, :, None], (batch, time, self.vocabulary_size))
        return super().initial_state(encoded)._replace(attention=start)

    def memory(self, encoded: Encoded) -> DecoderMemory:
        """Return the part of the source that all steps read, with the values projected for the logits' inputs."""
        memory = super().memory(encoded)
        values = ops.matmul(memory.attended.values, ops.cast(self.combine.kernel, self.compute_dtype)[self.units :])
        return memory._replace(attended=memory.attended._replace(values=values))

    def call(
        self,
        tokens: Tensor,
        encoded: Encoded,
        training: bool | None = None,
        embedded: Tensor | None = None,
        return_weights: bool = False,
    ) -> Any:
        """Return the log-probabilities of every step, given the true previous tokens (teacher forcing)."""
        encoded = Encoded(*encoded)
        embedded = self.embedding(tokens) if embedded is None else embedded
        memory = self.memory(encoded)
        values = self._run_layers(embedded, super().initial_state(encoded), memory, training)
        log_probabilities = self._log_probabilities(values, memory, training)
        # Of each token but the last, from each source step: what the next token knows about the alignment.
        written = ops.one_hot(tokens[:, 1:], self.vocabulary_size, dtype="float32")[:, :, None]
        written = ops.sum(log_probabilities[:, :-1] * written, axis=-1)
        written = ops.pad(written, [(0, 0), (1, 0), (0, 0)])
        log_weights = self._log_weights(self._scores(values, memory), written, bool(training))
        logits = ops.logsumexp(log_weights[..., None] + log_probabilities, axis=2)
        return (logits, ops.exp(log_weights)) if return_weights else logits

    def _scores(self, values: Tensor, memory: DecoderMemory) -> Tensor:
        """Return the scores of the source steps, float32 `(batch, queries, source time)`."""
        scores = ops.cast(self.attention.score(values, memory.attended.keys), "float32")
        mask = memory.attended.mask
        return scores if mask is None else ops.where(mask[:, None], scores, LOG_ZERO)

    def _log_probabilities(self, values: Tensor, memory: DecoderMemory, training: bool | None = False) -> Tensor:
        """Return those of the tokens written from each source step, `(batch, queries, source time, vocabulary)`."""
        kernel = ops.cast(self.combine.kernel, self.compute_dtype)[: self.units]
        queries = ops.matmul(values, kernel) + ops.cast(self.combine.bias, self.compute_dtype)
        hidden = ops.tanh(queries[:, :, None] + memory.attended.values[:, None])
        batch, count, time, _ = ops.shape(hidden)
        hidden = self.unit_dropout(ops.reshape(hidden, (batch, -1, self.units)), training=training)
        logits = ops.cast(self.to_logits(hidden), "float32")
        return ops.reshape(ops.log_softmax(logits, axis=-1), (batch, count, time, self.vocabulary_size))

    def _log_weights(self, scores: Tensor, written: Tensor, training: bool) -> Tensor:
        """Return the log-probabilities of the source steps, `(batch, queries, source time)`."""
        batch, _, time = ops.shape(scores)

        def step(state: Tensor, inputs: tuple, constants: tuple) -> tuple[Tensor, Tensor]:
            scores, written = inputs
            log_weights = self._moved(state + written, scores)
            return log_weights, log_weights

        inputs = ops.swapaxes(scores, 0, 1), ops.swapaxes(written, 0, 1)
        start = ops.broadcast_to(_first_step(time), (batch, time))
        _, log_weights = run_steps(self, step, start, inputs, (), training=training)
        return ops.swapaxes(log_weights, 0, 1)

    def _moved(self, before: Tensor, scores: Tensor) -> Tensor:
        """Return the log-probabilities of the next source step.

        Args:
            before: Those of the source step before, up to a constant of each row, `(..., source time)`.
            scores: `(..., source time)`.
        """
        before = before - ops.logsumexp(before, axis=-1, keepdims=True)
        places = ops.arange(ops.shape(scores)[-1], dtype="int32")
        distance = places[None] - places[:, None]  # (from, to)
        scores = scores[..., None, :]
        if self.distances:
            scores = scores + ops.take(self.distance_scores, ops.clip(distance, 0, self.distances - 1))
        moves = ops.log_softmax(ops.where(distance >= 0, scores, LOG_ZERO), axis=-1)
        return ops.logsumexp(before[..., None] + moves, axis=-2)

    def step(self, tokens: Tensor, state: DecoderState, memory: DecoderMemory) -> StepOutput:
        """Run one decoding step for every hypothesis, see `Decoder.step`."""
        values, cells = self._step_layers(self.embedding(tokens), state, memory)
        chosen = ops.one_hot(tokens, self.vocabulary_size, dtype="float32")[:, None]
        before = ops.sum(ops.where(chosen > 0, state.attention, 0.0), axis=-1)
        batch = ops.shape(memory.attended.values)[0]
        values, before = (split_rows(each, batch) for each in (values, before))
        log_weights = self._moved(before, self._scores(values, memory))
        joint = log_weights[..., None] + self._log_probabilities(values, memory)
        joint, log_weights = (join_rows(each) for each in (joint, log_weights))
        state = DecoderState(cells, (), joint)
        return StepOutput(ops.logsumexp(joint, axis=1), state, ops.exp(log_weights), join_rows(values))

    @property
    def step_embedded(self) -> Any:
        """Raise AttributeError: the token itself, not its embedding, says where it was probably written from."""
        raise AttributeError("A HardMonotonicDecoder reads the previous token, which an embedding does not say.")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "distances": self.distances}


def _first_step(time: Any) -> Tensor:
    """Return log-probabilities `(time,)`: 0 at the first step."""
    return ops.where(ops.arange(time) == 0, 0.0, LOG_ZERO)
