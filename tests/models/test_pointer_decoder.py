"""The decoder that copies source tokens: its formula, its ids, and its texts."""

import keras
import numpy as np
import pytest

import kseq
from tests.export.test_saved_model import Session
from tests.support import BACKEND

VOCABULARY, POSITIONS, UNKNOWN = 6, 4, 1
COPIES = [1, -1, 1, 1, 4, 5, -1, -1]  # of 8 source ids
SOURCE = np.array([[6, 4, 6, 1, 1], [7, 5, 4, 0, 0]], "int32")
LENGTHS = np.array([5, 3], "int32")
IDS = [[6, 4, 6, 9, 1], [6, 5, 4]]  # the last unknown token of the first row is beyond the copied positions
BATCH = {
    "source": SOURCE,
    "source_lengths": LENGTHS,
    "target": np.array([[2, 6, 9, 3], [2, 5, 3, 0]], "int32"),
    "target_lengths": np.array([4, 3], "int32"),
}


def make_model(**options):
    keras.utils.set_random_seed(3)
    encoder = kseq.models.Encoder(len(COPIES), 4, kseq.cells.GRUCell(3))
    decoder = kseq.models.PointerDecoder(
        VOCABULARY, 4, kseq.cells.GRUCell(5), copies=COPIES, copied_positions=POSITIONS, **options
    )
    return kseq.models.Seq2Seq(encoder, decoder)


@pytest.mark.parametrize("input_feeding", [False, True])
def test_probabilities_are_those_of_the_paper(input_feeding):
    model = make_model(input_feeding=input_feeding)
    found = np.exp(np.asarray(model(BATCH), np.float64))
    decoder, (state, memory) = model.decoder, model.encode(SOURCE, LENGTHS)
    for step, tokens in enumerate(BATCH["target"][:, :-1].T):
        output = decoder.step(tokens, state, memory)
        weights, hidden = np.asarray(output.alignments, np.float64), np.asarray(output.hidden, np.float64)
        known = np.where(tokens < VOCABULARY, tokens, UNKNOWN)
        features = np.concatenate([hidden, np.asarray(decoder.embedding.embeddings)[known]], axis=1)
        gate = 1 / (1 + np.exp(-(features @ np.asarray(decoder.gate.kernel) + np.asarray(decoder.gate.bias))[:, 0]))
        scores = hidden @ np.asarray(decoder.to_logits.kernel) + np.asarray(decoder.to_logits.bias)
        softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        for row in range(2):
            expected = np.pad(gate[row] * softmax[row], (0, POSITIONS))
            for place, token in enumerate(IDS[row]):
                expected[token] += (1 - gate[row]) * weights[row, place]
            np.testing.assert_allclose(found[row, step], expected, atol=1e-6)
            np.testing.assert_allclose(np.exp(np.asarray(output.logits)[row]), expected, atol=1e-6)
        state = output.state


def test_the_ids_of_source_tokens():
    found = np.asarray(make_model().decoder.copied_ids(SOURCE))
    assert [row[:count].tolist() for row, count in zip(found, LENGTHS, strict=True)] == IDS


