"""What a client asks of a protocol: each call once, in terms that are the same for both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from kseq_serving.client.answers import ModelMetadata, ModelSpec, Signature, VersionStatus
from kseq_serving.client.examples import Example
from kseq_serving.client.retry import Deadline

Classes = list[list[tuple[str, float]]]
"""Labels and scores of each example."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A predict call.

    Attributes:
        spec: the version that is asked.
        signature_name: its function.
        output_filter: the outputs that are wanted; empty for all.
    """

    spec: ModelSpec
    signature_name: str
    output_filter: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Examples:
    """A classify or regress call.

    Attributes:
        spec: the version that is asked.
        signature_name: its function.
        examples: what is classified.
        context: features that all examples share; None for none.
    """

    spec: ModelSpec
    signature_name: str
    examples: Sequence[Example]
    context: Example | None = None


class Transport(Protocol):
    """A protocol and a connection that is kept; every method raises ``CallError``."""

    async def predict(
        self,
        prediction: Prediction,
        arrays: Mapping[str, np.ndarray],
        signature: Signature | None,
        deadline: Deadline,
    ) -> dict[str, np.ndarray]:
        """The outputs; strings as objects, bytes."""
        ...

    async def classify(self, asked: Examples, deadline: Deadline) -> Classes:
        """The classes of each example."""
        ...

    async def regress(self, asked: Examples, deadline: Deadline) -> np.ndarray:
        """One number for each example, float32."""
        ...

    async def metadata(self, spec: ModelSpec, deadline: Deadline) -> ModelMetadata:
        """The signatures of a version."""
        ...

    async def status(self, spec: ModelSpec, deadline: Deadline) -> list[VersionStatus]:
        """The states of a model's versions."""
        ...

    async def reload(self, config: Any, deadline: Deadline) -> None:
        """Moves the server to another ModelServerConfig."""
        ...

    async def close(self) -> None:
        """Closes the connection."""
        ...
