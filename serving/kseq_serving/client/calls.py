"""Calls of a server, free of input and output: what each one sends, and how its answer is read.

`grpc_calls` and `rest_calls` build the calls of either protocol. `grpc_transport` and `rest_transport` send them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from kseq_serving.client.examples import Example
from kseq_serving.client.kinds import check_examples, check_text
from kseq_serving.client.model_info import ModelMetadata, ModelSpec, Signature, VersionStatus
from kseq_serving.client.retry import Deadline

Result = TypeVar("Result")

Classes = list[list[tuple[str, float]]]
"""Labels and scores of each example."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Arguments of a predict call.

    Attributes:
        spec: Model and version to ask.
        signature_name: Signature to run.
        output_filter: Names of the outputs to return; empty for all.

    Raises:
        TypeError: If `signature_name` is not a str.
    """

    spec: ModelSpec
    signature_name: str
    output_filter: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_text("signature_name", self.signature_name)


@dataclasses.dataclass(frozen=True)
class Examples:
    """Arguments of a classify or regress call.

    Attributes:
        spec: Model and version to ask.
        signature_name: Signature to run.
        examples: The examples, features by name.
        context: Features that all examples share; None for none.

    Raises:
        TypeError: If an attribute has another type.
    """

    spec: ModelSpec
    signature_name: str
    examples: Sequence[Example]
    context: Example | None = None

    def __post_init__(self) -> None:
        check_text("signature_name", self.signature_name)
        check_examples(self.examples, self.context)


@dataclasses.dataclass(frozen=True)
class Call(Generic[Result]):
    """One call that is ready to be sent.

    Attributes:
        request: Request in the form that the protocol's transport sends.
        read: Function from the protocol's answer to the result; raises `CallError` if it cannot be read.
    """

    request: Any
    read: Callable[[Any], Result]


class Calls(Protocol):
    """Builder of one protocol's calls.

    Every method raises `ValueError` if the protocol cannot express its arguments, and `CallError` if the server is
    known to refuse them.
    """

    def predict(
        self, prediction: Prediction, arrays: Mapping[str, np.ndarray], signature: Signature | None, /
    ) -> Call[dict[str, np.ndarray]]:
        """Build a call that returns the outputs; strings are object arrays of bytes."""
        ...

    def classify(self, asked: Examples) -> Call[Classes]:
        """Build a call that returns the classes of each example."""
        ...

    def regress(self, asked: Examples) -> Call[np.ndarray]:
        """Build a call that returns one float32 number for each example."""
        ...

    def metadata(self, spec: ModelSpec) -> Call[ModelMetadata]:
        """Build a call that returns the signatures of a version."""
        ...

    def status(self, spec: ModelSpec) -> Call[list[VersionStatus]]:
        """Build a call that returns the states of a model's versions."""
        ...

    def reload(self, config: Any, /) -> Call[None]:
        """Build a call that moves the server to another ModelServerConfig."""
        ...


class Transport(Protocol):
    """Connection to a server that sends the calls of one protocol."""

    @property
    def calls(self) -> Calls:
        """Builder of the calls that this transport sends."""
        ...

    async def send(self, call: Call[Result], deadline: Deadline, /) -> Result:
        """Send a call once and return its result.

        Raises:
            CallError: If the server refused the call, did not answer, or sent an answer that cannot be read.
        """
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...
