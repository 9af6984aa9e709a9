"""The forward-backward algorithm, compared with an enumeration of all alignments."""

import functools

import numpy as np
import pytest

from kseq.alignment import CTCTopology, OrderSynchronous, ctc_posteriors, forward_backward
from tests.alignment.cases import TOLERANCE, enumerated, in_shape, random_batch
from tests.reference import alignment as reference
from tests.support import compiled

TOPOLOGIES = [CTCTopology(), OrderSynchronous()]
SMALL = {"rows": 63, "frames": 6, "classes": 5, "count": 4}  # the shape of the enumerated batch
LONG = {"rows": 4, "frames": 500, "classes": 8, "count": 60, "dtype": "float32"}


@functools.cache
def compiled_sums(topology):
    """Return the compiled function, traced once per shape and topology."""
    return compiled(lambda *batch: forward_backward(*batch, topology=topology))


def sums(*batch, topology=None, like=SMALL):
    """Return the sums of a batch, computed in a shape that tests share."""
    got = compiled_sums(topology or CTCTopology())(*in_shape(*batch, **like))
    return type(got)(*(np.asarray(x)[: len(batch[0])] for x in got))


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.parametrize("blank", [0, 4, None])
def test_equals_the_enumeration_of_every_alignment(blank):
    arguments, alignments = enumerated(blank)
    # -1 is another name of the last class.
    got = sums(*arguments, topology=OrderSynchronous() if blank is None else CTCTopology({4: -1}.get(blank, blank)))
    expected = [reference.log_probability(each) for each in alignments]
    assert -np.inf in expected
    np.testing.assert_allclose(got.log_probabilities, expected, rtol=TOLERANCE, atol=TOLERANCE)
    for row, (length, frames) in enumerate(zip(*arguments[2:], strict=True)):
        states = length if blank is None else 2 * length + 1
        want = np.zeros_like(got.posteriors[row])
        if alignments[row]:
            want[:frames, :states] = reference.posteriors(alignments[row], frames, states)
        np.testing.assert_allclose(got.posteriors[row], want, atol=TOLERANCE, err_msg=f"row {row}")


@pytest.mark.long
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_eager_equals_compiled(topology):
    batch = in_shape(*enumerated(0)[0], **SMALL)
    eager, fast = forward_backward(*batch, topology=topology), compiled_sums(topology)(*batch)
    np.testing.assert_allclose(eager.log_probabilities, fast.log_probabilities, rtol=TOLERANCE)
    np.testing.assert_allclose(eager.posteriors, fast.posteriors, atol=TOLERANCE)


@pytest.mark.long
def test_a_graph_of_unknown_shape_equals_compiled():
    import tensorflow as tf

    batch = random_batch(5, 40, 6, 7)
    spec = [tf.TensorSpec([None] * x.ndim if x.ndim < 3 else [None, None, 6], x.dtype) for x in batch]
    graph = tf.function(forward_backward, input_signature=spec)(*batch)
    fast = compiled(forward_backward)(*batch)
    np.testing.assert_allclose(graph.log_probabilities, fast.log_probabilities, rtol=1e-6)
    np.testing.assert_allclose(graph.posteriors, fast.posteriors, atol=2e-6)  # rounded in another order


@pytest.mark.long
@pytest.mark.every_backend
def test_every_frame_has_one_state():
    batch = random_batch(4, 500, 8, 60, scale=4.0)
    posteriors = sums(*batch, like=LONG).posteriors
    inside = np.arange(500)[None] < batch[3][:, None]
    np.testing.assert_allclose(posteriors.sum(-1), inside, atol=1e-6)
    assert (posteriors[~inside] == 0).all()
    states = 2 * batch[2] + 1
    assert all((posteriors[row, :, states[row] :] == 0).all() for row in range(4))


@pytest.mark.long
def test_a_word_with_a_blank_at_the_end_of_the_classes():
    logits = np.log([[[0.6, 0.1, 1e-99, 1e-99, 0.3], [0.1, 0.2, 1e-99, 1e-99, 0.7], [0.5, 0.4, 1e-99, 1e-99, 0.1]]])
    batch = np.array([[0, 0]]), logits, np.array([2]), np.array([3])
    got = sums(*batch, topology=CTCTopology(-1))  # only 0, blank, 0 spells it
    np.testing.assert_allclose(np.exp(got.log_probabilities), [0.6 * 0.7 * 0.5], rtol=1e-6)
    np.testing.assert_array_equal(np.argmax(got.posteriors[0, :3], axis=-1), [1, 2, 3])


@pytest.mark.long
def test_ctc_posteriors_are_those_of_the_sums():
    batch = random_batch(3, 9, 6, 4, blank=5)
    expected = forward_backward(*batch, topology=CTCTopology(-1)).posteriors
    np.testing.assert_array_equal(ctc_posteriors(*batch, blank_index=5), expected)


