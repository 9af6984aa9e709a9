"""A model whose tokenizer has a chain of normalizers: saved, loaded, exported and asked."""

import keras
import numpy as np
import pytest

import kseq
from kseq.text import ExpandContractions, NormalizerSequence, TextNormalizer, UnescapeHTML, WordTokenizer
from tests.export.test_saved_model import Session


@pytest.mark.long
def test_a_classifier_answers_equally_whatever_the_spelling(tmp_path):
    chain = NormalizerSequence([UnescapeHTML(), ExpandContractions(), TextNormalizer(case="lower")])
    tokenizer = WordTokenizer(normalizer=chain).adapt(["It does not & will not work"])
    encoder = kseq.models.Encoder(tokenizer.vocabulary_size, 3, kseq.cells.GRUCell(4))
    model = kseq.models.SequenceClassifier(encoder, 2, source_tokenizer=tokenizer, class_names=["a", "b"])
    plain, written = "it does not & will not work", "It doesn&rsquo;t &amp; won't work"
    assert not (tokenizer([plain])[0].numpy() == tokenizer.unk_id).any()
    expected = model.classify([plain])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        for got, value in zip(each.classify([written]), expected, strict=True):
            np.testing.assert_array_equal(got, value)
    kseq.export_saved_model(loaded, tmp_path / "export", buckets=[8])
    answers = Session(next((tmp_path / "export").glob("[0-9]*")), "serving_default")(text=[plain, written])
    assert answers["error"].tolist() == [b"", b""]
    np.testing.assert_array_equal(answers["probabilities"][0], answers["probabilities"][1])
    np.testing.assert_array_equal(answers["classes"][0], answers["classes"][1])
