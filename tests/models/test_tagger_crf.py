"""The tagger with a conditional random field, and with a scheme of tags."""

import keras
import numpy as np
import pytest

import kseq
from tests.reference.crf import every_sequence, log_likelihood, marginals
from tests.support import BACKEND

NAMES = ["O", "B-X", "I-X"]
LENGTHS = [4, 2, 0, 3]
BATCH = {
    "source": np.array([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 0, 0], [3, 3, 1, 0]], "int32"),
    "source_lengths": np.array(LENGTHS, "int32"),
    "tags": np.array([[1, 2, 0, 1], [0, 1, -1, -1], [-1, -1, -1, -1], [1, 2, 2, -1]], "int32"),
}


def make_model(crf=True, scheme="BIO", **options):
    keras.utils.set_random_seed(3)
    encoder = kseq.models.Encoder(7, 4, kseq.cells.GRUCell(3), **options)
    model = kseq.models.Tagger(encoder, 3, class_names=NAMES, crf=crf, scheme=scheme)
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    if crf:
        model.crf.transitions.assign(4 * random.normal(size=(3, 3)))
    return model


@pytest.fixture(scope="module")
def model():
    """A model that tests do not change."""
    return make_model()


def sequences(model, row):
    """Return all sequences of tags of a row and their scores, best first; those that the scheme forbids have -inf."""
    logits = np.asarray(model(BATCH))[row, : LENGTHS[row]]
    weights = dict.fromkeys(("transitions", "start", "end"), 0.0)
    if model.crf is not None:
        weights = {name: np.array(getattr(model.crf, name), np.float64) for name in weights}
    transitions, start = np.zeros((3, 3)) + weights["transitions"], np.zeros(3) + weights["start"]
    if model.scheme is not None:
        transitions[0, 2] = start[2] = -np.inf
    return every_sequence(logits, transitions, start, np.zeros(3) + weights["end"])


@pytest.mark.long
@pytest.mark.parametrize("scheme", [None, "BIO"])
def test_the_loss_is_the_mean_negative_log_likelihood_of_rows_with_tokens(scheme):
    model = make_model(scheme=scheme)
    model.compile(run_eagerly=True)
    losses = [
        -log_likelihood(BATCH["tags"][row, :count], sequences(model, row)) for row, count in enumerate(LENGTHS) if count
    ]
    assert model.evaluate(BATCH, verbose=0)[0] == pytest.approx(np.mean(losses), rel=1e-5)
    rows = {name: np.concatenate([value, value[:1]]) for name, value in BATCH.items()}  # batches of 3, 1 and 1 rows
    expected = np.mean([*losses, losses[0]])
    assert model.evaluate(rows, batch_size=2, verbose=0)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.long
@pytest.mark.parametrize(("crf", "scheme"), [(True, None), (False, "BIO")])
def test_decodes_the_best_sequence_and_metrics_see_it(crf, scheme):
    model = make_model(crf, scheme)
    decoded = np.asarray(model.decode(model(BATCH), BATCH["source_lengths"]))
    best = [sequences(model, row)[0][0] for row in range(4)]
    assert [tuple(row[:count]) for row, count in zip(decoded.tolist(), LENGTHS, strict=True)] == best
    by_token = np.argmax(np.asarray(model(BATCH)), axis=-1)
    assert any(tuple(by_token[row, :count]) != best[row] for row, count in enumerate(LENGTHS))
    model.compile(jit_compile=True)
    result = model.evaluate(BATCH, verbose=0, return_dict=True)
    right = sum(int(np.sum(BATCH["tags"][row, :count] == best[row])) for row, count in enumerate(LENGTHS))
    assert result["token_accuracy"] == pytest.approx(right / 9)
    assert ("span_f1" in result) == (scheme is not None)
    if scheme is not None:
        metric = kseq.metrics.SpanF1(NAMES)
        assert result["span_f1"] == pytest.approx(float(metric(BATCH["tags"], decoded, lengths=LENGTHS)))


def test_probabilities_are_marginals(model):
    found = np.asarray(model.decoder.probabilities(model(BATCH), BATCH["source_lengths"]))
    np.testing.assert_allclose(found[0], marginals(sequences(model, 0), 4, 3), atol=1e-5)