@pytest.mark.long
def test_a_target_that_copies_what_the_source_lacks_is_refused():
    model = make_model()
    model.compile(run_eagerly=BACKEND == "tensorflow")
    assert np.isfinite(model.fit(BATCH, verbose=0).history["loss"][0])
    wrong = {**BATCH, "target": np.array([[2, 6, 9, 3], [2, 7, 3, 0]], "int32")}
    with pytest.raises(ValueError, match=r"target\[1, 1\] = 7 is the copy of the source token at position 1, but"):
        model.fit(wrong, verbose=0)
    logits = np.asarray(model(wrong))
    assert np.isnan(logits[1]).all()
    np.testing.assert_array_equal(logits[0], np.asarray(model(BATCH))[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": "initial"}, "context='initial', but a PointerDecoder copies by attention"),
        ({"copies": [1, 6]}, r"copies\[1\] = 6 is not a token id"),
        ({"copies": [-2, 1]}, r"copies\[0\] = -2 is not a token id"),
        ({"copies": [1, 1], "unknown_id": 6}, r"unknown_id\[0\] = 6 is not a token id"),
        ({"copies": [1], "source_unknown_id": 3}, r"source_unknown_id\[0\] = 3 is not a token id"),
        ({"copies": [1, 1], "copied_positions": 2.5}, "copied_positions"),
        ({"copies": [1, 1], "copied_positions": -1}, "copied_positions=-1, but"),
        ({"copies": [1.5, 1]}, "must be whole numbers|must be integers"),
        ({"copies": [[1, 1]]}, "one for each source id"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kseq.models.PointerDecoder(VOCABULARY, 4, kseq.cells.GRUCell(5), **{"copies": [1, 1], **options})


def test_what_does_not_go_with_copies_is_refused():
    model = make_model()
    encoder = kseq.models.Encoder(len(COPIES) + 1, 4, kseq.cells.GRUCell(3))
    with pytest.raises(ValueError, match="copies has 8 ids, but the encoder reads 9 tokens"):
        kseq.models.Seq2Seq(encoder, model.decoder)
    with pytest.raises(ValueError, match=r"Train a PointerDecoder without label smoothing"):
        model.compile(loss=kseq.losses.SequenceCrossEntropy(label_smoothing=0.1))
    other = make_model()
    other.decoder.copies[4] = 5
    with pytest.raises(ValueError, match="need the same vocabularies"):
        kseq.models.Ensemble([model, other])


def test_a_token_to_which_nothing_attends_can_be_copied():
    model = make_model(attention=kseq.attention.LocalAttention(kseq.attention.AdditiveAttention(4), 1))
    far = {**BATCH, "target": np.array([[2, 9, 3, 0], [2, 5, 3, 0]], "int32"), "target_lengths": np.array([3, 3])}
    model.compile(run_eagerly=True)
    assert 3 < model.evaluate(far, verbose=0)[0] < 30  # -log(1e-9) is 21


@pytest.mark.long_on_jax
def test_a_batch_of_empty_sources():
    model = make_model()
    empty = {"source": np.zeros((2, 0), "int32"), "source_lengths": np.zeros(2, "int32")}
    batch = {**BATCH, **empty, "target": np.array([[2, 4, 5, 3], [2, 5, 3, 0]], "int32")}
    assert np.isfinite(np.asarray(model(batch))).all()
    assert model.decode(**empty, strategy="greedy", max_length=3).tokens.shape == (2, 1, 3)


def test_an_encoder_with_fewer_steps_than_tokens_is_refused():
    model = make_model()
    encoded = model.encoder(SOURCE, LENGTHS)
    with pytest.raises(ValueError, match="The encoder has 5 values for 4 source tokens"):
        model.decoder.memory(encoded._replace(tokens=SOURCE[:, :4]))
    with pytest.raises(ValueError, match="reads the source's tokens"):
        model.decoder.memory(encoded)


@pytest.fixture(scope="module")
def echo():
    """A model that repeats two words, trained on few names, with a vocabulary of three words."""
    words = kseq.text.WordTokenizer(["hello", "bye", "and"])
    names = [f"name{number}" for number in range(40)]
    sources = [f"{word} {name}" for name in names for word in ("hello", "bye")]
    keras.utils.set_random_seed(5)
    copies = kseq.text.copied_ids(words, words)
    decoder = kseq.models.PointerDecoder(
        words.vocabulary_size, 8, kseq.cells.GRUCell(16), copies=copies, copied_positions=4
    )
    model = kseq.models.Seq2Seq(
        kseq.models.Encoder(words.vocabulary_size, 8, kseq.cells.GRUCell(16)),
        decoder,
        source_tokenizer=words,
        target_tokenizer=words,
    )
    rows = kseq.training.text_pairs(words, words, sources, sources, copied_positions=4)
    model.compile(keras.optimizers.Adam(0.03))
    model.fit(rows, epochs=12, batch_size=40, verbose=0)
    return model


@pytest.mark.long
def test_copies_words_that_no_vocabulary_has(echo):
    texts = ["hello Zaphod", "", "bye Trillian"]  # the empty one is decoded apart from the others
    assert echo.translate(texts)[::2] == texts[::2]
    assert echo.translate(texts[2]) == texts[2]
    (best, *_), *_ = echo.translate(texts[:1], strategy=kseq.decoding.BeamSearch(top_paths=2), n_best=True)
    assert best[0] == texts[0]


@pytest.mark.server
def test_the_export_copies_from_its_request(echo, tmp_path):
    sizes: dict = {"buckets": (4,), "batch_sizes": (2,), "max_length": 8, "warmup": False}
    folder = kseq.export_saved_model(echo, tmp_path, verbose=False, **sizes)
    texts = ["bye Zaphod", "hello Trillian"]
    for signature in ("serving_default", "serving_xla"):
        answers = Session(folder, signature)(text=np.array(texts, object))
        assert [text.decode() for text in answers["text"][:, 0]] == texts
    with pytest.raises(ValueError, match="this one copies by itself"):
        kseq.export_saved_model(echo, tmp_path, replace_unknown=True, verbose=False)


def test_targets_of_texts():
    source, target = kseq.text.WordTokenizer(["a", "b"]), kseq.text.WordTokenizer(["b"])
    assert kseq.text.copied_ids(source, target) == [1, -1, 1, 1, -1, 4]
    rows = kseq.training.text_pairs(source, target, ["x a b a y"], ["y a x b z"], copied_positions=4)
    assert rows == {"source": [[1, 4, 5, 4, 1]], "target": [[2, 1, 6, 5, 4, 1, 3]]}
    plain = kseq.training.text_pairs(source, target, ["x a"], ["a x"])
    assert plain["target"] == [[2, 1, 1, 3]]
