"""BLEU and chrF, against sacrebleu."""

import json

import keras
import numpy as np
import pytest
import sacrebleu

import kseq

REAL = [
    ("The cat sat on the mat.", "The cat is sitting on the mat."),
    ("Er kauft heute ein Buch, oder?", "Heute kauft er ein Buch, nicht?"),
    ("I did not see him at the station.", "I didn't see him there."),
    ("It is 5 p.m.", ""),
    ("Voilà « le café » !", "Voilà le café!"),
    ("こんにちは世界", "こんにちは、世界"),
]


def drawn(rows=40):
    random = np.random.default_rng(3)
    words = ["a", "bc", "def", "B", "x-1", "3.14", ",", "né", "."]
    texts = [random.choice(words, size=random.integers(0, 12)) for _ in range(rows)]
    heard = [np.where(random.random(len(text)) < 0.2, random.choice(words, size=len(text)), text) for text in texts]
    return [(" ".join(text), " ".join(other)) for text, other in zip(texts, heard, strict=True)]


@pytest.mark.every_backend
@pytest.mark.parametrize("pairs", [REAL, drawn()], ids=["real", "drawn"])
@pytest.mark.parametrize(
    ("metric", "rival"),
    [
        (kseq.metrics.Bleu, sacrebleu.BLEU),
        (lambda: kseq.metrics.Bleu(tokenize="char", lowercase=True), lambda: sacrebleu.BLEU(True, tokenize="char")),
        (
            lambda: kseq.metrics.Bleu(smooth_method="floor", max_ngram_order=3),
            lambda: sacrebleu.BLEU(smooth_method="floor", max_ngram_order=3),
        ),
        (kseq.metrics.ChrF, sacrebleu.CHRF),
        (lambda: kseq.metrics.ChrF(word_order=2, lowercase=True), lambda: sacrebleu.CHRF(6, 2, lowercase=True)),
    ],
)
def test_equals_sacrebleu_in_whatever_batches(metric, rival, pairs):
    references, hypotheses = map(list, zip(*pairs, strict=True))
    metric = metric()
    assert float(metric.result()) == 0.0
    for start, end in ((0, 1), (1, 4), (4, len(pairs)), (0, 0)):
        metric.update_state(references[start:end], hypotheses[start:end])
    expected = rival().corpus_score(hypotheses, [references]).score
    assert expected > 10
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0


def test_several_references_each_and_strings_in_arrays():
    references, hypotheses = [["a b c d", "a b c e"], ["f g h i"]], ["a b c e", "f g h j"]
    expected = sacrebleu.BLEU().corpus_score(hypotheses, [["a b c d", "f g h i"], ["a b c e", None]]).score
    np.testing.assert_allclose(float(kseq.metrics.Bleu()(references, hypotheses)), expected, rtol=1e-6)
    weighted = kseq.metrics.Bleu()(references * 2, [*hypotheses, "x", "y"], np.array([1, 1, 0, 0]))
    np.testing.assert_allclose(float(weighted), expected, rtol=1e-6)
    alone = kseq.metrics.Bleu()(["f g h i"], np.array([b"f g h j"]))
    np.testing.assert_allclose(alone, kseq.metrics.Bleu()("f g h i", "f g h j"))


def test_counts_of_replicas_add_up():
    references, hypotheses = map(list, zip(*REAL, strict=True))
    for make in (kseq.metrics.Bleu, kseq.metrics.ChrF):
        whole, half, other = make(), make(), make()
        whole.update_state(references, hypotheses)
        half.update_state(references[:2], hypotheses[:2])
        other.update_state(references[2:], hypotheses[2:])
        np.testing.assert_array_equal(whole.counts, half.counts + other.counts)
        assert whole.counts.aggregation == "sum"
        assert whole.counts.dtype == "int32"


def test_refuses_what_it_cannot_count():
    bleu = kseq.metrics.Bleu()
    with pytest.raises(ValueError, match="2 references and 1 hypotheses"):
        bleu.update_state(["a", "b"], ["a"])
    with pytest.raises(ValueError, match=r"hypotheses\[0\] is 3, but expected a text"):
        bleu.update_state(["a"], [3])
    with pytest.raises(ValueError, match=r"references\[1\] is \[\], but expected a text"):
        bleu.update_state(["a", []], ["a", "b"])
    with pytest.raises(ValueError, match="texts cannot be weighted"):
        bleu.update_state(["a"], ["a"], sample_weight=[0.5])
    with pytest.raises(ValueError, match=r"tokenize='words', but sacrebleu has"):
        kseq.metrics.Bleu(tokenize="words")
    with pytest.raises(ValueError, match=r"smooth_method='log', but sacrebleu has"):
        kseq.metrics.Bleu(smooth_method="log")
    with pytest.raises(ValueError, match="max_ngram_order=0"):
        kseq.metrics.Bleu(max_ngram_order=0)
    with pytest.raises(ValueError, match="char_order=0"):
        kseq.metrics.ChrF(char_order=0)


@pytest.mark.every_backend
def test_ids_and_tensors_of_a_compiled_step_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match=r"must be a list of texts, but are a tensor of int64.*DecodedMetric"):
        kseq.metrics.Bleu()(np.array([[1]]), np.array([[1]]))
    model = keras.Sequential([keras.layers.Identity()])
    model.compile(loss="mse", metrics=[kseq.metrics.Bleu()])
    with pytest.raises(ValueError, match="DecodedMetric in place of compile"):
        model.evaluate(np.ones((2, 3)), np.ones((2, 3)), verbose=0)


def test_says_how_to_get_sacrebleu(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r"kseq.metrics.ChrF counts by .* pip install 'sacrebleu>=2.4'"):
        kseq.metrics.ChrF()


def test_options_are_saved():
    metric = kseq.metrics.ChrF(word_order=2, whitespace=True)
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(metric))))
    assert again.get_config() == metric.get_config()
    pair = (["the cat sat"], ["the cats at"])
    assert float(again(*pair)) == float(metric(*pair)) != float(kseq.metrics.ChrF()(*pair))
