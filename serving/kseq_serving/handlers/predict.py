"""Handler of Predict: lease a version, read the inputs, run the signature."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kseq_serving.core import ServerCore
from kseq_serving.inference import predict as inference
from kseq_serving.inference.predict import Inputs
from kseq_serving.protocol.protos import ModelSpec, SignatureDef

ReadInputs = Callable[[SignatureDef], Inputs]
"""Function from the requested signature to the inputs of a request; raises `ServingError` if they do not fit."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Result of a predict request.

    Attributes:
        model: Name of the model that ran.
        version: Version that ran.
        signature_name: Signature that ran.
        outputs: Arrays by output name.
    """

    model: str
    version: int
    signature_name: str
    outputs: Mapping[str, np.ndarray]


def predict(
    core: ServerCore,
    spec: ModelSpec,
    signature_name: str,
    read_inputs: ReadInputs,
    *,
    output_filter: Sequence[str] = (),
    timeout_s: float | None = None,
) -> Prediction:
    """Answer a predict request of either protocol.

    The adapters differ only in `read_inputs`: gRPC sends tensors, and REST sends JSON whose dtypes are those of the
    signature.

    Args:
        core: Models of the server.
        spec: Model and version that the client asks for.
        signature_name: Signature that the client asks for; empty for the default one.
        read_inputs: Function that reads the inputs of the request.
        output_filter: Names of the outputs to compute; empty for all.
        timeout_s: Longest time the run may take, in seconds; None for no limit.

    Raises:
        SignatureNotFoundError: If the version has no such signature.
        ServingError: If there is no such version, the inputs do not fit the signature, or the run failed.
    """
    with core.lease(spec) as servable:
        signature = inference.find(servable.session.signatures, signature_name)
        outputs = inference.run(
            servable.session,
            signature,
            read_inputs(signature),
            output_filter=output_filter,
            context=core.context(spec.name, timeout_s),
        )
    return Prediction(servable.name, servable.version, inference.signature_key(signature_name), outputs)