@pytest.mark.long
@pytest.mark.parametrize("run", [forward_backward, compiled_sums], ids=["eager", "compiled"])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_no_frames_and_no_labels(run, topology):
    lengths = np.array([0, 1, 0, 1]), np.array([0, 0, 3, 3])
    batch = in_shape(np.full((4, 1), 1), np.zeros((4, 3, 2)), *lengths, **SMALL)
    got = run(*batch, topology=topology) if run == forward_backward else run(topology)(*batch)
    # 6 of the 8 paths spell label 1: those whose ones are adjacent.
    ctc, order = [0.0, -np.inf, np.log(1 / 8), np.log(6 / 8)], [0.0, -np.inf, -np.inf, np.log(1 / 8)]
    expected = ctc if topology == CTCTopology() else order
    np.testing.assert_allclose(np.asarray(got.log_probabilities)[:4], expected, rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize(("frames", "count"), [(0, 0), (0, 2), (3, 0)])
def test_empty_tensors(topology, frames, count):
    batch = np.ones((2, count), int), np.zeros((2, frames, 3), "float32"), np.full(2, count), np.full(2, frames)
    got = compiled_sums(topology)(*batch)
    only_blanks = frames * np.log(1 / 3) if topology == CTCTopology() else -np.inf
    expected = {(0, 0): 0.0, (0, 2): -np.inf, (3, 0): only_blanks}[frames, count]
    np.testing.assert_allclose(got.log_probabilities, np.full(2, expected), rtol=1e-6)
    assert got.posteriors.shape[:2] == (2, frames)


@pytest.mark.long
@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_extreme_logits(scale):
    (labels, logits, *lengths), _ = enumerated(0, seed=1)
    labels, logits, *lengths = in_shape(labels, logits * scale, *lengths, **SMALL, dtype="float32")
    got = compiled_sums(CTCTopology())(labels, logits, *lengths)
    posteriors = np.asarray(got.posteriors)
    for row, (length, frames) in enumerate(zip(*lengths, strict=True)):
        alignments = reference.every_alignment(labels[row, :length].tolist(), logits[row, :frames], 0)
        np.testing.assert_allclose(
            got.log_probabilities[row], reference.log_probability(alignments), rtol=1e-6, atol=1e-6
        )
        if alignments:
            want = reference.posteriors(alignments, frames, 2 * length + 1)
            # Logits of 1e4 have a rounding error of 1e-3 in float32, and so have their differences.
            atol = 1e-4 if scale < 1e3 else 1e-3
            np.testing.assert_allclose(posteriors[row, :frames, : 2 * length + 1], want, atol=atol)


@pytest.mark.long
@pytest.mark.every_backend
def test_a_model_that_says_blank_everywhere():
    """Fifty labels of probability exp(-30) each: their joint probability underflows in float32."""
    frames, count = 200, 50
    logits = np.zeros((1, frames, 3), "float32")
    logits[:, :, 0] = 30.0
    labels = np.resize([1, 2], (1, count))
    got = sums(labels, logits, np.array([count]), np.array([frames]), like=LONG)
    # The C(200, 50) alignments with one frame per label have equal probabilities; all others are negligible.
    ways = sum(np.log(np.arange(frames - count + 1, frames + 1)) - np.log(np.arange(1, count + 1)))
    np.testing.assert_allclose(got.log_probabilities, [ways - 30.0 * count], rtol=1e-6)
    np.testing.assert_allclose(got.posteriors[0, :, 1 : 2 * count : 2].sum(0), np.ones(count), rtol=1e-4)


@pytest.mark.every_backend
def test_probability_zero():
    logits = np.zeros((3, 3, 3), "float32")
    logits[0, :, 1] = -np.inf  # the label's
    logits[1, :, 2] = -np.inf  # a class that does not occur in the labels
    logits[2, :, 1] = -1e30
    got = sums(np.ones((3, 1), int), logits, np.ones(3, int), np.full(3, 3))
    np.testing.assert_allclose(got.log_probabilities, [-np.inf, np.log(6 / 8), -np.inf], rtol=1e-6)
    assert np.isfinite(got.posteriors).all()
    assert (got.posteriors[[0, 2]] == 0).all()


def test_the_sum_of_all_labellings_is_one():
    frames, classes = 4, 3
    random = np.random.default_rng(3)
    logits = random.normal(size=(1, frames, classes)).astype("float32")
    every = [(*labels, *[0] * (frames - n)) for n in range(frames + 1) for labels in np.ndindex(*[classes - 1] * n)]
    lengths = [n for n in range(frames + 1) for _ in range((classes - 1) ** n)]
    got = sums(np.array(every) + 1, np.repeat(logits, len(every), 0), np.array(lengths), np.full(len(every), frames))
    np.testing.assert_allclose(np.exp(got.log_probabilities).sum(), 1.0, rtol=1e-6)
