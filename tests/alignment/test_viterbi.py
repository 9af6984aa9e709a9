"""The Viterbi algorithm, compared with an enumeration of all alignments."""

import numpy as np
import pytest

from kseq.alignment import CTCTopology, OrderSynchronous, viterbi_align
from tests.alignment.cases import TOLERANCE, enumerated, random_batch
from tests.reference import alignment as reference
from tests.support import compiled


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.parametrize("blank", [0, 3, None])
def test_equals_the_best_of_every_alignment(blank):
    (labels, *others), alignments = enumerated(blank)
    topology = OrderSynchronous() if blank is None else CTCTopology(blank)
    got = compiled(lambda *batch: viterbi_align(*batch, topology=topology))(labels, *others)
    for row, each in enumerate(alignments):
        frames, length = others[2][row], others[1][row]
        path, score = max(each, key=lambda found: found[1], default=((-1,) * frames, -np.inf))
        np.testing.assert_allclose(got.scores[row], score, rtol=TOLERANCE, atol=TOLERANCE)
        assert np.asarray(got.states[row]).tolist() == [*path, *[-1] * (6 - frames)]
        names = [-1 if s < 0 else labels[row, s] if blank is None else labels[row, s // 2] if s % 2 else blank
                 for s in path]  # fmt: skip
        assert np.asarray(got.classes[row]).tolist() == [*names, *[-1] * (6 - frames)], (labels[row], length)
        np.testing.assert_allclose(
            np.sum(got.log_probabilities[row]), score if each else 0.0, atol=max(TOLERANCE, 1e-5)
        )


@pytest.mark.long
@pytest.mark.parametrize("topology", [CTCTopology(), OrderSynchronous()])
def test_eager_equals_compiled(topology):
    (labels, logits, *lengths), _ = enumerated(0, seed=5)
    batch = labels[::9], logits[::9], *(x[::9] for x in lengths)
    eager = viterbi_align(*batch, topology=topology)
    fast = compiled(lambda *batch: viterbi_align(*batch, topology=topology))(*batch)
    np.testing.assert_array_equal(eager.states, fast.states)
    np.testing.assert_allclose(eager.scores, fast.scores, rtol=TOLERANCE)


@pytest.mark.long
def test_a_graph_of_unknown_shape_equals_compiled():
    import tensorflow as tf

    batch = random_batch(5, 40, 6, 7)
    spec = [tf.TensorSpec([None] * x.ndim if x.ndim < 3 else [None, None, 6], x.dtype) for x in batch]
    graph = tf.function(viterbi_align, input_signature=spec)(*batch)
    fast = compiled(viterbi_align)(*batch)
    np.testing.assert_array_equal(graph.states, fast.states)
    np.testing.assert_allclose(graph.scores, fast.scores, rtol=1e-6)


@pytest.mark.long
def test_of_equal_paths_moves_on_late():
    batch = np.array([[1, 2]]), np.zeros((1, 5, 3), "float32"), np.array([2]), np.array([5])
    assert np.asarray(viterbi_align(*batch, topology=OrderSynchronous()).states).tolist() == [[0, 0, 0, 0, 1]]
    # Blanks are free here: the path stays in the first blank for three frames, which leaves just enough for the labels.
    assert np.asarray(viterbi_align(*batch).states).tolist() == [[0, 0, 0, 1, 3]]


@pytest.mark.long
def test_no_neighbour_is_better_over_a_thousand_frames():
    """The path is optimal although the differences of scores are below the resolution of a float32 sum."""
    labels, logits, label_lengths, logit_lengths = random_batch(2, 1000, 5, 200, scale=20.0, unequal=False, seed=2)
    got = compiled(viterbi_align)(labels, logits, label_lengths, logit_lengths)
    exact = reference.best_ctc_score(labels[0], logits[0])
    states, scores = np.asarray(got.states[0]), reference.log_softmax(logits[0])
    classes = np.where(states % 2 == 1, labels[0][np.minimum(states // 2, 199)], 0)
    assert collapse(classes) == labels[0].tolist()
    # Each frame's score, up to 100, is rounded to float32.
    np.testing.assert_allclose(scores[np.arange(1000), classes].sum(), exact, atol=1e-3)
    np.testing.assert_allclose(got.scores[0], exact, rtol=1e-6)


def collapse(classes):
    return reference.collapse(classes.tolist(), 0)


@pytest.mark.long
@pytest.mark.parametrize("wrap", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_what_cannot_be_aligned(wrap):
    labels = np.array([[1, 1], [1, 1], [1, 1], [1, 1]])
    logits = np.zeros((4, 3, 2), "float32")
    logits[3, :, 1] = -np.inf
    got = wrap(viterbi_align)(labels, logits, np.array([2, 0, 1, 1]), np.array([2, 0, 0, 3]))
    np.testing.assert_array_equal(got.scores, [-np.inf, 0.0, -np.inf, -np.inf])
    assert (np.asarray(got.states) == -1).all()
    assert (np.asarray(got.classes) == -1).all()
