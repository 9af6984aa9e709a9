"""F1 of spans, against a reference and against the package seqeval."""

import warnings

import keras
import numpy as np
import pytest

import kseq
from kseq.masking import set_implicit_mask
from tests.reference.spans import span_f1
from tests.support import compiled

NAMES = {
    "BIO": ["O", "B-X", "I-X", "B-Y", "I-Y"],
    "BIOES": ["I-Y", "S-X", "O", "B-X", "I-X", "E-X", "B-Y", "E-Y", "S-Y"],
    "BILOU": ["O", "B-X", "I-X", "L-X", "U-X", "B-Y", "L-Y", "U-Y"],
}
BIO = NAMES["BIO"]


def drawn(scheme, rows=60, time=7):
    """Return hostile tags, expected and predicted, and lengths: any tag follows any other."""
    random = np.random.default_rng(len(scheme))
    expected = random.integers(0, len(NAMES[scheme]), (rows, time))
    predicted = np.where(
        random.random((rows, time)) < 0.7, expected, random.integers(0, len(NAMES[scheme]), (rows, time))
    )
    return expected, predicted, random.integers(0, time + 1, rows)


def spelt(tags, lengths, scheme):
    return [[NAMES[scheme][tag] for tag in row[:count]] for row, count in zip(tags, lengths, strict=True)]


@pytest.mark.parametrize("mode", [None, "strict"])
@pytest.mark.parametrize("scheme", NAMES)
def test_equals_the_reference_over_batches(scheme, mode):
    expected, predicted, lengths = drawn(scheme)
    metric = kseq.metrics.SpanF1(NAMES[scheme], scheme, mode=mode)
    assert float(metric.result()) == 0.0
    for part in (slice(0, 23), slice(23, None)):
        metric.update_state(expected[part], predicted[part], lengths=lengths[part])
    pairs = spelt(expected, lengths, scheme), spelt(predicted, lengths, scheme)
    want = span_f1(*pairs, scheme=scheme, strict=mode == "strict")
    assert 0.1 < want < 0.9
    np.testing.assert_allclose(metric.result(), want, rtol=1e-6)


@pytest.mark.parametrize(("scheme", "mode"), [("BIO", None), ("BIOES", None), *((of, "strict") for of in NAMES)])
def test_equals_seqeval(scheme, mode):
    seqeval, schemes = pytest.importorskip("seqeval.metrics"), pytest.importorskip("seqeval.scheme")
    expected, predicted, lengths = drawn(scheme)
    metric = kseq.metrics.SpanF1(NAMES[scheme], scheme, mode=mode)
    metric(expected, predicted, lengths=lengths)
    pairs = spelt(expected, lengths, scheme), spelt(predicted, lengths, scheme)
    of_seqeval = {"BIO": schemes.IOB2, "BIOES": schemes.IOBES, "BILOU": schemes.BILOU}[scheme]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = seqeval.classification_report(*pairs, mode=mode, scheme=of_seqeval, output_dict=True)
    np.testing.assert_allclose(metric.result(), report["micro avg"]["f1-score"], rtol=1e-6)
    for name, scores in metric.result_by_type().items():
        assert scores == pytest.approx([*report[name].values()])


@pytest.mark.long
@pytest.mark.long_on_jax
def test_logits_count_as_their_largest_in_a_compiled_step_whatever_the_padding_holds():
    expected, predicted, lengths = drawn("BIO", rows=9)
    logits = np.eye(5, dtype="float32")[predicted]
    mask = np.arange(7) < lengths[:, None]
    logits[~mask] = np.nan
    expected[~mask] = -1
    metric, eager = (kseq.metrics.SpanF1(BIO) for _ in range(2))

    def counts(labels, logits, mask):
        set_implicit_mask(logits, mask)
        variables = metric.stateless_update_state([v.value for v in metric.variables], labels, logits)
        return metric.stateless_result(variables)

    f1 = compiled(counts)(*map(keras.ops.convert_to_tensor, (expected, logits, mask)))
    np.testing.assert_allclose(f1, eager(np.where(mask, expected, 0), predicted, lengths=lengths), rtol=1e-6)
    assert float(f1) > 0.1


def test_scores_of_types():
    metric = kseq.metrics.SpanF1(BIO)
    metric(np.array([[1, 2, 0, 1, 3]]), np.array([[1, 2, 0, 3, 3]]))
    scores = metric.result_by_type()
    assert scores["X"] == (1.0, 0.5, 2 / 3, 2)
    assert scores["Y"] == (0.5, 1.0, 2 / 3, 1)
    assert kseq.metrics.SpanF1(BIO).result_by_type()["X"] == (0.0, 0.0, 0.0, 0)


def test_rows_are_read_without_ignored_tokens():
    metric = kseq.metrics.SpanF1(BIO, ignore_label=-100)
    expected, predicted = np.array([[1, -100, 2, 0, -100]]), np.array([[1, 3, 2, 0, 1]])
    assert float(metric(expected, predicted)) == 1.0
    weights = np.array([[1, 0, 1, 1, 0]])
    assert float(kseq.metrics.SpanF1(BIO)(np.maximum(expected, 0), predicted, sample_weight=weights)) == 1.0
    rows = kseq.metrics.SpanF1(BIO)(np.array([[1], [1]]), np.array([[1], [3]]), sample_weight=np.array([1, 0]))
    assert float(rows) == 1.0


def test_rows_without_tokens_have_no_spans():
    empty = np.zeros((3, 0), "int32")
    assert float(kseq.metrics.SpanF1(BIO)(empty, empty)) == 0.0
    assert float(kseq.metrics.SpanF1(BIO)(empty[:0], empty[:0])) == 0.0


@pytest.mark.parametrize(
    ("expected", "predicted", "options", "message"),
    [
        ([[0, 7]], [[0, 1]], {}, r"y_true\[0, 1\] = 7 is not a tag: the metric has 5 names, ids 0 to 4"),
        ([[0, 1]], [[0, -1]], {}, r"y_pred\[0, 1\] = -1 is not a tag"),
        ([[0, 1]], np.zeros((1, 2, 4)), {}, r"y_pred has shape \(1, 2, 4\), but expected .* \(batch, time, 5\)"),
        ([[0]], [[0, 1]], {}, r"y_true has shape \(1, 1\)"),
        ([[0, 1]], [[0, 1]], {"sample_weight": np.array([0.5])}, r"sample_weight has 0.5"),
    ],
)
def test_tags_that_are_none_and_other_shapes_are_refused(expected, predicted, options, message):
    with pytest.raises(ValueError, match=message):
        kseq.metrics.SpanF1(BIO)(np.array(expected), np.array(predicted), **options)
