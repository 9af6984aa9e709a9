"""Decoders whose logits share the embedding's weights."""

import keras
import numpy as np
import pytest

import kseq
from tests.models.conftest import SOURCES, TARGETS


def make_model(**options):
    encoder = kseq.models.Encoder(SOURCES, 4, kseq.cells.SimpleRNNCell(5))
    decoder = kseq.models.Decoder(TARGETS, 5, kseq.cells.SimpleRNNCell(5), tie_embeddings=True, **options)
    model = kseq.models.Seq2Seq(encoder, decoder)
    model.build()
    return model


@pytest.mark.long
def test_the_kernel_of_the_logits_is_the_embeddings_transpose(batch, tmp_path):
    model = make_model()
    encoded = model.encoder(batch["source"], batch["source_lengths"])
    state, memory = model.decoder.initial_state(encoded), model.decoder.memory(encoded)
    model.decoder.to_logits.bias.assign(np.arange(TARGETS))
    output = model.decoder.step(batch["target"][:, 0], state, memory)
    expected = np.asarray(output.hidden) @ np.asarray(model.decoder.embedding.embeddings).T + np.arange(TARGETS)
    np.testing.assert_allclose(output.logits, expected, atol=1e-5)
    np.testing.assert_allclose(model(batch)[:, 0], expected, atol=1e-5)
    assert sum(weight.shape == (TARGETS, 5) for weight in model.weights) == 1
    assert not any(weight.shape == (5, TARGETS) for weight in model.weights)
    model.compile("adam", run_eagerly=True)
    before = np.asarray(model.decoder.embedding.embeddings)
    model.train_on_batch(batch)
    assert (np.asarray(model.decoder.embedding.embeddings) != before).any(axis=1).all()  # of tokens in no batch too
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(batch), model(batch))
    assert loaded.decoder.to_logits.embedding is loaded.decoder.embedding
    np.testing.assert_allclose(loaded.train_on_batch(batch), model.train_on_batch(batch), rtol=1e-5)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"needs embedding_dim equal to the cell's units, but embedding_dim=4 and .* 5"
    ):
        kseq.models.Decoder(TARGETS, 4, kseq.cells.SimpleRNNCell(5), tie_embeddings=True)
    with pytest.raises(ValueError, match="tie_embeddings must be True or False"):
        kseq.models.Decoder(TARGETS, 5, kseq.cells.SimpleRNNCell(5), tie_embeddings="yes")


def test_half_precision(batch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make_model()
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(model(batch).dtype) == "float32"
    assert np.isfinite(np.asarray(model(batch))).all()
