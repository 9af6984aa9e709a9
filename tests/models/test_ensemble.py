"""Decoding, saving and scoring with an ensemble of models."""

import keras
import numpy as np
import pytest

import kseq
from tests.decoding.models import quick
from tests.models.conftest import SOURCES, TARGETS, make_model

BEAM = kseq.decoding.BeamSearch(beam_width=3, top_paths=2)


@pytest.fixture(scope="module")
def models():
    keras.utils.set_random_seed(5)
    return [make_model(num_layers=1), make_model("input feeding", kseq.cells.LSTMCell, units=4)]


@pytest.fixture(scope="module")
def source():
    random = np.random.default_rng(2)
    return random.integers(0, SOURCES, size=(3, 6)).astype("int32"), np.array([6, 2, 4], "int32")


def decode(model, source):
    return quick(lambda *x: model.decode(*x, strategy=BEAM, max_length=6))(*source)


@pytest.mark.long
def test_decodes_by_the_mean_of_its_models(models, source):
    both = kseq.models.Ensemble(models, weights=[2, 1])
    step = kseq.decoding.EnsembleStep(steps=[model.step for model in models], weights=[2, 1])

    def by_hand(*source):
        states, memories = zip(*(model.encode(*source) for model in models), strict=True)
        return BEAM(step, states, memory=memories, bos_id=2, eos_id=3, max_length=6)

    decoded = decode(both, source)
    for one, other in zip(decoded, quick(by_hand)(*source), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    twice = decode(kseq.models.Ensemble([models[0], models[0]], mean="log_probabilities"), source)
    alone = decode(models[0], source)
    np.testing.assert_array_equal(twice.tokens, alone.tokens)
    np.testing.assert_allclose(twice.scores, alone.scores, atol=1e-5)


@pytest.mark.long
def test_is_saved_and_loaded(models, source, tmp_path):
    both = kseq.models.Ensemble(models, weights=[2, 1], mean="log_probabilities")
    both.build()
    both.save(tmp_path / "both.keras")
    again = keras.saving.load_model(tmp_path / "both.keras")
    assert again.mean == "log_probabilities"
    for one, other in zip(decode(both, source), decode(again, source), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.long
def test_the_score_of_an_output_is_that_of_teacher_forcing(models, batch):
    """The reference is the training pass, which computes all steps at once."""
    model, source = models[0], (batch["source"], batch["source_lengths"])
    outputs = (batch["target"][:, 1:], batch["target_lengths"] - 1)
    scores = quick(lambda *x: kseq.sequence_log_probability(model, x[:2], x[2:]))(*source, *outputs)
    logits = np.asarray(model(batch), "float64")
    log_probabilities = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    chosen = np.take_along_axis(log_probabilities, outputs[0][..., None], axis=-1)[..., 0]
    expected = np.sum(np.where(np.arange(6) < outputs[1][:, None], chosen, 0), axis=1)
    assert (scores.shape, scores.dtype) == ((5,), "float32")
    np.testing.assert_allclose(scores, expected, atol=1e-4)


@pytest.mark.long
def test_an_ensembles_n_best_has_the_scores_it_was_found_with(models, source):
    both = kseq.models.Ensemble(models)
    decoded = decode(both, source)
    outputs = (np.asarray(decoded.tokens), np.asarray(decoded.lengths))
    scores = quick(lambda *x: kseq.sequence_log_probability(both, x[:2], x[2:]))(*source, *outputs)
    np.testing.assert_allclose(scores, decoded.scores, atol=1e-5)


def test_says_what_is_wrong(models):
    with pytest.raises(ValueError, match="needs at least one model"):
        kseq.models.Ensemble([])
    with pytest.raises(ValueError, match="one for each of the 2 models, above 0"):
        kseq.models.Ensemble(models, weights=[1])
    other = kseq.models.Seq2Seq(
        kseq.models.Encoder(SOURCES, 4, kseq.cells.GRUCell(3)),
        kseq.models.Decoder(TARGETS + 1, 4, kseq.cells.GRUCell(3)),
    )
    with pytest.raises(ValueError, match=f"'target_vocabulary_size': {TARGETS}.* and model 1 .*{TARGETS + 1}"):
        kseq.models.Ensemble([models[0], other])
    with pytest.raises(NotImplementedError, match="only decodes"):
        kseq.models.Ensemble(models).call({})
