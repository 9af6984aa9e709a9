"""The classifier of sequences: its tasks, poolings, supervision at every step, and what it refuses."""

import keras
import numpy as np
import pytest

import kseq
from kseq.models.step_weights import weights_of_steps
from tests.support import BACKEND

IDS, CLASSES = 12, 3
ROWS = [[4, 5, 6], [7], [8, 9], [5, 6, 7, 8]]
LABELS = [0, 2, 1, 2]


def make(outputs=CLASSES, *, units=5, bidirectional=True, **options):
    encoder = kseq.models.Encoder(IDS, 6, kseq.cells.GRUCell(units), bidirectional=bidirectional)
    return kseq.models.SequenceClassifier(encoder, outputs, **options)


def compiled_model(*args, **options):
    model = make(*args, **options)
    model.compile("adam", run_eagerly=True)
    return model


def padded(rows):
    lengths = np.array([len(row) for row in rows])
    return {"source": np.array([[*row, *[0] * (lengths.max() - len(row))] for row in rows]), "source_lengths": lengths}


def log_softmax(logits):
    logits = np.asarray(logits, "float64")
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


@pytest.mark.long
def test_loss_and_accuracy_are_means_over_rows_and_rows_of_length_0_do_not_count():
    model = compiled_model()
    logits = log_softmax(model.predict(ROWS, verbose=0))
    loss, accuracy = model.evaluate(ROWS, LABELS, batch_size=4, verbose=0)
    np.testing.assert_allclose(loss, -logits[np.arange(4), LABELS].mean(), rtol=1e-5)
    np.testing.assert_allclose(accuracy, np.mean(logits.argmax(axis=-1) == LABELS), rtol=1e-6)
    rows = {"source": ROWS, "labels": LABELS}
    batches = kseq.training.bucket_by_length(rows, batch_size=3, buckets=(2, 4))
    np.testing.assert_allclose(model.evaluate(batches, verbose=0), (loss, accuracy), rtol=1e-5)
    for weights in (np.array([1, 1, 0, 2.0]), None):
        with_class = {} if weights is not None else {"class_weight": {1: 0.0, 2: 2.0}}
        of_rows = np.array([1, 2, 0, 2.0]) if weights is None else weights
        got = model.train_on_batch(ROWS, LABELS, sample_weight=weights, **with_class)
        np.testing.assert_allclose(got[0], -np.average(logits[np.arange(4), LABELS], weights=of_rows), rtol=1e-5)
        logits = log_softmax(model.predict(ROWS, verbose=0))


@pytest.mark.long
def test_several_labels():
    model, labels = compiled_model(task="multi_label"), np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0], [0.5, 1, 1]])
    probabilities = 1 / (1 + np.exp(-model.predict(ROWS, verbose=0).astype("float64")))
    losses = -labels * np.log(probabilities) - (1 - labels) * np.log(1 - probabilities)
    loss, accuracy = model.evaluate(ROWS, labels, verbose=0)
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(accuracy, np.mean((probabilities > 0.5) == labels), rtol=1e-6)
    model.compile("adam", metrics=[keras.metrics.F1Score("micro", threshold=0.5)], run_eagerly=True)
    right = (labels == 1) & (probabilities > 0.5)
    expected = 2 * right.sum() / ((labels == 1).sum() + 0.5 + (probabilities > 0.5).sum())
    np.testing.assert_allclose(model.evaluate(ROWS, labels, verbose=0)[1], expected, atol=0.1)


@pytest.mark.long
@pytest.mark.parametrize("outputs", [1, 2])
def test_numbers(outputs):
    model = compiled_model(outputs, task="regression", pooling="mean")
    labels = np.random.default_rng(0).normal(size=(4, outputs))
    errors = model.predict(ROWS, verbose=0) - labels
    expected = [np.mean(errors**2), np.mean(abs(errors))]
    np.testing.assert_allclose(model.evaluate(ROWS, labels, verbose=0), expected, rtol=1e-5)
    if outputs == 1:
        np.testing.assert_allclose(model.evaluate(ROWS, labels[:, 0].tolist(), verbose=0), expected, rtol=1e-5)


