"""A user-defined topology in all algorithms."""

import numpy as np
import pytest
from keras import ops

from kseq.alignment import Arc, Lattice, Topology, forward_backward, viterbi_align
from kseq.alignment.batch import make_batch
from kseq.alignment.forward_backward import log_probability
from tests.alignment.cases import random_batch
from tests.reference import alignment as reference
from tests.support import compiled, gradient


class AtLeastTwoFrames(Topology):
    """Each label covers two frames or more: it has two states, and only the second has an arc to itself."""

    hidden = 1

    def lattice(self, labels, label_lengths):
        count = labels.shape[1]
        places = np.arange(2 * count + 2)[None]
        last = 2 * label_lengths + 1
        at_last = places == ops.convert_to_tensor(last)[:, None]
        return Lattice(
            symbols=ops.pad(labels, [[0, 0], [1, 1]]),
            emitted=np.array([0, *np.repeat(np.arange(1, count + 1), 2), count + 1], "int32"),
            silent=ops.logical_or(at_last, places == 0),
            first=ops.zeros_like(label_lengths),
            last=last,
            arcs=(Arc(0, ops.logical_or(at_last, places % 2 == 0)), Arc(1)),
        )

    def label_of_state(self, states):
        return states // 2

    def collect(self, states):
        pairs = states[..., 1:-1]
        return ops.concatenate([states[..., :1], pairs[..., ::2] + pairs[..., 1::2], states[..., -1:]], axis=-1)


def alignments(labels, logits):
    """Return all alignments: those of `OrderSynchronous` in which each label has two frames or more."""
    scores, found = reference.log_softmax(logits), []
    for path, classes in reference.order_synchronous_alignments(labels, len(logits)):
        if all(path.count(j) >= 2 for j in range(len(labels))):
            states = tuple(2 * j + (j in path[:t]) for t, j in enumerate(path))
            found.append((states, float(sum(scores[t, c] for t, c in enumerate(classes)))))
    return found


@pytest.mark.long
def test_a_third_topology():
    topology = AtLeastTwoFrames()
    labels, logits, _, _ = random_batch(4, 8, 4, 3, unequal=False, seed=6)
    counts, frames = np.array([3, 2, 1, 3], "int32"), np.array([8, 7, 2, 5], "int32")
    batch = labels, logits, counts, frames
    both = compiled(lambda *x: (forward_backward(*x, topology=topology), viterbi_align(*x, topology=topology)))
    sums, best = both(*batch)
    (d_logits,) = gradient(
        lambda x: ops.sum(log_probability(topology, make_batch(labels, x, counts, frames, topology))[:3]), logits
    )
    for row in range(4):
        count, length = counts[row], frames[row]
        every = alignments(labels[row, :count].tolist(), logits[row, :length])
        np.testing.assert_allclose(sums.log_probabilities[row], reference.log_probability(every), rtol=1e-5)
        if not every:  # three labels in five frames
            assert row == 3
            assert (np.asarray(best.states[row]) == -1).all()
            continue
        posteriors = reference.posteriors(every, length, 6)
        np.testing.assert_allclose(sums.posteriors[row, :length], posteriors, atol=1e-6)
        path, score = max(every, key=lambda found: found[1])
        assert np.asarray(best.states[row, :length]).tolist() == list(path)
        np.testing.assert_allclose(best.scores[row], score, rtol=1e-5)
        by_class = sum(posteriors[:, [s]] * np.eye(4)[labels[row, s // 2]] for s in range(6))
        d_expected = by_class - np.exp(reference.log_softmax(logits[row, :length]))
        np.testing.assert_allclose(d_logits[row, :length], d_expected, atol=1e-6)
