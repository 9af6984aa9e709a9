"""Predict: named tensors in, named tensors out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from kseq_serving.errors import FailedPreconditionError, InvalidArgumentError
from kseq_serving.models.run_context import UNBOUNDED, RunContext
from kseq_serving.models.session import ModelSession
from kseq_serving.protocol import tensors
from kseq_serving.protocol.output_filter import choose
from kseq_serving.protocol.protos import SignatureDef, TensorProto

DEFAULT_SIGNATURE = "serving_default"
API = "Predict"

Inputs = Mapping[str, np.ndarray | TensorProto]
"""Tensors by the names of a signature's inputs."""


class SignatureNotFoundError(FailedPreconditionError):
    """Error for a signature that the version does not have, with the text for gRPC clients."""

    def __init__(self, name: str):
        super().__init__(f'Serving signature key "{name}" not found.')


def signature_key(name: str) -> str:
    """Return the key of a signature; an empty name stands for the default one."""
    return name or DEFAULT_SIGNATURE


def find(signatures: Mapping[str, SignatureDef], name: str) -> SignatureDef:
    """Return the signature of that name; an empty name stands for the default one.

    Raises:
        SignatureNotFoundError: If there is no such signature.
    """
    key = signature_key(name)
    if key not in signatures:
        raise SignatureNotFoundError(key)
    return signatures[key]


def run(
    session: ModelSession,
    signature: SignatureDef,
    inputs: Inputs,
    *,
    output_filter: Sequence[str] = (),
    context: RunContext = UNBOUNDED,
) -> dict[str, np.ndarray]:
    """Run a signature.

    Args:
        session: The loaded version.
        signature: One of its signatures.
        inputs: Tensors by the names of the signature's inputs.
        output_filter: Names of the outputs to compute; empty for all.
        context: Time limit of the run, and where its time is recorded.

    Returns:
        Arrays by the names of the signature's outputs.

    Raises:
        ServingError: If the request does not fit the signature, or the run failed.
    """
    feeds = bind_inputs(signature, inputs)
    fetches = {alias: signature.outputs[alias].name for alias in choose(signature.outputs, output_filter)}
    values = context.run(session, feeds, list(fetches.values()), API)
    return {alias: values[tensor] for alias, tensor in fetches.items()}


def bind_inputs(signature: SignatureDef, inputs: Inputs) -> dict[str, np.ndarray]:
    """Return arrays by tensor name for a signature's inputs, with the signature's defaults filled in.

    Raises:
        InvalidArgumentError: If an input is missing, unknown, or not a tensor.
    """
    _check_count(signature, inputs)
    feeds = {}
    for alias in sorted(signature.inputs):
        name = signature.inputs[alias].name
        if alias not in inputs and alias not in signature.defaults:
            raise InvalidArgumentError(
                f"Signature input alias: {alias}(feed name: {name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {_set(inputs)}, or default input alias set: "
                f"{_list(signature.defaults)}"
            )
        value = inputs[alias] if alias in inputs else signature.defaults[alias]
        feeds[name] = value if isinstance(value, np.ndarray) else _array(alias, value)
    if any(alias not in signature.inputs for alias in inputs):
        used = _list(alias for alias in inputs if alias in signature.inputs)
        raise InvalidArgumentError(
            f"Inputs contains invalid name. Used request inputs: {used}, request input: {_list(inputs)}"
        )
    return feeds


def _check_count(signature: SignatureDef, inputs: Mapping[str, object]) -> None:
    expected, sent = signature.inputs, len(inputs)
    if sent == len(expected) or (sent < len(expected) and signature.defaults):
        return
    raise InvalidArgumentError(
        f"input size does not match signature: {sent}!={len(expected)} len({_set(inputs)}) != "
        f"len({_set(expected)}). Sent extra: {_set(name for name in inputs if name not in expected)}. Missing but "
        f"required: {_set(name for name in expected if name not in inputs)}."
    )


def _array(alias: str, proto: TensorProto) -> np.ndarray:
    try:
        return tensors.to_array(proto)
    except ValueError as error:
        raise InvalidArgumentError(f"tensor parsing error: {alias}") from error


def _list(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def _set(names: Iterable[str]) -> str:
    return f"{{{_list(names)}}}"
