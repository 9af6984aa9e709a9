"""Metrics of what models decode during training."""

import keras
import numpy as np
import pytest

import kseq
from tests.contracts.models import MAKERS, WITH_OTHER_ENCODERS, batch_of
from tests.support import BACKEND

LETTERS = "abcdefgh"
CELL = kseq.cells.GRUCell
DECODED = [name for name in MAKERS if not name.startswith(("SequenceClassifier", "Forecaster"))]
LONG = ["Seq2Seq", "LanguageModel"]
MARKS = dict.fromkeys(LONG, pytest.mark.long)
if BACKEND == "jax":
    DECODED = [*LONG, "CTCRecognizer", "Tagger, CRF"]


def letters():
    return kseq.text.CharacterTokenizer([*LETTERS])


def data_of(model, name):
    """Return 4 rows, of a language model prompts without end tokens, and right answers."""
    batch = batch_of(model, name)
    if name.startswith("LanguageModel"):
        return [[5, 6], [7], [4, 8, 9], [5]], [[4], [5, 6], [], [7]]
    return batch


def decoded_by_hand(model, name, data):
    """Return the answers of the model's own methods, row by row."""
    if name.startswith("LanguageModel"):
        rows = model.generate(data[0], strategy="greedy", max_length=6)
        return [row[:-1] if row[-1] == model.eos_id else row for row in rows]
    answers = []
    for row in range(4):
        one = {key: value[row : row + 1] for key, value in data.items()}
        if name.startswith("Tagger"):
            inputs = {key: value for key, value in one.items() if not key.startswith("tags")}
            answers.append(np.array(model.decode(model.predict(inputs, verbose=0), one["source_lengths"]))[0].tolist())
            answers[-1] = answers[-1][: int(one["source_lengths"][0])]
            continue
        if name.startswith("CTCRecognizer"):
            decoded = model.decode(one["features"], one["lengths"])
        else:
            decoded = model.decode(one["source"], one.get("source_lengths"), strategy="greedy", max_length=6)
        found = np.array(decoded.tokens)[0, 0, : int(decoded.lengths[0, 0])].tolist()
        answers.append(found[:-1] if found and found[-1] == getattr(model, "eos_id", -9) else found)
    return answers


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS.get(name, pytest.mark.slow)) for name in [*DECODED, "Seq2Seq, vectors"]]
)
def test_decodes_as_the_model_does(name):
    model = {**MAKERS, **WITH_OTHER_ENCODERS}[name]()
    data = data_of(model, name)
    length = {} if name.startswith(("CTC", "Tagger")) else {"max_length": 6}
    callback = kseq.training.DecodedMetric(data, ["exact_match", "cer"], **length)
    figures = callback.evaluate(model)
    assert set(figures) == {"val_exact_match", "val_cer"}
    assert all(np.isfinite(each) for each in figures.values())
    assert callback.decoded == decoded_by_hand(model, name, data)


def recognizer():
    """Return a model that compiles fast, with rows of two sizes and texts to train on."""
    keras.utils.set_random_seed(3)
    tokenizer = letters()
    model = kseq.models.CTCRecognizer(3, tokenizer.vocabulary_size, keras.layers.Dense(4), target_tokenizer=tokenizer)
    model.compile(keras.optimizers.SGD(2.0))
    random = np.random.default_rng(1)
    features = [random.normal(size=(size, 3)).astype("float32") for size in (4, 8, 3, 7)]
    return model, features, ["ab", "cab", "a", "bb"]


class Seen(keras.callbacks.Callback):
    """Records the logs that callbacks after a `DecodedMetric` get."""

    def __init__(self):
        super().__init__()
        self.epochs, self.steps = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(dict(logs))


