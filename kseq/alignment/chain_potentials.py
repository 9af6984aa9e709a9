"""Relative scores of a linear chain: shifted so that none is above zero, which keeps their precision.

Large scores have few digits left for their differences, so a common part is subtracted first: of each step the largest
score, and of all transitions to a tag the largest one, which is added to the scores of that tag. Probabilities do not
change: all sequences of a row lose the same sum.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from kseq.alignment.linear_chain import Chain, inside_of
from kseq.backend import Tensor


class Potentials(NamedTuple):
    """Relative scores, time first.

    Attributes:
        scores: float32 `(time, batch, tags)`, at most 0; 0 in the padding.
        transitions: float32 `(tags, tags)`, from, to; at most 0.
        end: float32 `(tags,)`, at most 0.
        inside: bool `(time, batch)`, True at real steps; there are none in rows that are broken or not usable.
        last: bool `(time, batch)`, True at the last real step of each row.
        broken: bool `(batch,)`, True in rows with NaN or +inf among the scores of real steps, or of transitions.
    """

    scores: Tensor
    transitions: Tensor
    end: Tensor
    inside: Tensor
    last: Tensor
    broken: Tensor


def potentials(chain: Chain) -> Potentials:
    """Return the relative scores of a chain."""
    inside = inside_of(chain)
    broken = ops.any(ops.logical_and(inside, ops.any(_odd(chain.scores), axis=2)), axis=1)
    shared = (chain.transitions, chain.start, chain.end)
    broken = ops.logical_or(broken, ops.any(ops.stack([ops.any(_odd(each)) for each in shared])))
    transitions, start, end = (ops.where(_odd(each), 0.0, each) for each in shared)
    lengths = ops.where(broken, 0, chain.lengths)
    steps = ops.arange(ops.shape(chain.scores)[1], dtype="int32")[:, None]  # (time, 1)
    inside = steps < lengths[None]
    best = _finite(ops.max(transitions, axis=0))  # of all transitions to a tag
    scores = ops.transpose(chain.scores, (1, 0, 2)) + ops.where(steps[:, :, None] == 0, start, best)
    scores = scores - _finite(ops.max(scores, axis=2, keepdims=True, initial=-np.inf))
    return Potentials(
        scores=ops.where(inside[:, :, None], scores, 0.0),
        transitions=transitions - best,
        end=end - _finite(ops.max(end)),
        inside=inside,
        last=steps == lengths[None] - 1,
        broken=broken,
    )


def _odd(values: Tensor) -> Tensor:
    """Return which values are NaN or +inf."""
    # Not as `not values < inf`, of which TensorFlow's graphs make `values >= inf`, although NaN is neither.
    return ops.logical_or(ops.isnan(values), values == np.inf)


def _finite(values: Tensor) -> Tensor:
    """Return the values with 0 in place of -inf."""
    return ops.where(values > -np.inf, values, 0.0)
