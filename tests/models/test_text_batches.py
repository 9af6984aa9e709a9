"""Texts in, texts out: `translate`, `recognize` and `tag`, with the tokenizers in the model."""

import pickle
import subprocess
import sys

import keras
import numpy as np
import pytest

import kseq
from kseq.models.inputs.text_batches import map_rows

SENTENCES = ["time flies like an Arrow", "fruit", "fruit flies like a Banana"]


@pytest.fixture(scope="module")
def translator():
    source = kseq.text.CharacterTokenizer(list("abcdefg"))
    target = kseq.text.WordTokenizer(["x", "yy", "z"])
    model = kseq.models.Seq2Seq(
        kseq.models.Encoder(source.vocabulary_size, 4, kseq.cells.GRUCell(5)),
        kseq.models.Decoder(target.vocabulary_size, 4, kseq.cells.GRUCell(5)),
        source_tokenizer=source,
        target_tokenizer=target,
    )
    model.build()
    random = np.random.default_rng(1)
    for weight in model.weights:  # large weights, so that answers differ
        weight.assign(random.normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def recognizer():
    layer = kseq.layers.GRU(6, return_sequences=True)
    tokenizer = kseq.text.CharacterTokenizer(list("abc"))
    model = kseq.models.CTCRecognizer(1, tokenizer.vocabulary_size, layer, target_tokenizer=tokenizer)
    model.build()
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(size=weight.shape))
    return model


def make_tagger(with_characters):
    words = kseq.text.WordTokenizer(normalizer=kseq.text.TextNormalizer(case="lower")).adapt(SENTENCES)
    characters = kseq.text.CharacterTokenizer().adapt(SENTENCES)
    encoder = kseq.models.Encoder(words.vocabulary_size, 4, kseq.cells.GRUCell(5))
    if with_characters:
        spelling = kseq.models.CharacterEncoder(characters.vocabulary_size, 3, kseq.cells.GRUCell(4))
        encoder = kseq.models.WordEncoder(words.vocabulary_size, 4, kseq.cells.GRUCell(5), characters=spelling)
    return kseq.models.Tagger(
        encoder, 3, source_tokenizer=words, character_tokenizer=characters, class_names=["noun", "verb", "other"]
    )


def test_rows_are_answered_in_order_in_batches_of_few_shapes():
    rows = [np.full((length, 2), length) for length in [3, 0, 5, 4, *[7] * 70]]
    shapes = []

    def answer(values, lengths):
        shapes.append(values.shape)
        return list(values[:, :1, 0].sum(axis=1) * 1000 + lengths)

    assert map_rows(answer, rows, "int32") == [1001 * len(row) for row in rows]
    assert set(shapes) == {(1, 1, 2), (2, 4, 2), (64, 8, 2), (8, 8, 2)}


@pytest.mark.long
def test_translations_are_those_of_decode(translator):
    texts = ["abcdefg", "", "bad", "fade", "a"]
    beam = kseq.decoding.BeamSearch(beam_width=3, top_paths=2)
    with pytest.raises(ValueError, match=r"n_best=3 must be True or False.*BeamSearch\(top_paths=3\), n_best=True"):
        translator.translate(texts, n_best=3)
    for text, translated in zip(texts, translator.translate(texts, strategy=beam, n_best=True), strict=True):
        ids, lengths = translator.source_tokenizer([text])
        decoded = translator.decode(ids.numpy(), lengths.numpy(), strategy=beam, max_length=16)
        expected = translator.target_tokenizer.detokenize(np.asarray(decoded.tokens)).numpy()[0]
        assert [text for text, _ in translated] == [text.decode() for text in expected]
        np.testing.assert_allclose([score for _, score in translated], decoded.scores[0], rtol=1e-5)
        assert translator.translate(text, strategy=beam) == translated[0][0]
    assert translator.translate([]) == []
    assert len(translator.translate(["abc"], max_length=2)[0].split()) <= 2


@pytest.mark.long
def test_a_text_has_the_same_translation_alone(translator):
    texts = ["abcdefg" * 2, "bad"]
    assert translator.translate(texts) == [translator.translate(text) for text in texts]


@pytest.mark.long
def test_saved_and_pickled_models_have_their_tokenizers(translator, tmp_path):
    translator.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = translator.translate(["bad", "fade"])
    code = "import sys, keras, kseq; print(keras.models.load_model(sys.argv[1]).translate(['bad', 'fade']))"
    command = [sys.executable, "-c", code, str(tmp_path / "model.keras")]  # which has not imported kseq.text
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1] == str(expected)
    assert loaded.translate(["bad", "fade"]) == expected
    assert pickle.loads(pickle.dumps(loaded)).translate(["bad", "fade"]) == expected
    assert kseq.models.Ensemble([loaded, loaded]).translate(["bad", "fade"]) == expected


