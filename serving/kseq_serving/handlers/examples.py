"""Handlers of Classify, Regress and MultiInference: run `tf.train.Example` on the version that a request asks for."""

from __future__ import annotations

from kseq_serving.core import ServerCore
from kseq_serving.errors import InvalidArgumentError
from kseq_serving.inference import classify as classification
from kseq_serving.inference import multi_inference as several
from kseq_serving.inference import regress as regression
from kseq_serving.inference.predict import signature_key
from kseq_serving.models.servable import Servable
from kseq_serving.protocol.protos import (
    ClassificationRequest,
    ClassificationResponse,
    ModelSpec,
    MultiInferenceRequest,
    MultiInferenceResponse,
    RegressionRequest,
    RegressionResponse,
)


def classify(
    core: ServerCore, request: ClassificationRequest, *, timeout_s: float | None = None
) -> ClassificationResponse:
    """Answer a classification request; `timeout_s` limits the run.

    Raises:
        ServingError: If there is no such version or signature, the examples do not fit it, or the run failed.
    """
    _check_spec(request)
    with core.lease(request.model_spec) as servable:
        result = classification.run(servable.session, request, core.context(request.model_spec.name, timeout_s))
        return ClassificationResponse(result=result, model_spec=_spec(servable, request.model_spec))


def regress(core: ServerCore, request: RegressionRequest, *, timeout_s: float | None = None) -> RegressionResponse:
    """Answer a regression request; `timeout_s` limits the run.

    Raises:
        ServingError: If there is no such version or signature, the examples do not fit it, or the run failed.
    """
    _check_spec(request)
    with core.lease(request.model_spec) as servable:
        result = regression.run(servable.session, request, core.context(request.model_spec.name, timeout_s))
        return RegressionResponse(result=result, model_spec=_spec(servable, request.model_spec))


def multi_inference(
    core: ServerCore, request: MultiInferenceRequest, *, timeout_s: float | None = None
) -> MultiInferenceResponse:
    """Answer a request of several tasks, which share one run; `timeout_s` limits the run.

    Raises:
        ServingError: If there is no such version or signature, the examples do not fit it, or the run failed.
    """
    spec = several.model_spec(request)
    with core.lease(spec) as servable:
        response = several.run(servable.session, request, core.context(spec.name, timeout_s))
        for result in response.results:
            result.model_spec.version.value = servable.version
        return response


def _check_spec(request: ClassificationRequest | RegressionRequest) -> None:
    if not request.HasField("model_spec"):
        raise InvalidArgumentError("Missing ModelSpec")


def _spec(servable: Servable, asked: ModelSpec) -> ModelSpec:
    answered = ModelSpec(name=servable.name, signature_name=signature_key(asked.signature_name))
    answered.version.value = servable.version
    return answered
