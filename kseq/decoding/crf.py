"""Decoding of a conditional random field (CRF): the most probable sequences of tags, and the marginals of the tags."""

from typing import NamedTuple

from keras import ops

from kseq.alignment.chain_sums import decode, marginals
from kseq.alignment.linear_chain import make_chain
from kseq.backend import Tensor, without_autograph
from kseq.decoding.decoding import LOG_ZERO
from kseq.numbers import whole
from kseq.tag_schemes import AllowedTransitions


class CRFDecoded(NamedTuple):
    """The `n` most probable sequences of tags of each row, best first.

    Attributes:
        tags: int32 `(batch, n, time)`; -1 in the padding and where there are fewer than `n` sequences.
        scores: float32 `(batch, n)`, log-probabilities in nats; -1e30 where there is no sequence.
    """

    tags: Tensor
    scores: Tensor


@without_autograph
def crf_decode(
    scores: Tensor,
    lengths: Tensor,
    *,
    transitions: Tensor,
    start: Tensor | None = None,
    end: Tensor | None = None,
    top_paths: int = 1,
    allowed: AllowedTransitions | None = None,
) -> CRFDecoded:
    """Return the most probable sequences of tags of each row, by the Viterbi or the list Viterbi algorithm.

    Both are exact. Equally probable sequences are in lexicographic order. There is no gradient.

    Args:
        scores: Float `(batch, time, tags)`, unnormalised; values beyond `lengths` are ignored, even NaN. All precisions
            are cast to float32.
        lengths: int `(batch,)`, from 0 to `time`; padding is at the end.
        transitions: Float `(tags, tags)`, the score of the second tag right after the first one; -inf forbids it.
        start: Float `(tags,)`, the scores of the first tags of sequences; None: zeros.
        end: Float `(tags,)`, the scores of the last tags of sequences; None: zeros.
        top_paths: How many sequences are returned.
        allowed: Which transitions, first tags and last tags are possible, such as
            `kseq.tag_schemes.allowed_transitions(names, "BIO")`. Probabilities are those among possible sequences.

    Returns:
        `CRFDecoded`. A row of length 0 has one sequence, without tags, of score 0. In a compiled graph, a row with an
        invalid length has the tags -1 and the score NaN, and so has a row with NaN or +inf among its scores. Rows never
        affect each other.

    Raises:
        ValueError: If shapes do not match, a dtype is wrong, or `top_paths` is not a whole number of at least 1; and
            where values are known (outside compiled graphs), if a length is invalid or a score is NaN or +inf.

    Example:
        >>> decoded = crf_decode([[[0.0, 1.0], [2.0, 0.0]]], [2], transitions=[[0.0, 0.0], [-3.0, 0.0]], top_paths=2)
        >>> decoded.tags, ops.exp(decoded.scores)
        ([[[0, 0], [1, 1]]], [[0.604, 0.222]])

    References:
        - J. Lafferty, A. McCallum, F. Pereira, "Conditional random fields: probabilistic models for segmenting and
          labeling sequence data", 2001.
        - N. Seshadri, C.-E. Sundberg, "List Viterbi decoding algorithms with applications", 1994.
    """
    top_paths = whole("top_paths", top_paths)
    if top_paths < 1:
        raise ValueError(f"top_paths must be 1 or more, but got top_paths={top_paths}.")
    scores = ops.convert_to_tensor(scores)
    chain = make_chain(scores, lengths, transitions, start, end, allowed)
    tags, logs = decode(chain, top_paths)
    logs = ops.where(logs == -float("inf"), LOG_ZERO, logs)
    return CRFDecoded(tags[:, :, : ops.shape(scores)[1]], logs)


@without_autograph
def crf_marginals(
    scores: Tensor,
    lengths: Tensor,
    *,
    transitions: Tensor,
    start: Tensor | None = None,
    end: Tensor | None = None,
    allowed: AllowedTransitions | None = None,
) -> Tensor:
    """Return the probability of each tag at each step, summed over all sequences of tags.

    Args:
        scores: As in `crf_decode`.
        lengths: As in `crf_decode`.
        transitions: As in `crf_decode`.
        start: As in `crf_decode`.
        end: As in `crf_decode`.
        allowed: As in `crf_decode`.

    Returns:
        float32 `(batch, time, tags)`; the values of a step sum to 1. They are 0 in the padding, and in rows for whose
        length no sequence is possible. In a compiled graph, a row with an invalid length is NaN, and so is a row with
        NaN or +inf among its scores.

    Raises:
        ValueError: As `crf_decode`.
        NotImplementedError: If a gradient is requested. In a TensorFlow graph it is an `InvalidArgumentError`, and
            compiled by XLA the gradient is NaN.

    Example:
        >>> crf_marginals(np.zeros((1, 2, 2)), [2], transitions=[[0.0, 0.0], [-np.inf, 0.0]])  # 3 sequences of 4
        [[[0.667, 0.333], [0.333, 0.667]]]
    """
    scores = ops.convert_to_tensor(scores)
    chain = make_chain(scores, lengths, transitions, start, end, allowed)
    return marginals(chain)[:, : ops.shape(scores)[1]]
