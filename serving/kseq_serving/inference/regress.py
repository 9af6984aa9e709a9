"""Regress: one number for each example."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kseq_serving.errors import InvalidArgumentError
from kseq_serving.inference import examples
from kseq_serving.inference.examples import Tensors
from kseq_serving.models.run_context import RunContext
from kseq_serving.models.session import ModelSession
from kseq_serving.protocol.dtypes import proto_name
from kseq_serving.protocol.protos import RegressionRequest, RegressionResult, SignatureDef

METHOD = "tensorflow/serving/regress"
INPUTS, OUTPUTS = "inputs", "outputs"


def run(session: ModelSession, request: RegressionRequest, context: RunContext) -> RegressionResult:
    """Run a regression signature on a request's examples.

    Raises:
        ServingError: If there is no such signature, it is not a regression, or the run failed.
    """
    signature = examples.find(session.signatures, request.model_spec.signature_name)
    tensors = bind(signature, check_method=context.check_methods)
    batch = examples.serialize(request.input)
    values = context.run(session, {tensors.examples: batch}, list(tensors.outputs.values()), "Regress")
    return result(tensors, len(batch), values)


def bind(signature: SignatureDef, *, check_method: bool) -> Tensors:
    """Return the tensors of a regression signature.

    Raises:
        InvalidArgumentError: If the signature is not a regression.
    """
    if check_method:
        examples.check_method(signature, "regression", METHOD)
    if len(signature.inputs) != 1:
        raise InvalidArgumentError("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise InvalidArgumentError("Expected one output Tensor.")
    if INPUTS not in signature.inputs:
        raise InvalidArgumentError(f"No regression inputs found in SignatureDef: {signature}")
    if OUTPUTS not in signature.outputs:
        raise InvalidArgumentError(f"No regression outputs found in SignatureDef: {signature}")
    return Tensors(signature.inputs[INPUTS].name, {OUTPUTS: signature.outputs[OUTPUTS].name})


def result(tensors: Tensors, count: int, values: Mapping[str, np.ndarray]) -> RegressionResult:
    """Convert the array of a run to a message.

    Args:
        tensors: Tensors of the signature.
        count: Number of examples.
        values: Arrays by tensor name, `(examples,)` or `(examples, 1)`.

    Raises:
        InvalidArgumentError: If the array has another shape or dtype.
    """
    array = values[tensors.outputs[OUTPUTS]]
    if array.ndim != 1 and not (array.ndim == 2 and array.shape[1] == 1):
        raise InvalidArgumentError(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{examples.shape_text(array)}"
        )
    if len(array) != count:
        raise InvalidArgumentError(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    if proto_name(array) != "DT_FLOAT":
        raise InvalidArgumentError(f"Expected output Tensor of DT_FLOAT.  Got: {proto_name(array)}")
    filled = RegressionResult()
    for value in array.ravel().tolist():
        filled.regressions.add(value=value)
    return filled
