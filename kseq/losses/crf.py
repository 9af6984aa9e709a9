"""The log-likelihood of a conditional random field (CRF): a linear chain of tags with scores of transitions."""

from typing import Any

import numpy as np
from keras import ops

from kseq.alignment.chain_sums import log_probability
from kseq.alignment.linear_chain import Chain, inside_of, make_chain
from kseq.backend import Tensor, without_autograph
from kseq.ids import from_bools, integers, known_integers
from kseq.padded_sizes import pad
from kseq.tag_schemes import AllowedTransitions

INFEASIBLE = ("inf", "zero")


@without_autograph
def crf_log_likelihood(
    tags: Tensor,
    scores: Tensor,
    lengths: Tensor,
    *,
    transitions: Tensor,
    start: Tensor | None = None,
    end: Tensor | None = None,
    allowed: AllowedTransitions | None = None,
    infeasible: str = "inf",
) -> Tensor:
    """Return the log-probability, in nats, of each row's tags among all sequences of tags of its length.

        log P(y) = score(y) - log of the sum of exp(score(y')) over all y'
        score(y) = sum of scores_t(y_t) + sum of transitions(y_{t-1}, y_t) + start(y_0) + end(y_last)

    The gradient with respect to the scores is the given tags, one-hot, minus the marginal probabilities of the tags;
    with respect to the transitions the given number of each minus its expected number.

    Args:
        tags: int `(batch, time)`, from 0 on; values beyond `lengths` are ignored.
        scores: Float `(batch, time, tags)`, unnormalised; values beyond `lengths` are ignored, even NaN. All precisions
            are cast to float32.
        lengths: int `(batch,)`, from 0 to `time`; padding is at the end.
        transitions: Float `(tags, tags)`, the score of the second tag right after the first one; -inf forbids it.
        start: Float `(tags,)`, the scores of the first tags of sequences; None: zeros.
        end: Float `(tags,)`, the scores of the last tags of sequences; None: zeros.
        allowed: Which transitions, first tags and last tags are possible, such as
            `kseq.tag_schemes.allowed_transitions(names, "BIO")`. The others have probability zero.
        infeasible: What a row gets whose tags have probability zero, or for whose length there is no possible sequence:
            "inf" for -inf (the loss inf), or "zero". Its gradient is zero in both cases.

    Returns:
        float32 `(batch,)`, at most 0. A row of length 0 has the log-probability 0. In a compiled graph, a row with an
        invalid tag or length has -inf, whatever `infeasible` is, and gradient 0. A row with NaN or +inf among its
        scores has NaN, as has the gradient of its scores, but it has no share in the gradients of transitions, start
        and end. Rows never affect each other. NaN or +inf among the transitions makes all rows NaN.

    Raises:
        ValueError: If shapes do not match, a dtype is wrong, or an option is unknown; and where values are known
            (outside compiled graphs), if a tag or length is invalid or a score is NaN or +inf.
        NotImplementedError: If the gradient of the gradient is requested. In a TensorFlow graph it is an
            `InvalidArgumentError`, and compiled by XLA that gradient is NaN.

    Example:
        >>> crf_log_likelihood([[0, 1]], np.zeros((1, 2, 2)), [2], transitions=np.zeros((2, 2)))  # log(1 / 4)
        [-1.3862944]

    Reference: J. Lafferty, A. McCallum, F. Pereira, "Conditional random fields: probabilistic models for segmenting and
    labeling sequence data", 2001.
    """
    check_infeasible(infeasible)
    chain = make_chain(scores, lengths, transitions, start, end, allowed)
    chain, tags = _with_tags(chain, tags, ops.convert_to_tensor(scores))
    logs = log_probability(chain, tags)
    if infeasible == "inf":
        return logs
    return ops.where(ops.logical_and(logs == -float("inf"), chain.usable), 0.0, logs)


def _with_tags(chain: Chain, tags: Any, scores: Tensor) -> tuple[Chain, Tensor]:
    """Return the chain, with rows whose tags are invalid as rows that are not usable, and tags safe to look up.

    Raises:
        ValueError: If the shape or dtype is wrong, or a known tag of a real step is invalid.
    """
    tags = from_bools(tags)
    known, lengths = known_integers(tags, "tags", whole_floats=True), known_integers(chain.lengths, "lengths")
    tags, count = integers(tags, "tags", whole_floats=True), scores.shape[2]
    _check_shape(tags, scores)
    if known is not None and lengths is not None:
        _check_tags(known, lengths, count)
    real = inside_of(chain)
    tags = pad(tags, 1, ops.shape(chain.scores)[1])
    right = ops.clip(tags, 0, count - 1) == tags
    usable = ops.logical_and(chain.usable, ops.all(ops.logical_or(right, ops.logical_not(real)), axis=1))
    safe = ops.where(ops.logical_and(real, right), tags, 0)
    return chain._replace(usable=usable, lengths=ops.where(usable, chain.lengths, 0)), safe


def _check_shape(tags: Tensor, scores: Tensor) -> None:
    """Raise ValueError unless there is a tag for each step of the scores."""
    shape, expected = tuple(tags.shape), tuple(scores.shape)[:2]
    if len(shape) != 2 or any(a != b and None not in (a, b) for a, b in zip(shape, expected, strict=True)):
        raise ValueError(f"tags have shape {shape}, but scores {tuple(scores.shape)}: expected tags {expected}.")


def _check_tags(tags: np.ndarray, lengths: np.ndarray, count: int) -> None:
    """Raise ValueError if a tag of a real step is invalid."""
    wrong = ((tags < 0) | (tags >= count)) & (np.arange(tags.shape[1])[None] < lengths[:, None])
    if wrong.any():
        row, step = (int(axis) for axis in np.argwhere(wrong)[0])
        raise ValueError(
            f"tags[{row}, {step}] = {tags[row, step]}, but the scores have {count} tags, 0 to {count - 1}. Tags beyond "
            f"lengths are padding; the length of this row is {lengths[row]}."
        )


def check_infeasible(infeasible: str) -> None:
    """Raise ValueError if the option is unknown."""
    if infeasible not in INFEASIBLE:
        raise ValueError(f"infeasible={infeasible!r}, expected one of {INFEASIBLE}.")
