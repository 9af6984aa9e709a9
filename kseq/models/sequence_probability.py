"""Log-probabilities of output sequences under a model."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from kseq.backend import Tensor
from kseq.decoding import token_log_probabilities


def sequence_log_probability(model: Any, inputs: Sequence[Tensor], outputs: tuple[Tensor, Tensor]) -> Tensor:
    """Return `log P(output | input) = sum_t log p(token_t | input, tokens before t)` of each row, in nats.

    Args:
        model: Has `encode(*inputs) -> (state, memory)`, `step` and `bos_id`: a `kseq.models.Seq2Seq` or
            `kseq.models.Ensemble`.
        inputs: Arguments of `encode`: `(source, source_lengths)`, int `(batch, time)` and `(batch,)`.
        outputs: `(tokens, lengths)`, int `(batch, time)` and `(batch,)`, or `n` outputs for each row, `(batch, n,
            time)` and `(batch, n)`, as in `Decoded`. The tokens do not contain the begin token, and contain the end
            token if the output is complete. Tokens beyond the lengths are ignored.

    Returns:
        float32 `(batch,)`, or `(batch, n)`; 0 for an output of length 0.

    Raises:
        ValueError: If the shapes do not match.

    Example:
        >>> decoded = model.decode(*inputs, strategy=kseq.decoding.BeamSearch(top_paths=4), max_length=20)
        >>> backward = kseq.sequence_log_probability(other, inputs, (decoded.tokens, decoded.lengths))
        >>> decoded = kseq.rescore(decoded, decoded.scores + 0.5 * backward)
    """
    state, memory = model.encode(*inputs)
    tokens, lengths = outputs
    values = token_log_probabilities(model.step, state, tokens, lengths, memory=memory, bos_id=model.bos_id)
    return ops.sum(values, axis=-1)