@pytest.mark.long
@pytest.mark.every_backend
def test_figures_of_the_present_weights_are_in_the_logs_and_nothing_is_compiled_twice(monkeypatch):
    (model, features, texts), traces = recognizer(), []
    inner = kseq.models.CTCRecognizer.decode
    monkeypatch.setattr(kseq.models.CTCRecognizer, "decode", lambda *a, **k: traces.append(1) or inner(*a, **k))
    metric = kseq.training.DecodedMetric((features, texts), ["chrf", "cer"])
    rows = {"features": features, "labels": letters().tokenize(texts).to_list()}
    one = {name: of[:1] for name, of in rows.items()}
    by_steps = kseq.training.DecodedMetric(one, "wer", every_steps=3, prefix="held_out_")
    counts, cer, decoded, at_steps = [], [], [], []

    class After(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if "held_out_wer" in logs:
                at_steps.append(list(by_steps.decoded))

        def on_epoch_end(self, epoch, logs=None):
            counts.append(len(traces))
            decoded.append(list(metric.decoded))
            cer.append(logs["val_cer"])

    callbacks = [metric, by_steps, After()]
    history = model.fit(rows, batch_size=4, epochs=3, verbose=0, callbacks=callbacks).history
    assert counts == [2, 2, 3]  # lengths in powers of two, each traced once, and one by the other callback
    assert history["val_cer"] == cer
    assert decoded[0] != decoded[-1]  # by the weights of each epoch
    assert decoded[-1] == model.recognize(features)
    assert at_steps == [decoded[-1][:1]]
    np.testing.assert_allclose(cer[-1], kseq.metrics.CharacterErrorRate()(texts, decoded[-1]), rtol=1e-6)


class Figures(kseq.training.DecodedMetric):
    """Figures that are given in advance."""

    def _prepare(self, model):
        """Do nothing."""

    def evaluate(self, model):
        self.figures = {"val_bleu": next(self.data)}


def fit_dense(*callbacks, epochs):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model.fit(np.ones((2, 1)), np.ones((2, 1)), batch_size=1, epochs=epochs, verbose=0, callbacks=[*callbacks])


@pytest.mark.long
def test_every_so_many_steps_and_epochs():
    seen = Seen()
    fit_dense(Figures(iter([0.1, 0.2]), "bleu", every_steps=3), seen, epochs=2)
    assert [logs.get("val_bleu") for logs in seen.steps] == [None, None, 0.1, None]
    assert [logs.get("val_bleu") for logs in seen.epochs] == [None, 0.1]
    seen = Seen()
    fit_dense(Figures(iter([0.1, 0.2]), "bleu", every=2), seen, epochs=5)
    assert [logs.get("val_bleu") for logs in seen.epochs] == [None, 0.1, 0.1, 0.2, 0.2]


def test_callbacks_of_keras_act_on_it(tmp_path):
    callbacks = [
        Figures(iter([0.5, 0.4, 0.3, 0.6]), "bleu"),
        keras.callbacks.ModelCheckpoint(
            tmp_path / "{epoch}.keras", monitor="val_bleu", mode="max", save_best_only=True
        ),
        keras.callbacks.ReduceLROnPlateau(monitor="val_bleu", mode="max", factor=0.5, patience=1),
        keras.callbacks.EarlyStopping(monitor="val_bleu", mode="max", patience=2),
    ]
    history = fit_dense(*callbacks, epochs=9).history
    assert history["val_bleu"] == [0.5, 0.4, 0.3]
    np.testing.assert_allclose(history["learning_rate"], [0.01, 0.01, 0.005])
    assert [path.name for path in tmp_path.iterdir()] == ["1.keras"]


@pytest.mark.long
def test_tagger_with_words_and_names():
    names, words = ["O", "B-X", "I-X"], [["a", "b", "c"], ["d"]]
    source = kseq.text.WordTokenizer([*LETTERS])
    encoder = kseq.models.ConvolutionalEncoder(source.vocabulary_size, 4, filters=3)
    tagger = kseq.models.Tagger(encoder, 3, class_names=names, source_tokenizer=source)
    right = [[tag for _, tag in row] for row in tagger.tag(words)]
    others = [["B-X", "I-X", "I-X"], ["B-X"]]
    metric = kseq.training.DecodedMetric((words, others), ["span_f1", "exact_match"], jit_compile=False)
    figures = metric.evaluate(tagger)
    assert metric.decoded == right
    assert figures["val_exact_match"] == np.mean([a == b for a, b in zip(right, others, strict=True)])
    ids = [np.array([[names.index(tag) for tag in row] + [0] * (3 - len(row)) for row in of]) for of in (others, right)]
    np.testing.assert_allclose(figures["val_span_f1"], kseq.metrics.SpanF1(names)(*ids, lengths=np.array([3, 1])))


@pytest.mark.slow
def test_texts_of_translate_with_copied_words():
    tokenizer = kseq.text.WordTokenizer(["a", "b", "c"])
    size = tokenizer.vocabulary_size
    for copied in (None, 4):
        decoder = kseq.models.Decoder(size, 4, CELL(3))
        if copied:
            copies = kseq.text.copied_ids(tokenizer, tokenizer)
            decoder = kseq.models.PointerDecoder(size, 4, CELL(3), copies=copies, copied_positions=copied)
        model = kseq.models.Seq2Seq(
            kseq.models.Encoder(size, 4, CELL(3)), decoder, source_tokenizer=tokenizer, target_tokenizer=tokenizer
        )
        texts = ["a zebra b", "gnu", "b c"]
        for strategy in ("beam", kseq.decoding.Sampling()):
            metric = kseq.training.DecodedMetric((texts, texts), "bleu", strategy=strategy, max_length=5)
            first = metric.evaluate(model)
            if strategy == "beam":
                assert metric.decoded == model.translate(texts, strategy="beam", max_length=5)
            assert metric.evaluate(model) == first  # samples too
        other = kseq.training.DecodedMetric((texts, texts), "bleu", strategy=strategy, max_length=5, seed=1)
        other.evaluate(model)
        assert other.decoded != metric.decoded
    with pytest.raises(ValueError, match="give the sources as texts"):
        kseq.training.DecodedMetric({"source": [[4]], "target": [[2, 4, 3]]}, "cer").evaluate(model)


def refusals():
    rows = ([[4, 5]], [[4]])
    return [
        ("SequenceClassifier", rows, "cer", {}, "A SequenceClassifier decodes nothing.*compile"),
        ("Seq2Seq", rows, "bleu", {}, "'bleu' cannot compare decoded answers such as .*tokenizer"),
        (
            "Seq2Seq",
            rows,
            kseq.metrics.TokenAccuracy(),
            {},
            "'token_accuracy' cannot compare.*metrics that read logits",
        ),
        ("Seq2Seq", rows, lambda right, decoded: 1 / 0, {}, "has no name. Give a dict"),
        ("Seq2Seq", (["ab"], ["a"]), "cer", {}, "needs a source_tokenizer"),
        ("Seq2Seq", ([[4, 5]], [[4], [5]]), "cer", {}, "1 rows to decode and 2 right answers"),
        ("Seq2Seq", {"source": [[4]]}, "cer", {}, "'target'] are missing"),
        ("Seq2Seq", [1, 2, 3], "cer", {}, "expected a pair of lists"),
        ("CTCRecognizer", ([np.zeros((3, 4))], [[1]]), "cer", {"max_length": 3}, "has no use for it"),
        ("Tagger, CRF", rows, "cer", {"strategy": "beam"}, "has no use for it"),
        ("Tagger, CRF", ([[4, 5]], [[1, 2]]), "span_f1", {}, "needs names of tags"),
        ("LanguageModel", rows, "cer", {}, "give max_length"),
        (
            "LanguageModel",
            {"source": [[4]], "target": [[5]]},
            "cer",
            {"max_length": 3},
            "a pair .prompts, continuations",
        ),
    ]


@pytest.mark.parametrize(("name", "data", "metrics", "options", "message"), refusals())
def test_refuses_before_the_first_step(name, data, metrics, options, message):
    with pytest.raises(ValueError, match=message):
        kseq.training.DecodedMetric(data, metrics, **options).evaluate(MAKERS[name]())


def test_refuses_wrong_options():
    for options, message in [
        ({"metrics": "blue"}, "'blue' must be one of"),
        ({"metrics": kseq.metrics.Bleu}, "a metric such as kseq.metrics.Bleu"),
        ({"metrics": ["cer", "cer"]}, "a name of its own"),
        ({"metrics": []}, "a name of its own"),
        ({"metrics": "cer", "every": 0}, "every=0"),
        ({"metrics": "cer", "every": 2, "every_steps": 5}, "give one of them"),
    ]:
        with pytest.raises(ValueError, match=message):
            kseq.training.DecodedMetric(([], []), **options)