@pytest.mark.long
@pytest.mark.every_backend
def test_fit_learns_with_a_pooling_of_a_users_own():
    """The class is told by one token anywhere; chance is a third. JAX compiles the steps."""
    random = np.random.default_rng(3)
    rows = [random.integers(7, IDS, size=size) for size in random.integers(2, 6, size=96)]
    labels = random.integers(0, CLASSES, size=96)
    for row, label in zip(rows, labels, strict=True):
        row[random.integers(len(row))] = 4 + label
    inputs = {**padded([row.tolist() for row in rows]), "labels": labels}
    pooling = "attention" if BACKEND == "jax" else keras.layers.GlobalAveragePooling1D()
    keras.utils.set_random_seed(1)
    model = make(units=12, pooling=pooling, dropout=0.1)
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(inputs, batch_size=24, epochs=25, verbose=0).history
    assert history["accuracy"][-1] > 0.9


class TestStepWeights:
    """A recurrence supervised at every step."""

    def test_weights_sum_to_1_in_each_row(self):
        lengths = np.array([3, 1, 0])
        expected = {"uniform": [[1 / 3] * 3, [1, 0, 0], [0] * 3], "linear": [[1 / 6, 2 / 6, 3 / 6], [1, 0, 0], [0] * 3]}
        for weights, of in expected.items():
            np.testing.assert_allclose(weights_of_steps(weights, lengths, 3), of, atol=1e-7)

        def last_counts_half(steps, lengths):
            return keras.ops.where(steps == lengths, lengths - 1, 1.0)

        np.testing.assert_allclose(weights_of_steps(last_counts_half, lengths[:1], 3), [[0.25, 0.25, 0.5]])

    @pytest.mark.long
    def test_the_loss_is_the_weighted_mean_over_steps_and_the_answer_that_of_the_last(self):
        model = make(bidirectional=False, step_weights="linear")
        model.compile("adam", metrics=[keras.metrics.SparseCategoricalCrossentropy(from_logits=True)], run_eagerly=True)
        expected = []
        for row, label in zip(ROWS, LABELS, strict=True):
            prefixes = [row[: count + 1] for count in range(len(row))]
            logits = log_softmax(model.predict(prefixes, verbose=0))  # the answer to the steps so far
            expected.append(np.average(-logits[:, label], weights=np.arange(1, len(row) + 1)))
        of_last = -log_softmax(model.predict(ROWS, verbose=0))[np.arange(4), LABELS].mean()
        for evaluate in (model.evaluate, model.test_on_batch, model.train_on_batch):
            options = {"verbose": 0} if evaluate == model.evaluate else {}
            np.testing.assert_allclose(evaluate(ROWS, LABELS, **options), [np.mean(expected), of_last], rtol=1e-5)
        labels = np.eye(3)[LABELS]
        for task, given in (("multi_label", labels), ("regression", labels)):
            other = compiled_model(bidirectional=False, step_weights="uniform", task=task)
            assert np.isfinite(other.train_on_batch(ROWS, given)).all()

    def test_what_does_not_fit_is_refused(self):
        for options, message in (
            ({"step_weights": "last"}, r"step_weights='last', but it must be one of \['uniform', 'linear'\]"),
            ({"step_weights": "linear", "pooling": "max"}, "needs pooling='last', .* but pooling='max'"),
            ({"step_weights": lambda steps, lengths: steps - 2}, r"returned \[\[-1.0, 0.0, 1.0\]\], but expected"),
            ({"step_weights": lambda steps, lengths: steps[0, :2]}, r"of shape \(batch, time\) = \(2, 3\)"),
        ):
            with pytest.raises(ValueError, match=message):
                make(bidirectional=False, **options)
        with pytest.raises(ValueError, match=r"this Encoder has read more of the row .* bidirectional=False"):
            make(step_weights="linear")
        with pytest.raises(ValueError, match="has the reduction 'sum_over_batch_size'"):
            make(bidirectional=False, step_weights="linear").compile(
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            )


