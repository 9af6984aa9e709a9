"""Runs a signature of a loaded version: names and tensors in, names and tensors out."""

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


def key(name: str) -> str:
    """The key of a signature; an empty name asks for the default one."""
    return name or DEFAULT_SIGNATURE


def run(
    session: ModelSession,
    signature_name: str,
    inputs: Mapping[str, np.ndarray | TensorProto],
    *,
    output_filter: Sequence[str] = (),
    context: RunContext = UNBOUNDED,
) -> dict[str, np.ndarray]:
    """Runs one signature.

    Args:
        session: the version.
        signature_name: its key; empty for the default.
        inputs: tensors by their names in the signature.
        output_filter: names of the outputs to compute; empty for all.
        context: how the run is bounded and timed.

    Returns:
        Arrays by their names in the signature.

    Raises:
        ServingError: the request does not fit the signature, or the run failed.
    """
    name = key(signature_name)
    signature = session.signatures.get(name)
    if signature is None:
        raise FailedPreconditionError(f'Serving signature key "{name}" not found.')
    feeds = bind_inputs(signature, inputs)
    fetches = {alias: signature.outputs[alias].name for alias in choose(signature.outputs, output_filter)}
    values = context.run(session, feeds, list(fetches.values()), API)
    return {alias: values[tensor] for alias, tensor in fetches.items()}


def bind_inputs(signature: SignatureDef, inputs: Mapping[str, np.ndarray | TensorProto]) -> dict[str, np.ndarray]:
    """Arrays by tensor name for a signature's inputs, the signature's defaults filled in.

    Raises:
        InvalidArgumentError: an input is missing, unknown, or no tensor.
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
