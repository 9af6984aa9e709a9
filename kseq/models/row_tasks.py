"""The tasks of models that answer each row: a class, any number of labels, or numbers."""

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.ids import from_bools, integers, known_integers
from kseq.models.answers.class_answer import classes_and_probabilities

MEAN = "mean_with_sample_weight"  # the reduction of Keras's losses in which rows of weight 0 do not count


class RowTask:
    """What a row's label is, which loss and metrics it has, and what the model answers.

    Attributes:
        name: Name of the task.
        fewest: Smallest number of the model's outputs.
        advice: The way out for a loss that expects probabilities.
        has_classes: Whether the answer consists of classes.
    """

    name: ClassVar[str]
    fewest: ClassVar[int] = 1
    advice: ClassVar[str] = ""
    has_classes: ClassVar[bool] = True

    def loss(self) -> keras.losses.Loss:
        """Return the default loss."""
        raise NotImplementedError

    def metrics(self) -> list[keras.metrics.Metric]:
        """Return the default metrics."""
        raise NotImplementedError

    def read(self, labels: Any, outputs: int) -> tuple[Tensor, Tensor]:
        """Return labels that a loss can use, and which rows have a valid one, bool `(batch,)`.

        Args:
            labels: The labels of a batch.
            outputs: Number of the model's outputs.

        Raises:
            ValueError: If the shape or dtype is wrong.
        """
        raise NotImplementedError

    def check(self, labels: Any, outputs: int) -> None:
        """Raise ValueError if an array has a wrong label."""
        raise NotImplementedError

    def predictions(self, logits: Tensor) -> Tensor:
        """Return what the metrics get for the logits."""
        return logits

    def answer(self, logits: Tensor) -> dict[str, Tensor]:
        """Return the answer to each row by name, from logits `(batch, outputs)`."""
        raise NotImplementedError


class Classification(RowTask):
    """One of several classes for each row: labels int `(batch,)`, a softmax."""

    name: ClassVar[str] = "classification"
    fewest: ClassVar[int] = 2
    advice: ClassVar[str] = f"keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction={MEAN!r})"

    def loss(self) -> keras.losses.Loss:
        """Return the cross-entropy."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=MEAN)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Return the accuracy."""
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def read(self, labels: Any, outputs: int) -> tuple[Tensor, Tensor]:
        """Return int32 `(batch,)`, in place of a number that is no class the last class."""
        labels = integers(from_bools(labels), "labels", whole_floats=True)
        labels = _shaped(labels, (), f"an int for each row, the number of its class. {_ONE_HOT}")
        right = ops.logical_and(labels >= 0, labels < outputs)
        # The most probable class of NaN is the first one, so accuracy takes an invalid row for a wrong one.
        return ops.where(right, labels, outputs - 1), right

    def check(self, labels: Any, outputs: int) -> None:
        """Raise ValueError if a label is no class."""
        _refuse_texts(labels)
        known = known_integers(from_bools(labels), "labels", whole_floats=True)
        if known is None:
            return
        if known.ndim != 1 and known.shape[1:] != (1,):
            raise ValueError(f"labels has shape {known.shape}, but expected an int for each row, (batch,). {_ONE_HOT}")
        outside = np.flatnonzero((known < 0) | (known >= outputs))
        if len(outside):
            raise ValueError(
                f"labels[{outside[0]}] = {known.reshape(-1)[outside[0]]} is not a class: the model has classes 0 to "
                f"{outputs - 1}. Number the classes from 0, or increase the model's num_classes."
            )

    def answer(self, logits: Tensor) -> dict[str, Tensor]:
        """Return `classes` and `probabilities`, `(batch, outputs)`, the most probable class first."""
        return classes_and_probabilities(ops.softmax(logits, axis=-1))


class MultiLabel(RowTask):
    """Any number of the labels for each row: labels `(batch, outputs)` between 0 and 1, a sigmoid each."""

    name: ClassVar[str] = "multi_label"
    advice: ClassVar[str] = f"keras.losses.BinaryCrossentropy(from_logits=True, reduction={MEAN!r})"

    def loss(self) -> keras.losses.Loss:
        """Return the binary cross-entropy, the mean over the labels."""
        return keras.losses.BinaryCrossentropy(from_logits=True, reduction=MEAN)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Return the share of right decisions, at probability 0.5."""
        return [keras.metrics.BinaryAccuracy(name="accuracy")]

    def read(self, labels: Any, outputs: int) -> tuple[Tensor, Tensor]:
        """Return float32 `(batch, outputs)`, zeros in a row with a value that is not between 0 and 1."""
        values = _shaped(_floats(labels), (outputs,), f"a number from 0 to 1 for each of the {outputs} labels")
        right = ops.all(ops.logical_and(values >= 0.0, values <= 1.0), axis=-1)
        return ops.where(right[:, None], values, 0.0), right

    def check(self, labels: Any, outputs: int) -> None:
        """Raise ValueError if a value is not between 0 and 1."""
        expected = "a number from 0 (the row does not have the label) to 1 (it has it)"
        _check_numbers(labels, outputs, lambda known: (known >= 0) & (known <= 1), expected)

    def predictions(self, logits: Tensor) -> Tensor:
        """Return probabilities: Keras's metrics of labels compare these with thresholds."""
        return ops.sigmoid(logits)

    def answer(self, logits: Tensor) -> dict[str, Tensor]:
        """Return `classes` and `probabilities`, `(batch, outputs)`, the most probable label first."""
        return classes_and_probabilities(ops.sigmoid(logits))


