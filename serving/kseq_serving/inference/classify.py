"""Classify: labels and scores for each example."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.inference import examples
from kseq_serving.inference.examples import Tensors
from kseq_serving.models.run_context import RunContext
from kseq_serving.models.session import ModelSession
from kseq_serving.protocol.dtypes import proto_name
from kseq_serving.protocol.protos import ClassificationRequest, ClassificationResult, SignatureDef

METHOD = "tensorflow/serving/classify"
INPUTS, CLASSES, SCORES = "inputs", "classes", "scores"


def run(session: ModelSession, request: ClassificationRequest, context: RunContext) -> ClassificationResult:
    """Run a classification signature on a request's examples.

    Raises:
        ServingError: If there is no such signature, it does not classify, or the run failed.
    """
    signature = examples.find(session.signatures, request.model_spec.signature_name)
    tensors = bind(signature, check_method=context.check_methods)
    batch = examples.serialize(request.input)
    values = context.run(session, {tensors.examples: batch}, list(tensors.outputs.values()), "Classify")
    return result(tensors, len(batch), values)


def bind(signature: SignatureDef, *, check_method: bool) -> Tensors:
    """Return the tensors of a classification signature.

    Raises:
        InvalidArgumentError: If the signature does not classify.
    """
    if check_method:
        examples.check_method(signature, "classification", METHOD)
    if len(signature.inputs) != 1:
        raise InvalidArgumentError("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise InvalidArgumentError(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if INPUTS not in signature.inputs:
        raise InvalidArgumentError(f"No classification inputs found in SignatureDef: {signature}")
    outputs = {alias: signature.outputs[alias].name for alias in (CLASSES, SCORES) if alias in signature.outputs}
    if not outputs:
        raise InvalidArgumentError(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or "{SCORES}". '
            f"Signature was: {signature}"
        )
    return Tensors(signature.inputs[INPUTS].name, outputs)


def result(tensors: Tensors, count: int, values: Mapping[str, np.ndarray]) -> ClassificationResult:
    """Convert the arrays of a run to a message.

    Args:
        tensors: Tensors of the signature.
        count: Number of examples.
        values: Arrays by tensor name, each `(examples, classes)`.

    Raises:
        InvalidArgumentError: If an array has another shape or dtype.
    """
    classes, scores = (values.get(tensors.outputs.get(alias, "")) for alias in (CLASSES, SCORES))
    if classes is not None:
        _check(classes, CLASSES, "DT_STRING", count)
    if scores is not None:
        _check(scores, SCORES, "DT_FLOAT", count)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise InvalidArgumentError(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    filled = ClassificationResult()
    labels = classes.tolist() if classes is not None else None
    numbers = scores.tolist() if scores is not None else None
    width = (classes if classes is not None else scores).shape[1]
    for row in range(count):
        classification = filled.classifications.add()
        for column in range(width):
            entry = classification.classes.add()
            if labels is not None:
                # The field holds text only, so bytes that are not UTF-8 are replaced.
                entry.label = labels[row][column].decode("utf-8", "replace")
            if numbers is not None:
                entry.score = numbers[row][column]
    return filled


def _check(array: np.ndarray, alias: str, dtype: str, count: int) -> None:
    if array.ndim != 2:
        raise InvalidArgumentError(
            f"Expected Tensor shape: [batch_size num_classes] but got {examples.shape_text(array)}"
        )
    if proto_name(array) != dtype:
        raise InvalidArgumentError(f"Expected {alias} Tensor of {dtype}. Got: {proto_name(array)}")
    if len(array) != count:
        raise InvalidArgumentError(f"Expected {alias} output batch size of {count}. Got: {len(array)}")