class TestTexts:
    """Classes and numbers of texts, by the model's tokenizers."""

    TEXTS = ("who is it", "When", "who when who")

    def model(self, **options):
        words = kseq.text.WordTokenizer(normalizer=kseq.text.TextNormalizer(case="lower")).adapt(["who when is"])
        letters = kseq.text.CharacterTokenizer().adapt(["abcdefghijklmnoprstuvwW"])
        spelling = kseq.models.CharacterEncoder(letters.vocabulary_size, 3, kseq.cells.GRUCell(2))
        encoder = kseq.models.WordEncoder(words.vocabulary_size, 4, kseq.cells.GRUCell(3), characters=spelling)
        return kseq.models.SequenceClassifier(
            encoder, CLASSES, source_tokenizer=words, character_tokenizer=letters, **options
        )

    @pytest.mark.long
    def test_classify_is_what_the_rows_of_the_texts_give(self, tmp_path):
        names = ["HUM", "NUM", "LOC"]
        model = self.model(class_names=names)
        rows = kseq.training.labelled_texts(
            model.source_tokenizer,
            names,
            self.TEXTS,
            ["HUM", "NUM", "LOC"],
            character_tokenizer=model.character_tokenizer,
        )
        assert rows["labels"] == [0, 1, 2]
        assert rows["characters"][1] == [model.character_tokenizer.tokenize(["When"]).to_list()[0]]
        probabilities = np.exp(log_softmax(model.predict(rows, verbose=0)))
        for row, answer in enumerate(model.classify(self.TEXTS)):
            order = np.argsort(-probabilities[row])
            assert [name for name, _ in answer] == [names[place] for place in order]
            np.testing.assert_allclose([share for _, share in answer], probabilities[row][order], rtol=1e-5)
        assert model.classify("When", top=1) == [model.classify(["When"])[0][0]]
        assert model.classify([]) == []
        model.save(tmp_path / "model.keras")
        assert keras.saving.load_model(tmp_path / "model.keras").classify("When") == model.classify("When")
        model.compile("adam", run_eagerly=True)
        batches = kseq.training.bucket_by_length(rows, batch_size=2, buckets=(2, 4))
        np.testing.assert_allclose(model.evaluate(batches, verbose=0), model.evaluate(rows, verbose=0), rtol=1e-5)

    @pytest.mark.long
    def test_regress(self):
        model = self.model(task="regression")
        rows = kseq.training.labelled_texts(
            model.source_tokenizer, None, self.TEXTS, [[1.5] * 3] * 3, character_tokenizer=model.character_tokenizer
        )
        np.testing.assert_allclose(model.regress(self.TEXTS), model.predict(rows, verbose=0), rtol=1e-5)
        assert model.regress("When").shape == (CLASSES,)
        with pytest.raises(ValueError, match=r"task='regression' has no classes. Call regress\(texts\)"):
            model.classify("When")

    def test_what_has_no_answer_is_refused(self):
        model = self.model()
        with pytest.raises(ValueError, match="The text ' ' has no tokens"):
            model.classify(["When", " "])
        with pytest.raises(ValueError, match="task='classification' has classes"):
            model.regress("When")
        model.character_tokenizer = None
        with pytest.raises(ValueError, match="classify needs a character_tokenizer"):
            model.classify("When")
        with pytest.raises(ValueError, match="The source tokenizer has 7 ids, but the model reads 4"):
            kseq.models.SequenceClassifier(
                kseq.models.Encoder(4, 4, kseq.cells.GRUCell(3)), 3, source_tokenizer=model.source_tokenizer
            )


