"""The gate of ids, labels, tags and lengths: what is refused where it is known, and what a compiled graph does."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import kseq
from kseq.ids import NO_ID, integers, known_integers, read_rows
from tests.support import compiled

WRONG = {
    "nan": (np.array([[1.0, np.nan]]), r"have dtype float64 \(such as nan at \[0, 1\]\), but they must be integers"),
    "fraction": ([[4.9, 1.0]], r"have dtype float64 \(such as 4.9 at \[0, 0\]\)"),
    "float": (np.array([[4.0]]), r'have dtype float64, .* cast them: np.asarray\(x\).astype\("int32"\)'),
    "half": (np.array([[4.0]], "float16"), "have dtype float16"),
    "bool": ([[True]], "have dtype bool"),
    "text": ([["4"]], "have dtype str.* Turn texts into ids by a tokenizer first"),
    "tensor of texts": (tf.constant([["a"]]), "have dtype string.* Turn texts into ids by a tokenizer first"),
    "object": (np.array([[4]], object), "have dtype object"),
    "ragged": ([[4, 5], [6]], "have dtype object, .* Rows of different lengths must be padded"),
    "complex": (np.array([[4j]]), "have dtype complex128"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_only_integers_pass(kind):
    values, message = WRONG[kind]
    with pytest.raises(ValueError, match=f"The values of x {message}"):
        known_integers(values, "x")


def test_integers_of_every_width_pass_unchanged():
    for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        known = known_integers(np.array([0, 100], dtype), "x")
        assert known.dtype.kind == "i"
        np.testing.assert_array_equal(known - 1, [-1, 99])  # nothing wraps below zero
    for beyond in (np.array([2**63 + 5], "uint64"), np.array([2**40])):
        assert int(integers(beyond, "x")[0]) == NO_ID
    assert known_integers([], "x").dtype == "int32"


def test_losses_and_metrics_take_whole_numbers_of_a_float_dtype():
    np.testing.assert_array_equal(known_integers(np.array([3.0, -1.0]), "x", whole_floats=True), [3, -1])
    with pytest.raises(ValueError, match=r"must be whole numbers, but there are others \(such as 0.5 at \[1\]\)"):
        known_integers(np.array([3.0, 0.5]), "x", whole_floats=True)


@pytest.mark.every_backend
def test_in_a_graph_what_is_no_id_becomes_one_outside_every_vocabulary():
    run = compiled(lambda x: integers(x, "x", whole_floats=True))
    values = np.array([3.0, -1.0, np.nan, 4.9, np.inf, -np.inf, 1e20], "float32")
    np.testing.assert_array_equal(run(values), [3, -1, *[NO_ID] * 5])
    np.testing.assert_array_equal(run(np.array([250, 3], "uint8")), [250, 3])
    with pytest.raises(ValueError, match="The values of x have dtype float32, but they must be integers"):
        compiled(lambda x: integers(x, "x"))(values)


@pytest.mark.every_backend
def test_rows_of_a_graph_are_valid_one_by_one():
    ids = np.array([[1, 9, 2], [1, 3, 2], [1, 2, -7], [1, 2, 0], [1, 2, 0], [9, 9, 9]])
    lengths = np.array([2, 2, 2, -1, 4, 0], "int32")
    rows = compiled(lambda *x: tuple(read_rows(*x, 4, name="x")))(ids, lengths)
    np.testing.assert_array_equal(rows[2], [False, True, True, False, False, True])
    assert np.asarray(rows[0]).max() == 3
    np.testing.assert_array_equal(rows[1], [2, 2, 2, 0, 3, 0])
    with pytest.raises(ValueError, match=r"x\[0, 1\] = 9 is not a token id"):
        read_rows(ids, np.maximum(lengths % 4, 0), 4, name="x")
    with pytest.raises(ValueError, match=r"x_lengths\[3\] = -1, but x has 3 columns"):
        read_rows(ids, lengths, 4, name="x")


LOGITS = np.zeros((1, 4, 3), "float32")
ENTRANCES = {
    "ctc_loss": lambda x: kseq.ctc_loss(x, LOGITS, [2], [4]),
    "ctc_forced_align": lambda x: kseq.alignment.ctc_forced_align(x, LOGITS, [2], [4]),
    "ctc_loss lengths": lambda x: kseq.ctc_loss([[1, 2]], LOGITS, x[0][1:], [4]),
    "CTC": lambda x: kseq.losses.CTC()(x, LOGITS),
    "CTC lengths": lambda x: kseq.losses.CTC()({"labels": [[1, 2]], "label_lengths": x[0][1:]}, LOGITS),
    "AlignmentLoss": lambda x: kseq.losses.AlignmentLoss()(x, LOGITS),
    "SequenceCrossEntropy": lambda x: kseq.losses.SequenceCrossEntropy()(x, LOGITS[:, :2]),
    "TokenAccuracy": lambda x: kseq.metrics.TokenAccuracy()(x, LOGITS[:, :2]),
    "TokenErrorRate": lambda x: kseq.metrics.TokenErrorRate()(x, LOGITS),
    "EditDistance": lambda x: kseq.metrics.EditDistance()(np.array([[1, 2]]), x),
    "bucket_by_length": lambda x: kseq.training.bucket_by_length({"source": x}, batch_size=1, buckets=[4]),
}


@pytest.mark.parametrize("value", [np.nan, 1.9], ids=str)
@pytest.mark.parametrize("name", ENTRANCES)
def test_every_entrance_is_behind_the_gate(name, value):
    with pytest.raises(ValueError, match=str(value)):
        ENTRANCES[name](np.array([[2.0, value]]))


@pytest.mark.long
def test_alignments_take_lists():
    lists, arrays = ([[1, 2]], LOGITS.tolist(), [2], [4]), (np.array([[1, 2]]), LOGITS, np.array([2]), np.array([4]))
    for function in (kseq.ctc_loss, lambda *x: kseq.alignment.ctc_forced_align(*x).scores):
        np.testing.assert_allclose(function(*lists), function(*arrays), rtol=1e-6)


def test_float_lengths_of_a_batch_without_rows_are_no_error():
    losses = kseq.ctc_loss(np.zeros((0, 2), int), np.zeros((0, 4, 5), "float32"), [], [])
    assert ops.shape(losses) == (0,)
