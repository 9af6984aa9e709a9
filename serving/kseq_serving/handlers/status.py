"""Handler of GetModelStatus: the states of a model's versions."""

from __future__ import annotations

from kseq_serving.core import ServerCore
from kseq_serving.errors import InvalidArgumentError, NotFoundError
from kseq_serving.protocol.protos import GetModelStatusRequest, GetModelStatusResponse


def get_model_status(core: ServerCore, request: GetModelStatusRequest) -> GetModelStatusResponse:
    """Answer a status request. A version number selects one version; labels are ignored, as in TensorFlow Serving.

    Raises:
        ServingError: If the request names no model, or the server never handled the model or version.
    """
    if not request.HasField("model_spec"):
        raise InvalidArgumentError("Missing ModelSpec")
    spec = request.model_spec
    statuses = core.board.versions(spec.name)
    if spec.HasField("version"):
        version = spec.version.value
        if version not in statuses:
            raise NotFoundError(f"Could not find version {version} of model {spec.name}")
        statuses = {version: statuses[version]}
    if not statuses:
        raise NotFoundError(f"Could not find any versions of model {spec.name}")
    response = GetModelStatusResponse()
    for version, status in statuses.items():
        entry = response.model_version_status.add(version=version, state=int(status.state))
        entry.status.SetInParent()
        if status.error:
            entry.status.error_code = int(status.error.code)
            entry.status.error_message = status.error.message
    return response
