"""Log-probabilities of output sequences under a model."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from kseq.backend import Tensor, without_autograph
from kseq.decoding import token_log_probabilities
from kseq.ids import integers, with_nan
from kseq.models.inputs.source_inputs import source_of


@without_autograph
def sequence_log_probability(model: Any, inputs: Sequence[Tensor], outputs: tuple[Tensor, Tensor]) -> Tensor:
    """Return `log P(output | input) = sum_t log p(token_t | input, tokens before t)` of each row, in nats.

    Args:
        model: Has `encode(*inputs) -> (state, memory)`, `step`, `bos_id`, `pad_id` and `source_vocabulary_size`: a
            `kseq.models.Seq2Seq` or `kseq.models.Ensemble`.
        inputs: Arguments of `encode`: `(source, source_lengths)`, int `(batch, time)` and `(batch,)`; of a model that
            reads arrays `(source,)`, numbers `(batch, *source_shape)`.
        outputs: `(tokens, lengths)`, int `(batch, time)` and `(batch,)`, or `n` outputs for each row, `(batch, n,
            time)` and `(batch, n)`, as in `Decoded`. The tokens do not contain the begin token, and contain the end
            token if the output is complete. Tokens beyond the lengths are ignored.

    Returns:
        float32 `(batch,)`, or `(batch, n)`; 0 for an output of length 0. Of a model that decodes jointly with CTC they
        are the joint scores, see `kseq.training.JointCTC`. In a compiled graph, a row with a source id
        outside the vocabulary or a length that does not fit has NaN.

    Raises:
        ValueError: If shapes do not match or dtypes are no integers; outside compiled graphs also if a source id or
            length is out of range.

    Example:
        >>> decoded = model.decode(*inputs, strategy=kseq.decoding.BeamSearch(top_paths=4), max_length=20)
        >>> backward = kseq.sequence_log_probability(other, inputs, (decoded.tokens, decoded.lengths))
        >>> decoded = kseq.rescore(decoded, decoded.scores + 0.5 * backward)
    """
    rows = source_of(model).read(*inputs)
    tokens, lengths = (integers(values, name) for values, name in zip(outputs, ("tokens", "lengths"), strict=True))
    state, memory = model.encode(rows.ids, rows.lengths)
    if hasattr(model, "with_room"):
        state = model.with_room(state, tokens.shape[-1])
    values = token_log_probabilities(model.step, state, tokens, lengths, memory=memory, bos_id=model.bos_id)
    return with_nan(ops.sum(values, axis=-1), rows.valid)
