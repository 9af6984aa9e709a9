"""Handler of GetModelMetadata: the signatures of a version."""

from __future__ import annotations

from kseq_serving.core import ServerCore
from kseq_serving.errors import InvalidArgumentError
from kseq_serving.protocol.protos import GetModelMetadataRequest, GetModelMetadataResponse, SignatureDefMap

SIGNATURES = "signature_def"


def get_model_metadata(core: ServerCore, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
    """Answer a metadata request.

    Raises:
        ServingError: If there is no such version, or the client asks for another field than the signatures.
    """
    if not request.HasField("model_spec"):
        raise InvalidArgumentError("Missing ModelSpec")
    if not request.metadata_field:
        raise InvalidArgumentError("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != SIGNATURES:
            raise InvalidArgumentError(f"Metadata field {field} is not supported")
    signatures = SignatureDefMap()
    response = GetModelMetadataResponse()
    with core.lease(request.model_spec) as servable:
        for name, signature in servable.session.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
    response.metadata[SIGNATURES].Pack(signatures)
    return response