class Regression(RowTask):
    """Numbers for each row: labels float `(batch, outputs)`, or `(batch,)` for one output."""

    name: ClassVar[str] = "regression"
    has_classes: ClassVar[bool] = False

    def loss(self) -> keras.losses.Loss:
        """Return the mean squared error."""
        return keras.losses.MeanSquaredError(reduction=MEAN)

    def metrics(self) -> list[keras.metrics.Metric]:
        """Return the mean absolute error."""
        return [keras.metrics.MeanAbsoluteError()]

    def read(self, labels: Any, outputs: int) -> tuple[Tensor, Tensor]:
        """Return float32 `(batch, outputs)`, zeros in a row with NaN or infinity."""
        values = _floats(labels)
        if outputs == 1 and len(values.shape) == 1:
            values = values[:, None]
        values = _shaped(values, (outputs,), f"{outputs} numbers for each row")
        right = ops.all(ops.isfinite(values), axis=-1)
        return ops.where(right[:, None], values, 0.0), right

    def check(self, labels: Any, outputs: int) -> None:
        """Raise ValueError if a number is not finite."""
        _check_numbers(labels, outputs, np.isfinite, "a finite number. Repair the row or drop it")

    def answer(self, logits: Tensor) -> dict[str, Tensor]:
        """Return `values` `(batch, outputs)`."""
        return {"values": logits}


TASKS: dict[str, RowTask] = {task.name: task for task in (Classification(), MultiLabel(), Regression())}
_ONE_HOT = "Of one-hot labels take np.argmax(labels, axis=-1); for several labels a row give task='multi_label'."


def _floats(labels: Any) -> Tensor:
    dtype = getattr(labels, "dtype", None)
    if dtype is None:
        return ops.convert_to_tensor(np.asarray(labels, "float32"))
    name = keras.backend.standardize_dtype(dtype)
    if name in ("string", "object"):
        raise ValueError(f"The values of labels have dtype {name}, but they must be numbers.")
    return ops.cast(labels, "float32")


def _shaped(values: Tensor, row: tuple[int, ...], expected: str) -> Tensor:
    """Return labels as `(batch, *row)`; raise ValueError if they have another shape."""
    if getattr(values.shape, "rank", 0) is None:  # in a TensorFlow graph
        return ops.reshape(values, (-1, *row))
    shape = tuple(values.shape)
    if shape[1:] == (1,) and row == ():
        return values[:, 0]
    if not shape or shape[1:] != row:
        raise ValueError(f"labels has shape {shape}, but expected {expected}, shape {('batch', *row)}.")
    return values


def _check_numbers(labels: Any, outputs: int, fits: Any, expected: str) -> None:
    """Raise ValueError unless `labels` are `(batch, outputs)`, or `(batch,)` for one output, and all values fit."""
    _refuse_texts(labels)
    known = np.asarray(labels)
    if known.dtype.kind not in "iufb" and known.dtype.name != "bfloat16":
        raise ValueError(f"The values of labels have dtype {known.dtype}, but they must be numbers.")
    if known.shape[1:] != (outputs,) and (outputs != 1 or known.ndim != 1):
        raise ValueError(
            f"labels has shape {known.shape}, but the model has {outputs} outputs: expected shape (batch, {outputs})."
        )
    odd = np.argwhere(~fits(known.astype("float64")))
    if len(odd):
        place = tuple(int(axis) for axis in odd[0])
        raise ValueError(f"labels{list(place)} = {known[place]}, but expected {expected}.")


def _refuse_texts(labels: Any) -> None:
    known = np.asarray(labels)
    texts = known.dtype.kind in "US" or (known.dtype.kind == "O" and known.size and isinstance(known.flat[0], str))
    if texts:
        raise ValueError(
            f"labels are texts, such as {str(known.flat[0])!r}, but the model reads numbers. Make rows of texts and "
            "names of classes with kseq.training.labelled_texts(tokenizer, class_names, texts, labels)."
        )
