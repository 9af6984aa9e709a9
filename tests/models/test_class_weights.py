"""`class_weight` in `fit`: of tokens by their tag, and of rows by their class."""

import keras
import numpy as np
import pytest

import kseq
from tests.contracts.models import MAKERS

SOURCE = np.array([[3, 4, 5, 6], [7, 8, 0, 0], [9, 3, 4, 0], [5, 0, 0, 0]], "int32")
LENGTHS = np.array([4, 2, 3, 1], "int32")
TAGS = np.array([[0, 1, 2, 1], [2, 0, 9, 9], [1, 1, 0, 9], [2, 9, 9, 9]], "int32")  # 9 in the padding is no tag
LABELS = np.array([0, 2, 1, 2], "int32")
BY_CLASS = {1: 0.5, 2: 4.0}
TABLE = np.array([1.0, 0.5, 4.0])
REAL = np.arange(4) < LENGTHS[:, None]


def tagger(**options):
    keras.utils.set_random_seed(1)
    model = kseq.models.Tagger(kseq.models.Encoder(10, 4, kseq.cells.GRUCell(3)), 3, **options)
    model.compile(keras.optimizers.SGD(1e-9), run_eagerly=True)
    return model


def classifier(task="classification"):
    keras.utils.set_random_seed(1)
    model = kseq.models.SequenceClassifier(kseq.models.Encoder(10, 4, kseq.cells.GRUCell(3)), 3, task=task)
    model.compile(keras.optimizers.SGD(1e-9), run_eagerly=True)
    return model


def losses(model, labels):
    """Return the cross-entropy of each label, in the padding of class 0."""
    logits = model.predict({"source": SOURCE, "source_lengths": LENGTHS}, verbose=0).astype("float64")
    chosen = np.where(labels < 3, labels, 0)[..., None]
    return np.log(np.exp(logits).sum(axis=-1)) - np.take_along_axis(logits, chosen, axis=-1)[..., 0]


def weighted(model, labels, rows=None):
    """Return the mean loss by hand, with weights of rows."""
    weights = np.where(labels < 3, TABLE[np.minimum(labels, 2)], 0.0)
    weights = weights if rows is None else weights * (rows[:, None] if labels.ndim > 1 else rows)
    return float((losses(model, labels) * weights).sum() / weights.sum())


INPUTS = {"source": SOURCE, "source_lengths": LENGTHS}
KINDS = {"tags": (tagger, {**INPUTS, "tags": TAGS}), "labels": (classifier, {**INPUTS, "labels": LABELS})}


class Batches(keras.utils.PyDataset):
    """One batch, as inputs alone, or with labels and weights beside them."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    @property
    def num_batches(self):
        return 1

    def __getitem__(self, index):
        return self.batch


def loss_of(model, data, **options):
    return model.fit(data, verbose=0, class_weight=BY_CLASS, **options).history["loss"][0]


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_labels_weigh_what_their_class_does(name):
    make, arrays = KINDS[name]
    model, labels = make(), arrays[name]
    expected, rows = weighted(model, labels), np.array([1.0, 2.0, 0.0, 3.0], "float32")
    assert loss_of(model, arrays) == pytest.approx(expected, rel=1e-5)
    assert loss_of(model, arrays, sample_weight=rows) == pytest.approx(weighted(model, labels, rows), rel=1e-5)
    got = model.train_on_batch(arrays, class_weight=BY_CLASS, return_dict=True)["loss"]
    assert float(got) == pytest.approx(expected, rel=1e-5)
    plain = model.fit(arrays, verbose=0).history["loss"][0]
    assert abs(plain - expected) > 1e-3


@pytest.mark.long
@pytest.mark.parametrize("name", KINDS)
def test_batches_of_datasets_and_generators_do_too(name):
    import tensorflow as tf

    make, arrays = KINDS[name]
    model, labels, rows = make(), arrays[name], np.array([1.0, 2.0, 0.0, 3.0])
    expected, of_rows = weighted(model, labels), weighted(model, labels, rows)
    lists = {"source": [row[:count].tolist() for row, count in zip(SOURCE, LENGTHS, strict=True)]}
    tags = [row[:count].tolist() for row, count in zip(TAGS, LENGTHS, strict=True)]
    lists |= {name: tags if name == "tags" else LABELS}
    batches = kseq.training.bucket_by_length(lists, batch_size=4, buckets=(4,))
    assert loss_of(model, batches) == pytest.approx(expected, rel=1e-5)
    weighed = tf.data.Dataset.from_tensors({**arrays, "sample_weight": rows})
    assert loss_of(model, weighed) == pytest.approx(of_rows, rel=1e-5)
    beside = tf.data.Dataset.from_tensors((INPUTS, np.where(labels < 3, labels, 0), rows))
    assert loss_of(model, beside) == pytest.approx(of_rows, rel=1e-5)
    assert loss_of(model, Batches(arrays)) == pytest.approx(expected, rel=1e-5)
    generator = (batch for batch in [({**arrays, "sample_weight": rows},)])
    assert loss_of(model, generator, steps_per_epoch=1) == pytest.approx(of_rows, rel=1e-5)


@pytest.mark.long
def test_rows_that_validate_have_the_same_weight():
    model, arrays = tagger(), KINDS["tags"][1]
    last = {name: values[2:] for name, values in arrays.items()}
    values = model.fit(arrays, verbose=0, class_weight=BY_CLASS, validation_split=0.5).history
    assert values["val_loss"][0] == pytest.approx(model.evaluate(last, verbose=0)[0], rel=1e-5)
    given = model.fit(arrays, verbose=0, class_weight=BY_CLASS, validation_data=last).history
    assert given["val_loss"][0] == pytest.approx(values["val_loss"][0], rel=1e-5)
    weights = np.where(TAGS < 3, TABLE[np.minimum(TAGS, 2)], 0.0)[:2]
    expected = (losses(model, TAGS)[:2] * weights).sum() / weights.sum()
    assert values["loss"][0] == pytest.approx(expected, rel=1e-5)


def test_refuses_what_has_no_such_meaning():
    for wrong, message in (
        ({3: 1.0}, r"weights for \[3\], but the classes are 0 to 2"),
        ({0: -1.0}, "at least 0"),
        ({0: "much"}, r"class_weight\[0\] must be a finite number"),
        ([1.0], "must be a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            tagger().fit(KINDS["tags"][1], class_weight=wrong)
    with pytest.raises(ValueError, match="sequence of tags as a whole"):
        tagger(crf=True).fit(KINDS["tags"][1], class_weight=BY_CLASS)
    with pytest.raises(ValueError, match="the task is 'regression'"):
        classifier("regression").fit({**INPUTS, "labels": np.zeros((4, 3), "float32")}, class_weight=BY_CLASS)
    for name in ("CTCRecognizer", "LanguageModel", "Forecaster, labels"):
        model = MAKERS[name]()
        with pytest.raises(ValueError, match=f"but a {type(model).__name__} has no such classes"):
            model.fit({}, class_weight=BY_CLASS)