@pytest.mark.long
def test_padding_changes_no_tag_and_no_loss(model):
    longer = {
        "source": np.pad(BATCH["source"], [(0, 0), (0, 3)], constant_values=6),
        "source_lengths": BATCH["source_lengths"],
        "tags": np.pad(BATCH["tags"], [(0, 0), (0, 3)], constant_values=2),
    }
    decoded, more = (np.asarray(model.decode(model(each), each["source_lengths"])) for each in (BATCH, longer))
    for row, count in enumerate(LENGTHS):
        assert decoded[row, :count].tolist() == more[row, :count].tolist()
    model.compile(run_eagerly=True)
    assert model.evaluate(longer, verbose=0) == pytest.approx(model.evaluate(BATCH, verbose=0), rel=1e-5)


@pytest.mark.long
@pytest.mark.every_backend
def test_trains_its_transitions_saves_and_loads(tmp_path):
    model = make_model(dropout=0.1)
    before = np.array(model.crf.transitions)
    model.compile(keras.optimizers.Adam(0.01), run_eagerly=BACKEND == "tensorflow")
    assert np.isfinite(model.fit(BATCH, verbose=0).history["loss"][0])
    assert np.abs(np.array(model.crf.transitions) - before).max() > 1e-3
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_config() == model.get_config()
    logits = model(BATCH)
    np.testing.assert_array_equal(loaded.decode(loaded(BATCH), LENGTHS), model.decode(logits, LENGTHS))
    if BACKEND == "tensorflow":  # JAX would compile the same step again
        assert loaded.evaluate(BATCH, verbose=0) == pytest.approx(model.evaluate(BATCH, verbose=0), rel=1e-5)


@pytest.mark.long
def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make_model()
        model.compile(run_eagerly=True)
        assert np.isfinite(model.fit(BATCH, verbose=0).history["loss"][0])
        assert {weight.dtype for weight in model.crf.weights} == {"float32"}
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.long
def test_a_scheme_may_be_given_after_training():
    free = make_model(scheme=None)
    bound = kseq.models.Tagger.from_config({**free.get_config(), "scheme": "BIO"})
    bound.build()
    bound.set_weights(free.get_weights())
    decoded = np.asarray(bound.decode(free(BATCH), LENGTHS))
    for row, count in enumerate(LENGTHS):
        assert tuple(decoded[row, :count]) == sequences(bound, row)[0][0]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ([[0, 2]], r"tags\[0\]: after 'O', 'I-X' stands at token 1, which the scheme BIO does not allow"),
        ([[2, 2]], r"tags\[0\]: after the start of the row, 'I-X' stands at token 0"),
        ([[0, 3]], r"tags\[0, 1\] = 3 is not a tag: the model has tags 0 to 2"),
        ([[0]], r"tags\[0\] has 1 values, but source\[0\] has 2"),
        ([[0, -100]], r"tags\[0, 1\] = -100 is not a tag"),
    ],
)
def test_tags_outside_the_scheme_are_refused(tags, message, model):
    model.compile()
    with pytest.raises(ValueError, match=message):
        model.fit({"source": [[1, 2]], "tags": tags}, verbose=0)


def test_tags_that_may_not_end_a_row_are_refused():
    encoder = kseq.models.Encoder(5, 4, kseq.cells.GRUCell(3))
    model = kseq.models.Tagger(encoder, 4, class_names=["O", "B-X", "E-X", "S-X"], scheme="BIOES")
    model.compile()
    with pytest.raises(ValueError, match=r"tags\[1\]: after 'B-X', the row ends at token 2, which the scheme BIOES"):
        model.fit({"source": [[1, 2], [3, 4]], "tags": [[1, 2], [0, 1]]}, verbose=0)


def test_options_that_do_not_fit_are_refused():
    encoder = kseq.models.Encoder(5, 4, kseq.cells.GRUCell(3))
    for options, message in (
        ({"scheme": "BIO"}, "scheme='BIO' needs class_names"),
        ({"scheme": "BOI", "class_names": NAMES}, "scheme='BOI', but the schemes are"),
        ({"scheme": "BIO", "class_names": ["O", "B-X", "PER"]}, r"names\[2\] is 'PER', but the tags of BIO"),
        ({"crf": 1}, "crf must be True or False"),
    ):
        with pytest.raises(ValueError, match=message):
            kseq.models.Tagger(encoder, 3, **options)
    with pytest.raises(ValueError, match=r"is trained by the likelihood of its CRF"):
        kseq.models.Tagger(encoder, 3, crf=True).compile(loss=kseq.losses.SequenceCrossEntropy())
    with pytest.raises(ValueError, match=r"The loss is kseq.losses.CRF, but the model has no CRF"):
        kseq.models.Tagger(encoder, 3).compile(loss=kseq.losses.CRF())
