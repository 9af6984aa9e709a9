"""Error rates from logits in compiled steps, against those of the texts."""

import keras
import numpy as np
import pytest

import kseq

TEXTS = ["ab a", " ba  b", "", "a", "bb\tab", "a b a b", "b a", "ab", " ", "ba ab"]


def make_model(tokenizer):
    """Return an untrained model with large weights that never emits special tokens."""
    keras.utils.set_random_seed(7)
    encoder = kseq.layers.RNN(kseq.cells.GRUCell(6), return_sequences=True)
    model = kseq.models.CTCRecognizer(3, tokenizer.vocabulary_size, encoder)
    model.build()
    *weights, bias = [2.0 * np.random.default_rng(1).normal(size=w.shape) for w in model.get_weights()]
    bias[1:4] = -1e9
    model.set_weights([*weights, bias])
    return model


@pytest.mark.long
def test_evaluating_counts_what_the_texts_say():
    tokenizer = kseq.text.CharacterTokenizer().adapt(TEXTS)
    model = make_model(tokenizer)
    model.compile(metrics=kseq.metrics.error_rates(tokenizer), jit_compile=False)
    labels, label_lengths = (np.asarray(x) for x in tokenizer(TEXTS))
    features = np.random.default_rng(0).normal(size=(10, 16, 3)).astype("float32")
    lengths = np.array([16, 12, 9, 4, 16, 14, 16, 5, 3, 11], "int32")
    batch = {"features": features, "lengths": lengths, "labels": labels, "label_lengths": label_lengths}
    measured = model.evaluate(batch, batch_size=5, verbose=0, return_dict=True)

    tokens = model.decode(features, lengths).tokens[:, 0]
    written = [text.decode() for text in tokenizer.detokenize(tokens).numpy()]
    assert len(set(written)) > 5
    assert any(" " in text for text in written)
    characters, words = kseq.metrics.CharacterErrorRate(), kseq.metrics.WordErrorRate()
    assert measured["character_error_rate"] == pytest.approx(float(characters(TEXTS, written)))
    assert measured["word_error_rate"] == pytest.approx(float(words(TEXTS, written)))
    assert measured["word_error_rate"] != pytest.approx(measured["character_error_rate"], abs=0.01)


@pytest.mark.parametrize("blank_index", [5, -6])
def test_a_blank_that_is_no_class_is_refused(blank_index):
    for rate in (kseq.metrics.TokenErrorRate, kseq.metrics.CharacterErrorRate):
        with pytest.raises(ValueError, match=f"blank_index={blank_index} is outside the 5 classes"):
            rate(blank_index=blank_index)(np.array([[1]]), np.zeros((1, 2, 5), "float32"))
    spelt = np.eye(5, dtype="float32")[[[4, 1]]]
    assert float(kseq.metrics.TokenErrorRate(blank_index=-1)(np.array([[1]]), spelt)) == 0.0


def test_what_can_be_counted_depends_on_the_tokens():
    def names(tokenizer):
        return [metric.name for metric in kseq.metrics.error_rates(tokenizer)]

    assert names(kseq.text.CharacterTokenizer().adapt(["ab"])) == ["character_error_rate"]
    assert names(kseq.text.WordTokenizer().adapt(["a b"])) == ["word_error_rate"]
    (metric,) = kseq.metrics.error_rates(kseq.text.CharacterTokenizer().adapt(["a b"]))[1:]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert (again.name, again.separator, again.blank_index) == ("word_error_rate", metric.separator, 0)


@pytest.mark.long
def test_error_rates_of_texts_count_logits_in_compile():
    logits = np.full((2, 4, 3), -9.0, "float32")
    logits[0, [0, 1, 2, 3], [1, 1, 0, 1]] = logits[1, :, 2] = 0.0  # spells 1 1 and 2
    labels = np.array([[1, 2], [2, -1]])
    model = keras.Sequential([keras.layers.Identity()])
    rates = [kseq.metrics.CharacterErrorRate(blank_index=0), kseq.metrics.TokenErrorRate()]
    model.compile("adam", loss=kseq.losses.CTC(), metrics=rates)
    measured = model.evaluate(logits, labels, verbose=0, return_dict=True)
    assert measured["character_error_rate"] == measured["token_error_rate"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="If they are logits of a CTC model, give the metric blank_index="):
        kseq.metrics.CharacterErrorRate()(labels, logits)


def test_ids_may_be_numpy_scalars_and_lengths_must_fit():
    metric = kseq.metrics.WordErrorRate(separator=np.int64(0), pad_id=np.int64(-1))
    assert float(metric(np.array([[1, 0, 2]]), np.array([[1, 0, 3]]))) == 0.5
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric)).separator == 0
    with pytest.raises(ValueError, match="For edits per reference use EditDistance"):
        kseq.metrics.WordErrorRate(normalize=False)
    with pytest.raises(ValueError, match=r"lengths of the hypotheses\[0\] = 4, but hypotheses has 3 columns"):
        kseq.metrics.EditDistance()(np.array([[1, 0, 2]]), np.array([[1, 0, 3]]), np.array([3]), np.array([4]))