BAD = [
    ({"labels": [0, 3, 1, 2]}, r"labels\[1\] = 3 is not a class: the model has classes 0 to 2"),
    ({"labels": [0, -1, 1, 2]}, r"labels\[1\] = -1 is not a class"),
    ({"labels": [0, 1, 1]}, "labels has 3 rows, but source has 4"),
    ({"labels": np.eye(4, 3)}, r"whole numbers|labels has shape \(4, 3\), .* np.argmax"),
    ({"labels": ["a", "b", "a", "b"]}, "labels are texts, such as 'a'.*labelled_texts"),
    ({"labels": [[0], [1, 2], [1], [2]]}, "labels is not a row of numbers"),
    ({"labels": [0.5, 1, 1, 2]}, "must be whole numbers"),
    ({"source": [*ROWS[:3], []]}, r"source\[3\] has no tokens"),
    ({"source": [*ROWS[:3], [IDS]]}, rf"source\[3, 0\] = {IDS} is not a token id"),
    (
        {"task": "multi_label", "labels": [[0, 1, 0]] * 3 + [[0, 1, 1.5]]},
        r"labels\[3, 2\] = 1.5, but expected a number",
    ),
    ({"task": "multi_label", "labels": [[0, 1]] * 4}, r"labels has shape \(4, 2\), but the model has 3 outputs"),
    ({"task": "regression", "labels": [[0, 1, np.nan]] * 4}, r"labels\[0, 2\] = nan, but expected a finite number"),
    ({"labels": None}, "lack labels"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_arrays_that_do_not_fit_are_refused(change, message):
    change = dict(change)
    model = compiled_model(**({"task": change.pop("task")} if "task" in change else {}))
    data = {name: value for name, value in {"source": ROWS, "labels": LABELS, **change}.items() if value is not None}
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match=message):
            method(data, verbose=0)
    if message != r"source\[3\] has no tokens":  # of a batch, the rows of length 0 do not count
        with pytest.raises(ValueError, match=message):
            model.train_on_batch(data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": 1}, "num_classes=1, but the task 'classification' needs at least 2"),
        ({"task": "ranking"}, r"task='ranking', but it must be one of \['classification'"),
        ({"pooling": "median"}, "pooling='median', but it must be one of"),
        ({"pooling": keras.layers.Flatten()}, "or a layer whose call has the argument mask"),
        ({"class_names": ["a", "b"]}, r"class_names has 2 names, \['a', 'b'\], but the model has 3 classes"),
        ({"class_names": ["a", "b", "a"]}, "class_names has 'a' twice"),
        ({"class_names": ["a", "b", "c"], "task": "regression"}, "the task 'regression' has no classes"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (
            "classification",
            {"loss": "sparse_categorical_crossentropy"},
            "expects probabilities, .* Use keras.losses.Spar",
        ),
        ("multi_label", {"loss": "binary_crossentropy"}, "expects probabilities"),
        ("multi_label", {"metrics": ["accuracy"]}, "'accuracy' means that of a single class to Keras"),
        (
            "multi_label",
            {"metrics": [keras.metrics.AUC(from_logits=True)]},
            "metrics of several labels get probabilities",
        ),
    ],
)
def test_losses_and_metrics_of_something_else_are_refused(task, options, message):
    with pytest.raises(ValueError, match=message):
        make(task=task).compile("adam", **options)


def test_a_row_without_tokens_has_no_answer_and_leaves_the_others_alone():
    model = compiled_model()
    inputs = {**padded(ROWS), "source_lengths": np.array([3, 0, 2, 4])}
    answers = np.asarray(model(inputs))
    assert np.isnan(answers[1]).all()
    np.testing.assert_allclose(answers[[0, 2, 3]], model.predict([ROWS[0], *ROWS[2:]], verbose=0), atol=1e-6)
    loss, _ = model.test_on_batch({**inputs, "labels": np.array([0, 99, 1, 2])[[0, 0, 2, 3]]})
    expected = model.evaluate([ROWS[0], *ROWS[2:]], [0, 1, 2], verbose=0)[0]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
