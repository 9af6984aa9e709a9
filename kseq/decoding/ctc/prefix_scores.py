"""CTC probabilities of prefixes as a decoding step: the score of the next token by all alignments at once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from keras import ops

from kseq.backend import Tensor, while_loop
from kseq.decoding.checks import call_step, like, log_probabilities_of
from kseq.decoding.decoding import LOG_ZERO, ScoredStepOutput, StepOutput
from kseq.decoding.hypotheses import NO_HYPOTHESIS
from kseq.masking import mask_from_lengths

NO_SYMBOL = -1  # the last symbol of the empty prefix


class FrameProbabilities(NamedTuple):
    """The CTC classes' probabilities of all frames, the memory of `CTCPrefixStep`; batch first.

    Padded frames hold the blank with probability 1, so they change no prefix.

    Attributes:
        logarithms: float32 `(batch, classes, time)`.
        probabilities: float32 `(batch, time, classes)`.
    """

    logarithms: Tensor
    probabilities: Tensor


class PrefixState(NamedTuple):
    """The alignments of a prefix with the first frames, for every number of frames; rows first.

    Attributes:
        symbol: float32 `(rows, time)`, the log-probability of the alignments that end in the last symbol.
        blank: float32 `(rows, time)`, that of the alignments that end in a blank.
        last: int32 `(rows,)`, the last symbol; `NO_SYMBOL` for the empty prefix.
    """

    symbol: Tensor
    blank: Tensor
    last: Tensor


@dataclass(frozen=True, kw_only=True)
class CTCPrefixStep:
    """The distribution of the next token by CTC, as a step for any strategy.

    With p(g...) the probability of all strings that begin with g, summed over their alignments, the next token's
    probability is `p(gv...) / p(g...)`, and that of the end is `p(g) / p(g...)`. So the log-probabilities of a whole
    string sum to its CTC log-probability. The tokens are the CTC classes. Those of `bos_id` and `eos_id` are in no
    string: their probability is set to 0.

    Call arguments:
        tokens: int32 `(rows,)`; `bos_id` leaves the prefix as it is.
        state: A `PrefixState`, at first that of `initial_state`.
        memory: The `FrameProbabilities`.

    Attributes:
        bos_id: The token before the first.
        eos_id: The token that ends a string.
        blank_index: The class that is the blank, which is never a token.

    References:
        - A. Graves, "Supervised sequence labelling with recurrent neural networks", 2012, section 7.5.
        - S. Watanabe et al., "Hybrid CTC/attention architecture for end-to-end speech recognition", 2017.
    """

    bos_id: int
    eos_id: int
    blank_index: int = 0

    def memory(self, logits: Tensor, lengths: Tensor) -> FrameProbabilities:
        """Return the probabilities of frames.

        Args:
            logits: Float `(batch, time, classes)`, unnormalised; the padding may hold NaN.
            lengths: int `(batch,)`, the number of real frames.
        """
        real = mask_from_lengths(lengths, ops.shape(logits)[1])[..., None]
        logits = without_classes(ops.where(real, ops.cast(logits, "float32"), 0.0), (self.bos_id, self.eos_id))
        logarithms = ops.maximum(ops.log_softmax(logits, axis=-1), LOG_ZERO)
        is_blank = ops.arange(logits.shape[-1], dtype="int32") == self.blank_index
        logarithms = ops.where(real, logarithms, ops.where(is_blank, 0.0, LOG_ZERO))
        return FrameProbabilities(ops.transpose(logarithms, (0, 2, 1)), ops.exp(logarithms))

    def initial_state(self, memory: FrameProbabilities) -> PrefixState:
        """Return the state of the empty prefix, `(batch, ...)` each."""
        blank = ops.cumsum(memory.logarithms[:, self.blank_index], axis=1)
        last = ops.full((ops.shape(blank)[0],), NO_SYMBOL, dtype="int32")
        return PrefixState(ops.full_like(blank, LOG_ZERO), ops.maximum(blank, LOG_ZERO), last)

    def __call__(self, tokens: Tensor, state: PrefixState, memory: FrameProbabilities) -> StepOutput:
        """Append the tokens to the prefixes, and return the log-probabilities of the next tokens."""
        stays = tokens == self.bos_id
        longer = self._append(tokens, state, memory)
        pairs = zip(state, longer, strict=True)
        state = PrefixState(*(ops.where(stays if len(x.shape) == 1 else stays[:, None], x, y) for x, y in pairs))
        return StepOutput(self._score(state, memory), state)

    def _append(self, tokens: Tensor, state: PrefixState, memory: FrameProbabilities) -> PrefixState:
        """Return the state of prefixes that are one symbol longer."""
        before = ops.where((tokens == state.last)[:, None], _before(state, state.blank), _before(state))
        of_symbol = _of_symbols(memory, tokens)  # (rows, time)
        symbol = _log_recurrence(of_symbol, of_symbol + before)
        of_blank = _of_symbols(memory, ops.full_like(tokens, self.blank_index))
        none = ops.full_like(symbol[:, :1], LOG_ZERO)
        earlier = ops.concatenate([none, symbol[:, :-1]], axis=1)
        return PrefixState(symbol, _log_recurrence(of_blank, of_blank + earlier), tokens)

    def _score(self, state: PrefixState, memory: FrameProbabilities) -> Tensor:
        """Return the logarithms of p(gv...), or p(g) for the end, float32 `(rows, classes)`; `LOG_ZERO` for blank."""
        classes = ops.arange(memory.probabilities.shape[-1], dtype="int32")
        scores = _sum_of_products(_before(state), memory)
        # A symbol that is written twice in a row needs a blank in between.
        of_last = _of_symbols(memory, ops.maximum(state.last, 0))
        repeated = ops.logsumexp(_before(state, state.blank) + of_last, axis=1)
        scores = ops.where(classes == state.last[:, None], repeated[:, None], scores)
        end = ops.logaddexp(state.symbol[:, -1], state.blank[:, -1])[:, None]
        scores = ops.where(classes == self.eos_id, end, scores)
        return ops.maximum(ops.where(classes == self.blank_index, LOG_ZERO, scores), LOG_ZERO)


@dataclass(frozen=True, kw_only=True)
class CTCJointStep:
    """A model's step and the CTC probabilities of prefixes as one step, for one-pass joint decoding.

    The next token's score is `(1 - weight) * log p(token) + weight * log p_ctc(token)`, both given the tokens before.
    The scores of a whole string sum to `(1 - weight) * log p(string) + weight * log p_ctc(string)`; they are not
    normalised again. A string without an alignment has no hypothesis.

    Call arguments:
        tokens: int32 `(rows,)`, the input of both.
        state: A tuple of the model's state and a `PrefixState`.
        memory: A tuple of the model's memory and the `FrameProbabilities`.

    Attributes:
        step: The model's step.
        prefixes: The CTC step, with the same vocabulary.
        weight: The share of CTC, above 0 and at most 1.

    Reference: S. Watanabe et al., "Hybrid CTC/attention architecture for end-to-end speech recognition", 2017.
    """

    step: Callable
    prefixes: CTCPrefixStep
    weight: float

    def __call__(self, tokens: Tensor, state: tuple, memory: tuple) -> ScoredStepOutput:
        """Call both, and add their scores."""
        output = call_step(self.step, tokens, state[0], memory[0])
        prefix = self.prefixes(tokens, state[1], memory[1])
        by_ctc = log_probabilities_of(prefix)
        scores = (1.0 - self.weight) * log_probabilities_of(output) + self.weight * by_ctc
        scores = ops.where(by_ctc > NO_HYPOTHESIS, scores, LOG_ZERO)
        states = like(state[0], output.state), prefix.state
        return ScoredStepOutput(scores, states, output.alignments, output.hidden, scores)


def without_classes(logits: Tensor, classes: tuple[int, ...]) -> Tensor:
    """Return float32 logits `(batch, time, classes)` by which these classes have no probability."""
    index = ops.arange(logits.shape[-1], dtype="int32")
    for each in classes:
        logits = ops.where(index == each, LOG_ZERO, logits)
    return logits


def _before(state: PrefixState, values: Tensor | None = None) -> Tensor:
    """Return the log-probability of a prefix in the frames before each frame, float32 `(rows, time)`.

    Args:
        state: The state.
        values: float32 `(rows, time)`, the alignments that count; None: all.
    """
    values = ops.logaddexp(state.symbol, state.blank) if values is None else values
    start = ops.cast(ops.where(state.last == NO_SYMBOL, 0.0, LOG_ZERO), "float32")
    return ops.concatenate([start[:, None], values[:, :-1]], axis=1)


def _sum_of_products(logs: Tensor, memory: FrameProbabilities) -> Tensor:
    """Return `log sum_t exp(logs_t) p_t(class)`, float32 `(rows, classes)`, for `logs` `(rows, time)`."""
    (rows, time), batch = ops.shape(logs), ops.shape(memory.probabilities)[0]
    largest = ops.max(logs, axis=1, keepdims=True)
    factors = ops.reshape(ops.exp(logs - largest), (batch, _hypotheses(rows, batch), time))
    sums = ops.reshape(ops.matmul(factors, memory.probabilities), (rows, memory.probabilities.shape[-1]))
    return ops.where(sums > 0, largest + ops.log(ops.where(sums > 0, sums, 1.0)), LOG_ZERO)


def _of_symbols(memory: FrameProbabilities, symbols: Tensor) -> Tensor:
    """Return the log-probabilities of one class for each row, float32 `(rows, time)`."""
    batch, _, time = ops.shape(memory.logarithms)
    rows = ops.shape(symbols)[0]
    by_batch = ops.reshape(symbols, (batch, _hypotheses(rows, batch), 1))
    return ops.reshape(ops.take_along_axis(memory.logarithms, by_batch, axis=1), (rows, time))


def _hypotheses(rows: int | Tensor, batch: int | Tensor) -> int | Tensor:
    """Return the number of hypotheses of each row of the batch, which may have no rows."""
    return rows // max(batch, 1) if isinstance(batch, int) else rows // ops.maximum(batch, 1)


def _log_recurrence(decay: Tensor, increments: Tensor) -> Tensor:
    """Return x with `x_t = log(exp(decay_t + x_(t-1)) + exp(increments_t))`, nothing before the first; `(rows, time)`.

    The maps of 1, 2, 4 ... steps are composed, so that the loop has log2(time) steps.
    """
    time = ops.shape(decay)[1]
    places = ops.arange(time, dtype="int32")

    def double(loop: tuple) -> tuple:
        reach, decay, sums = loop
        inside = places >= reach
        index = ops.where(inside, places - reach, 0)
        earlier = ops.where(inside, ops.take(sums, index, axis=1), LOG_ZERO)
        sums = ops.logaddexp(sums, ops.maximum(decay + earlier, LOG_ZERO))
        decay = decay + ops.where(inside, ops.take(decay, index, axis=1), 0.0)
        return reach * 2, ops.maximum(decay, LOG_ZERO), sums

    start = ops.ones((), dtype="int32"), decay, ops.maximum(increments, LOG_ZERO)
    return while_loop(lambda loop: loop[0] < time, double, start)[2]
