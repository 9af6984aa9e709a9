"""The client for programs that run on an event loop."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import Message

from kseq_serving.client import arrays, messages, retry
from kseq_serving.client.address import Address, TlsOptions
from kseq_serving.client.answers import AVAILABLE, ModelMetadata, ModelSpec, VersionStatus
from kseq_serving.client.call_error import CallError
from kseq_serving.client.examples import Example
from kseq_serving.client.grpc_transport import GrpcTransport
from kseq_serving.client.rest_transport import RestTransport
from kseq_serving.client.retry import NO_RETRIES, Deadline, RetryPolicy
from kseq_serving.client.transport import Classes, Examples, Prediction, Transport
from kseq_serving.errors import Code

Answer = TypeVar("Answer")

DEFAULT_SIGNATURE = "serving_default"
DEFAULT_TIMEOUT_S = 60.0
MAX_MESSAGE_BYTES = 512 * 2**20  # what kseq-serve takes over REST
POLL_S = 0.1
PROBE_TIMEOUT_S = 5.0

_NOT_READY = frozenset((Code.UNAVAILABLE, Code.NOT_FOUND, Code.DEADLINE_EXCEEDED))
# What a server or this client says when a signature is not what it was.
_DOES_NOT_FIT = frozenset((Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.DATA_LOSS))


class AsyncKseqClient:
    """``KseqClient`` with methods to await; it belongs to the event loop of its first call.

    Args:
        address: as ``KseqClient``'s, and so are the others.
        tls: for ``grpcs`` and ``https``.
        retry: what is tried again, and when.
        max_message_bytes: the largest answer, and over gRPC the largest request.

    Example:
        >>> async with AsyncKseqClient("grpc://127.0.0.1:8500") as client:
        ...     asked = [client.predict("dates", {"text": [text]}) for text in texts]
        ...     answers = await asyncio.gather(*asked)
    """

    def __init__(
        self,
        address: str,
        *,
        tls: TlsOptions | None = None,
        retry: RetryPolicy | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ):
        self._address = Address.parse(address)
        if tls and not self._address.is_secure:
            raise ValueError(f"TlsOptions are for grpcs:// and https://, and {address} would not use them.")
        self._tls = tls or TlsOptions()
        self._policy = retry or RetryPolicy()
        self._max_message_bytes = max_message_bytes
        self._opened: Transport | None = None
        self._closed = False
        self._metadata: dict[ModelSpec, ModelMetadata] = {}
        self._fetching: collections.defaultdict[ModelSpec, asyncio.Lock] = collections.defaultdict(asyncio.Lock)

    async def __aenter__(self) -> AsyncKseqClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections for good; what is under way ends with an error, and tries nothing again."""
        self._closed = True
        if self._opened:
            opened, self._opened = self._opened, None
            await opened.close()

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = DEFAULT_SIGNATURE,
        output_filter: Sequence[str] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> dict[str, np.ndarray]:
        """``KseqClient.predict``."""
        prediction = Prediction(ModelSpec(model, version, label), signature_name, tuple(output_filter))
        outputs = await self._call(lambda deadline: self._predict(prediction, inputs, deadline), timeout_s)
        return {name: arrays.to_readable(name, array) for name, array in outputs.items()}

    async def classify(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = DEFAULT_SIGNATURE,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Classes:
        """``KseqClient.classify``."""
        asked = Examples(ModelSpec(model, version, label), signature_name, examples, context)
        return await self._call(lambda deadline: self._transport.classify(asked, deadline), timeout_s)

    async def regress(
        self,
        model: str,
        examples: Sequence[Example],
        *,
        context: Example | None = None,
        version: int | None = None,
        label: str | None = None,
        signature_name: str = DEFAULT_SIGNATURE,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> np.ndarray:
        """``KseqClient.regress``."""
        asked = Examples(ModelSpec(model, version, label), signature_name, examples, context)
        return await self._call(lambda deadline: self._transport.regress(asked, deadline), timeout_s)

    async def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> ModelMetadata:
        """``KseqClient.metadata``."""
        spec = ModelSpec(model, version, label)
        return await self._call(lambda deadline: self._transport.metadata(spec, deadline), timeout_s)

    async def status(
        self, model: str, *, version: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> list[VersionStatus]:
        """``KseqClient.status``."""
        spec = ModelSpec(model, version)
        return await self._call(lambda deadline: self._transport.status(spec, deadline), timeout_s)

    async def reload(self, config: str | Message, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """``KseqClient.reload``."""
        own = messages.ModelServerConfig()
        if isinstance(config, Message):
            own.ParseFromString(config.SerializeToString())
        else:
            try:
                text_format.Parse(config, own)
            except text_format.ParseError as error:
                raise ValueError(f"The configuration is no text of a ModelServerConfig: {error}") from error
        await self._call(lambda deadline: self._transport.reload(own, deadline), timeout_s)

    async def is_ready(self, model: str, *, version: int | None = None, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
        """``KseqClient.is_ready``."""
        try:
            statuses = await self._probe(model, version, timeout_s)
        except CallError as error:
            if error.code in _NOT_READY:
                return False
            raise
        return _is_available(statuses)

    async def wait_until_ready(
        self, model: str, *, version: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        """``KseqClient.wait_until_ready``."""
        deadline = Deadline(timeout_s)
        seen: object = None
        while remaining_s := deadline.remaining_s():
            try:
                seen = await self._probe(model, version, min(remaining_s, PROBE_TIMEOUT_S))
                if _is_available(seen):
                    return
            except CallError as error:
                if error.code not in _NOT_READY:
                    raise
                if seen is None or remaining_s > POLL_S:  # the last attempt has no time, which tells nothing
                    seen = f"{error.code.name}: {error.message}"
            await asyncio.sleep(min(POLL_S, deadline.remaining_s()))
        raise CallError(
            Code.DEADLINE_EXCEEDED, f"{model} is not ready after {timeout_s:g} s; at last: {seen}", self._address.text
        )

    @property
    def _transport(self) -> Transport:
        if self._closed:
            raise RuntimeError("This AsyncKseqClient is closed: make another one.")
        if not self._opened:
            kind = RestTransport if self._address.is_rest else GrpcTransport
            self._opened = kind(self._address, self._tls, self._max_message_bytes)
        return self._opened

    async def _call(self, attempt: Callable[[Deadline], Awaitable[Answer]], timeout_s: float) -> Answer:
        return await retry.call(attempt, policy=self._policy, timeout_s=timeout_s, address=self._address.text)

    async def _probe(self, model: str, version: int | None, timeout_s: float) -> list[VersionStatus]:
        spec = ModelSpec(model, version)
        return await retry.call(
            lambda deadline: self._transport.status(spec, deadline),
            policy=NO_RETRIES,
            timeout_s=timeout_s,
            address=self._address.text,
        )

    async def _predict(
        self, prediction: Prediction, inputs: Mapping[str, Any], deadline: Deadline
    ) -> dict[str, np.ndarray]:
        """Asks once; and once more where the signature that was known has changed since, with another version."""
        known = self._metadata.get(prediction.spec)
        try:
            return await self._run(
                prediction, inputs, known or await self._fetch(prediction.spec, None, deadline), deadline
            )
        except (CallError, ValueError) as error:
            if known is None or (isinstance(error, CallError) and error.code not in _DOES_NOT_FIT):
                raise
            fresh = await self._fetch(prediction.spec, known, deadline)
            if fresh.signatures == known.signatures:
                raise
        return await self._run(prediction, inputs, fresh, deadline)

    async def _run(
        self, prediction: Prediction, inputs: Mapping[str, Any], metadata: ModelMetadata, deadline: Deadline
    ) -> dict[str, np.ndarray]:
        signature = metadata.signatures.get(prediction.signature_name)
        return await self._transport.predict(prediction, arrays.to_arrays(inputs, signature), signature, deadline)

    async def _fetch(self, spec: ModelSpec, stale: ModelMetadata | None, deadline: Deadline) -> ModelMetadata:
        """The metadata of a version, fetched by one of the calls that want them at the same time."""
        async with self._fetching[spec]:
            found = self._metadata.get(spec)
            if found is None or found is stale:
                found = self._metadata[spec] = await self._transport.metadata(spec, deadline)
            return found


def _is_available(statuses: Sequence[VersionStatus]) -> bool:
    return any(status.state == AVAILABLE for status in statuses)
