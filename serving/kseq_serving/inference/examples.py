"""The examples of Classify, Regress and MultiInference: one string tensor of serialised ``tf.train.Example``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.inference.predict import signature_key
from kseq_serving.protocol.protos import Input, SerializedInput, SignatureDef

MAX_CONTEXT_BYTES = 1 << 30  # a small request may name a context and very many examples


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Which tensors of a graph a signature over examples uses.

    Attributes:
        examples: the one that is fed, ``(examples,)`` strings.
        outputs: those that are fetched, by their names in the signature.
    """

    examples: str
    outputs: Mapping[str, str]


def serialize(given: Input) -> np.ndarray:
    """The examples of a request as bytes, ``(examples,)``, each with the request's context before it.

    To join the bytes of two messages is to merge them, so a feature of the example wins over one of the context.

    Raises:
        InvalidArgumentError: there is none.
        ServingError: the context, once for each example, would fill the memory.
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
    """The signature of a request that brings examples.

    Raises:
        InvalidArgumentError: there is no such signature.
    """
    signature = signatures.get(signature_key(name))
    if signature is None:
        raise InvalidArgumentError(f"No signature was found with the name: {signature_key(name)}")
    return signature


def check_method(signature: SignatureDef, kind: str, method: str) -> None:
    """Refuses a signature that was exported for another method.

    Args:
        signature: the signature.
        kind: the method's name in the error.
        method: the method's name in a signature.
    """
    if signature.method_name != method:
        raise InvalidArgumentError(
            f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}"
        )


def shape_text(array: np.ndarray) -> str:
    """An array's shape as TensorFlow's error texts show it."""
    return f"[{','.join(map(str, array.shape))}]"
