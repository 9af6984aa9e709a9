"""Signatures over `tf.train.Example`, for TensorFlow Serving's Classify and Regress."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kseq.export.inputs.reader import Reader
from kseq.export.row_errors import add_error, no_errors
from kseq.models.export_contract import RowInputs, Serving, StepInputs

CLASSIFY, REGRESS = "serving_classify", "serving_regress"
METHODS = {CLASSIFY: "tensorflow/serving/classify", REGRESS: "tensorflow/serving/regress"}
LARGEST_INT = 2**31 - 1


@dataclass(frozen=True)
class Feature:
    """A feature of an example, and the tensor of a request that it becomes.

    Attributes:
        spec: The request's tensor: `(batch,)`, or `(batch, time, ...)` for a sequence.
        lengths: Name of the tensor of the sequence's lengths; None if it is no sequence.
        default: Value of a missing feature; None if it must not be missing.
    """

    spec: tf.TensorSpec
    lengths: str | None = None
    default: Any = None

    @property
    def name(self) -> str:
        """Name of the feature and of the tensor."""
        return str(self.spec.name)

    @property
    def step_size(self) -> int:
        """Number of values in a step of a sequence."""
        return math.prod(axis or 1 for axis in self.spec.shape[2:].as_list())

    def parsed_as(self) -> tf.io.RaggedFeature:
        """Return how TensorFlow parses the feature: strings, int64 or float32, any number of them."""
        kinds = {True: tf.float32, False: tf.string if self.spec.dtype == tf.string else tf.int64}
        return tf.io.RaggedFeature(kinds[self.spec.dtype.is_floating], row_splits_dtype=tf.int32)

    def read(self, values: tf.RaggedTensor, errors: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Return the request's tensors for the values of each example, and the reasons of examples that do not fit."""
        counts, subject = values.row_lengths(), f"The feature {self.name} of the example has "
        if self.spec.dtype.is_integer:
            values = values.with_flat_values(tf.clip_by_value(values.flat_values, -LARGEST_INT, LARGEST_INT))
        if self.lengths is None:
            fewest = 0 if self.default is not None else 1
            errors = add_error(errors, (counts < fewest) | (counts > 1), subject, counts, " values, but expected one.")
            default: Any = "" if self.spec.dtype == tf.string else tf.cast(self.default or 0, values.dtype)
            filled = values.to_tensor(default, shape=[None, 1])[:, 0]
            return {self.name: tf.cast(filled, self.spec.dtype)}, errors
        size = self.step_size
        expected = f" values, but a step of the sequence has {size}."
        errors = add_error(errors, tf.math.floormod(counts, size) != 0, subject, counts, expected)
        padded = values.to_tensor()
        missing: Any = [[0, 0], [0, tf.math.floormod(-tf.shape(padded)[1], size)]]
        padded = tf.pad(padded, missing)
        shape = [tf.shape(padded)[0], tf.math.floordiv(tf.shape(padded)[1], size), *self.spec.shape[2:]]
        steps = tf.cast(tf.reshape(padded, shape), self.spec.dtype)
        return {self.name: steps, self.lengths: tf.math.floordiv(counts, size)}, errors


def features_of(readers: Sequence[Reader]) -> list[Feature] | None:
    """Return the features of an example that a request can be made of, or None if there is no such example.

    A feature holds one value, or the values of a sequence one after the other. Sequences of sequences, and values per
    row with axes of their own, have no such form.
    """
    features = []
    for reader in readers:
        lengths = reader.names if reader.padded else {}
        for spec in reader.specs():
            name, rank = str(spec.name), spec.shape.rank
            if name in lengths.values():
                continue
            known, of = all(axis is not None for axis in spec.shape[2:]), reader.inputs.get(name)
            if rank != 1 and not (known and isinstance(of, StepInputs) and of.axes == 2):
                return None
            default = of.default if isinstance(of, RowInputs) else None
            features.append(Feature(spec, lengths.get(name), default))
    return features


def example_functions(
    serving: Serving, readers: Sequence[Reader], answer: Callable[..., dict[str, tf.Tensor]]
) -> dict[str, Callable]:
    """Return a function for each of the signatures `serving_classify` and `serving_regress` that the model has.

    They take `inputs`, string `(batch,)`, serialised examples with the request's inputs as features. Classify returns
    `classes` string and `scores` float32, `(batch, n)`; Regress returns `outputs` float32 `(batch,)`. These protocols
    have no place for reasons: a bad row has empty classes and NaN.

    Args:
        serving: Names the outputs that contain classes and scores, or numbers.
        readers: The readers of requests.
        answer: The function of the signature `serving_default`, of the tensors in the order of the readers' specs.
    """
    features = features_of(readers)
    if features is None:
        return {}
    order = [str(spec.name) for reader in readers for spec in reader.specs()]

    def answered(inputs: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        parsed: Any = tf.io.parse_example(inputs, {feature.name: feature.parsed_as() for feature in features})
        request: dict[str, tf.Tensor] = {}
        errors = no_errors(inputs)
        for feature in features:
            tensors, errors = feature.read(parsed[feature.name], errors)
            request |= tensors
        return answer(*[request[name] for name in order]), errors != ""

    def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        assert serving.classify is not None
        outputs, bad = answered(inputs)
        classes, scores = (outputs[name] for name in serving.classify)
        if classes.dtype != tf.string:
            classes = tf.where(classes < 0, "", tf.strings.as_string(classes))
        nan = tf.constant(float("nan"), tf.float32)
        return {
            "classes": tf.where(bad[:, None], "", classes),
            "scores": tf.where(bad[:, None], nan, tf.cast(scores, tf.float32)),
        }

    def regress(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        assert serving.regress is not None
        outputs, bad = answered(inputs)
        values = tf.reshape(tf.cast(outputs[serving.regress], tf.float32), tf.shape(bad))
        return {"outputs": tf.where(bad, tf.constant(float("nan"), tf.float32), values)}

    wanted = {CLASSIFY: serving.classify and classify, REGRESS: serving.regress and regress}
    spec = [tf.TensorSpec([None], tf.string, name="inputs")]
    return {name: tf.function(of, autograph=False, input_signature=spec) for name, of in wanted.items() if of}