def test_tokenizers_must_be_there_and_fit(translator):
    plain = kseq.models.Seq2Seq(
        kseq.models.Encoder(11, 4, kseq.cells.GRUCell(5)), kseq.models.Decoder(7, 4, kseq.cells.GRUCell(5))
    )
    with pytest.raises(ValueError, match=r"translate needs a source_tokenizer, but this Seq2Seq has none"):
        plain.translate(["bad"])
    with pytest.raises(ValueError, match="The source tokenizer has 11 ids, but the model reads 9"):
        kseq.models.Seq2Seq(
            kseq.models.Encoder(9, 4, kseq.cells.GRUCell(5)),
            kseq.models.Decoder(7, 4, kseq.cells.GRUCell(5)),
            source_tokenizer=translator.source_tokenizer,
        )
    plain.source_tokenizer, plain.target_tokenizer = translator.source_tokenizer, translator.source_tokenizer
    with pytest.raises(ValueError, match="The target tokenizer has"):
        plain.translate(["bad"])


@pytest.mark.long
def test_signals_are_recognized_as_decode_does(recognizer, tmp_path):
    random = np.random.default_rng(0)
    signals = [random.normal(size=length).astype("float32") * 3 for length in (9, 4, 0, 6)]
    beam = kseq.decoding.CTCBeamSearch(beam_width=4, top_paths=2)
    with pytest.raises(ValueError, match=r"n_best=1 must be True or False.*CTCBeamSearch\(top_paths=3\)"):
        recognizer.recognize(signals, n_best=1)
    scored = recognizer.recognize(signals, strategy=beam, n_best=True)
    for signal, texts in zip(signals, scored, strict=True):
        decoded = recognizer.decode(signal[None, :, None], np.array([len(signal)]), strategy=beam)
        count = int((np.asarray(decoded.scores[0]) > -1e29).sum())
        expected = recognizer.target_tokenizer.detokenize(np.asarray(decoded.tokens)).numpy()[0][:count]
        assert [text for text, _ in texts] == [text.decode() for text in expected]
        assert recognizer.recognize(signal, strategy=beam) == texts[0][0]
    assert recognizer.recognize(np.stack([signals[0][:, None]] * 2)) == recognizer.recognize([signals[0]] * 2)
    recognizer.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").recognize(signals) == recognizer.recognize(signals)
    with pytest.raises(ValueError, match=r"A row of features has shape \(4, 2\), expected \(time, 1\) or \(time,\)"):
        recognizer.recognize([np.ones((4, 2))])
    with pytest.raises(ValueError, match="The target tokenizer has"):
        kseq.models.CTCRecognizer(
            1, 5, kseq.layers.GRU(3, return_sequences=True), target_tokenizer=recognizer.target_tokenizer
        )


@pytest.mark.long
@pytest.mark.parametrize("with_characters", [False, True])
def test_words_are_tagged(with_characters, tmp_path):
    model = make_tagger(with_characters)
    tagged = model.tag(SENTENCES)
    assert [[word for word, _ in row] for row in tagged] == [sentence.split() for sentence in SENTENCES]
    for sentence, row in zip(SENTENCES, tagged, strict=True):
        words = sentence.split()
        ids, lengths = model.source_tokenizer([sentence])
        inputs = {"source": ids.numpy(), "source_lengths": lengths.numpy()}
        if with_characters:
            spelt, counts = model.character_tokenizer(words)
            inputs |= {"characters": spelt.numpy()[None], "characters_lengths": counts.numpy()[None]}
        best = np.argmax(model(inputs)[0], axis=-1)
        assert [tag for _, tag in row] == [model.class_names[index] for index in best]
    assert model.tag(SENTENCES[0]) == tagged[0]
    assert model.tag([SENTENCES[0].split(), "", SENTENCES[1]]) == [tagged[0], [], tagged[1]]
    assert (model.tag([]), model.tag("")) == ([], [])
    model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").tag(SENTENCES) == tagged


def test_what_cannot_be_tagged_is_refused():
    model = make_tagger(False)
    with pytest.raises(ValueError, match="The word 'two words' is 2 tokens of the source tokenizer"):
        model.tag([["fine", "two words"]])
    model.source_tokenizer = None
    with pytest.raises(ValueError, match="tag needs a source_tokenizer"):
        model.tag(["fine"])
    with pytest.raises(ValueError, match="needs one name for each tag"):
        kseq.models.Tagger(model.encoder, 3, class_names=["noun"])


@pytest.mark.long
def test_a_model_takes_special_ids_from_its_target_tokenizer():
    special = kseq.text.SpecialTokens(pad_id=5, unk_id=0, bos_id=1, eos_id=2)
    target = kseq.text.CharacterTokenizer(list("ab"), special_tokens=special)
    parts = [kseq.models.Encoder(6, 4, kseq.cells.GRUCell(4)), kseq.models.Decoder(6, 4, kseq.cells.GRUCell(4))]
    options = {"source_tokenizer": target, "target_tokenizer": target}
    model = kseq.models.Seq2Seq(*parts, **options)
    assert (model.bos_id, model.eos_id, model.pad_id) == (1, 2, 5)
    tokens = np.array([[1, 3, 4, 2, 5]])
    lengths = np.array([4])
    model({"source": tokens, "source_lengths": lengths, "target": tokens, "target_lengths": lengths})
    assert set(model.translate(["ab", "b"], max_length=3)[0]) <= set("ab<unk>")
    with pytest.raises(ValueError, match=r"The target tokenizer has .*'bos_id': 1.* but the model has .*'bos_id': 2"):
        kseq.models.Seq2Seq(*parts, bos_id=2, **options)
