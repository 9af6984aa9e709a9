"""Examples of Classify, Regress and MultiInference, as one string tensor of serialised `tf.train.Example`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.inference.predict import signature_key
from kseq_serving.protocol.protos import Input, SerializedInput, SignatureDef

MAX_CONTEXT_BYTES = 1 << 30  # the context is copied into every example, and a small request may hold very many


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Names of the graph's tensors that a signature over examples uses.

    Attributes:
        examples: Input tensor, `(examples,)` strings.
        outputs: Output tensors, by their names in the signature.
    """

    examples: str
    outputs: Mapping[str, str]


def serialize(given: Input) -> np.ndarray:
    """Return the examples of a request as bytes, `(examples,)`, each preceded by the request's context.

    Parsing the joined bytes of two messages merges them, so an example's feature replaces the context's of that name.

    Raises:
        InvalidArgumentError: If the request has no examples.
        ServingError: If the copies of the context would have more than `MAX_CONTEXT_BYTES`.
    """
    raw = SerializedInput.FromString(given.SerializeToString())
    with_context = raw.HasField("example_list_with_context")
    source = raw.example_list_with_context if with_context else raw.example_list
    if not source.examples:
        raise InvalidArgumentError("Input is empty.")
    context = source.context if with_context else b""
    size = len(context) * len(source.examples)
    if size > MAX_CONTEXT_BYTES:
        raise ServingError(
            Code.RESOURCE_EXHAUSTED, f"The context of all examples together has {size} bytes, over {MAX_CONTEXT_BYTES}."
        )
    examples = np.empty(len(source.examples), object)
    examples[:] = [context + example for example in source.examples]
    return examples


def find(signatures: Mapping[str, SignatureDef], name: str) -> SignatureDef:
    """Return the signature of a request with examples.

    Raises:
        InvalidArgumentError: If there is no such signature.
    """
    signature = signatures.get(signature_key(name))
    if signature is None:
        raise InvalidArgumentError(f"No signature was found with the name: {signature_key(name)}")
    return signature


def check_method(signature: SignatureDef, kind: str, method: str) -> None:
    """Refuse a signature that was exported for another method.

    Args:
        signature: Signature to check.
        kind: Name of the method in error texts.
        method: Name of the method in signatures.
    """
    if signature.method_name != method:
        raise InvalidArgumentError(
            f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}"
        )


def shape_text(array: np.ndarray) -> str:
    """Return the shape of an array in the form of TensorFlow's error texts."""
    return f"[{','.join(map(str, array.shape))}]"
