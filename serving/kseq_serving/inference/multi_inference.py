"""MultiInference: several classifications and regressions of the same examples in one run."""

from __future__ import annotations

from collections.abc import Iterator

from kseq_serving.errors import InvalidArgumentError, UnimplementedError
from kseq_serving.inference import classify, examples, regress
from kseq_serving.inference.examples import Tensors
from kseq_serving.inference.predict import signature_key
from kseq_serving.models.run_context import RunContext
from kseq_serving.models.session import ModelSession
from kseq_serving.protocol.protos import ModelSpec, MultiInferenceRequest, MultiInferenceResponse


def model_spec(request: MultiInferenceRequest) -> ModelSpec:
    """Return the model and version of the first task, which all tasks must share."""
    return request.tasks[0].model_spec if request.tasks else ModelSpec()


def run(session: ModelSession, request: MultiInferenceRequest, context: RunContext) -> MultiInferenceResponse:
    """Run all tasks of a request; the caller adds the version to the results.

    Raises:
        ServingError: If a task does not fit the model or the other tasks, or the run failed.
    """
    plans = list(_plan(session, request, check_methods=context.check_methods))
    batch = examples.serialize(request.input)
    fetches = sorted({name for tensors in plans for name in tensors.outputs.values()})
    values = context.run(session, {tensors.examples: batch for tensors in plans}, fetches)
    if context.metrics:
        context.metrics.example_count(context.model, len(batch))
    response = MultiInferenceResponse()
    for task, tensors in zip(request.tasks, plans, strict=True):
        filled = response.results.add()
        if task.method_name == classify.METHOD:
            filled.classification_result.CopyFrom(classify.result(tensors, len(batch), values))
        else:
            filled.regression_result.CopyFrom(regress.result(tensors, len(batch), values))
        filled.model_spec.name = task.model_spec.name
        filled.model_spec.signature_name = signature_key(task.model_spec.signature_name)
    return response


def _plan(session: ModelSession, request: MultiInferenceRequest, *, check_methods: bool) -> Iterator[Tensors]:
    seen: set[str] = set()
    for task in request.tasks:
        if not task.model_spec.name:
            raise InvalidArgumentError("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise InvalidArgumentError("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = signature_key(task.model_spec.signature_name)
        if name in seen:
            raise InvalidArgumentError(f"Duplicate evaluation of signature: {name}")
        seen.add(name)
        signature = session.signatures.get(name)
        if signature is None:
            raise InvalidArgumentError(f"Requested signature not found in model graph: {name}")
        if task.method_name == classify.METHOD:
            yield classify.bind(signature, check_method=check_methods)
        elif task.method_name == regress.METHOD:
            yield regress.bind(signature, check_method=check_methods)
        else:
            raise UnimplementedError(f"Unsupported signature method_name: {task.method_name}")
