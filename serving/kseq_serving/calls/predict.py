"""Predict: one signature run on one version."""

from __future__ import annotations

from kseq_serving.core import ServerCore
from kseq_serving.errors import InvalidArgumentError
from kseq_serving.models import signature
from kseq_serving.protocol import tensors
from kseq_serving.protocol.dtypes import dtype_of
from kseq_serving.protocol.protos import PredictRequest, PredictResponse


def predict(core: ServerCore, request: PredictRequest, *, timeout_s: float | None = None) -> PredictResponse:
    """Answers a predict request.

    Args:
        core: the models.
        request: what the client sent.
        timeout_s: the longest the run may take.

    Raises:
        ServingError: no model, no such version or signature, wrong inputs, or the run failed.
    """
    if not request.HasField("model_spec"):
        raise InvalidArgumentError("Missing ModelSpec")
    spec = request.model_spec
    response = PredictResponse()
    with core.lease(spec) as servable:
        outputs = signature.run(
            servable.session,
            spec.signature_name,
            request.inputs,
            output_filter=request.output_filter,
            context=core.context(spec.name, timeout_s),
        )
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
    response.model_spec.signature_name = signature.key(spec.signature_name)
    as_content = core.flags.enable_serialization_as_tensor_content
    for alias, array in outputs.items():
        dtype = dtype_of(array).as_datatype_enum
        tensors.fill(response.outputs[alias], array, dtype, as_content=as_content)
    return response
