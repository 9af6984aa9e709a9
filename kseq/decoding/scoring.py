"""Log-probabilities of given outputs, and reranking of hypotheses."""

from collections.abc import Callable
from typing import NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor, known_value, scan
from kseq.decoding.checks import batch_of, call_step, like, log_probabilities_of
from kseq.decoding.decoding import LOG_ZERO, Decoded, Nest
from kseq.decoding.hypotheses import NO_HYPOTHESIS, best_first, repeat_rows
from kseq.masking import mask_from_lengths
from kseq.numbers import check_whole_tensor, whole


class _Read(NamedTuple):
    """The state between two tokens, rows first."""

    last: Tensor
    state: Nest


def token_log_probabilities(
    step: Callable, state: Nest, tokens: Tensor, lengths: Tensor, *, memory: Nest = None, bos_id: int
) -> Tensor:
    """Return the log-probability of every token of given outputs, in nats.

    This is `log p(token_t | bos, token_1 ... token_(t-1))`, computed token by token with the step that decoding uses.

    Args:
        step: The model, `step(tokens, state[, memory])`; see `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first.
        tokens: int `(batch, time)`, or `(batch, n, time)`: `n` outputs of each row, such as `Decoded.tokens`. They
            begin without bos. Tokens beyond `lengths` change nothing.
        lengths: int `(batch,)` or `(batch, n)`, how many tokens are real, eos included.
        memory: The step's memory, with the batch first; it is not repeated for the `n` outputs.
        bos_id: The token before the first.

    Returns:
        float32, of the shape of `tokens`, zero after the end, -1e30 for a token that is impossible by the model or
        outside the vocabulary.

    Raises:
        ValueError: If the shapes do not fit each other, the tokens or lengths are not integers, or, outside compiled
            functions, a length is not between 0 and `time`.
    """
    bos_id = whole("bos_id", bos_id)
    tokens, lengths = ops.convert_to_tensor(tokens), ops.convert_to_tensor(lengths)
    for name, given in (("tokens", tokens), ("lengths", lengths)):
        check_whole_tensor(name, given)
    tokens, lengths = ops.cast(tokens, "int32"), ops.cast(lengths, "int32")
    if len(tokens.shape) not in (2, 3) or len(lengths.shape) != len(tokens.shape) - 1:
        raise ValueError(
            "tokens must be int (batch, time) with lengths (batch,), or (batch, n, time) with lengths (batch, n), but "
            f"tokens have shape {tuple(tokens.shape)} and lengths {tuple(lengths.shape)}."
        )
    _check_lengths(lengths, tokens.shape[-1])
    state = keras.tree.map_structure(ops.convert_to_tensor, state)
    batch, time = batch_of(state), ops.shape(tokens)[-1]
    outputs = 1 if len(tokens.shape) == 2 else ops.shape(tokens)[1]
    rows = ops.reshape(tokens, (batch * outputs, time))
    real = mask_from_lengths(ops.reshape(lengths, (batch * outputs,)), time)

    def read(read: _Read, now: tuple[Tensor, Tensor]) -> tuple[_Read, Tensor]:
        token, is_real = now
        output = call_step(step, read.last, read.state, memory)
        log_probabilities = log_probabilities_of(output)
        is_token = ops.arange(log_probabilities.shape[-1], dtype="int32") == token[:, None]  # (rows, vocabulary)
        # A maximum, not a sum: log-probabilities of other tokens may be minus infinity.
        own = ops.max(ops.where(is_token, log_probabilities, LOG_ZERO), axis=-1)
        following = ops.where(is_real, token, bos_id)  # padding need not be in the vocabulary
        return _Read(following, like(read.state, output.state)), ops.where(is_real, own, 0.0)

    start = _Read(ops.full((batch * outputs,), bos_id, dtype="int32"), repeat_rows(state, outputs))
    _, values = scan(read, start, (ops.transpose(rows), ops.transpose(real)))  # (time, rows)
    return ops.reshape(ops.transpose(values), ops.shape(tokens))


def _check_lengths(lengths: Tensor, time: int | None) -> None:
    """Raise ValueError if a length, as far as it is known, is not between 0 and `time`."""
    known = known_value(lengths)
    wrong = [] if known is None or time is None else known[(known < 0) | (known > time)]
    if len(wrong):
        raise ValueError(f"lengths must be between 0 and the {time} columns of tokens, but {wrong[0]} is among them.")


def rescore(decoded: Decoded, scores: Tensor) -> Decoded:
    """Return hypotheses ranked by other scores, best first; equal ones keep their order.

    Args:
        decoded: The hypotheses, `n` of each row.
        scores: float `(batch, n)`, the new scores, such as
            `decoded.scores + 0.3 * kseq.sequence_log_probability(other, inputs, (decoded.tokens, decoded.lengths))`.
            Where `decoded` has no hypothesis, the score stays -1e30.

    Returns:
        `Decoded` with these scores and the log-probabilities of `decoded`.

    Raises:
        ValueError: If there is not one score for each hypothesis.
    """
    scores = ops.cast(ops.convert_to_tensor(scores), "float32")
    count = decoded.scores.shape[1]
    if len(scores.shape) != 2 or scores.shape[1] != count:
        raise ValueError(
            f"scores must be float (batch, {count}), one for each hypothesis, but have shape {tuple(scores.shape)}."
        )
    # No lower than LOG_ZERO, so that a real hypothesis comes before a missing one.
    scores = ops.where(decoded.scores > NO_HYPOTHESIS, ops.maximum(scores, LOG_ZERO), LOG_ZERO)
    return best_first(decoded._replace(scores=scores), scores)
