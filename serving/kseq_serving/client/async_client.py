"""Client for programs that run on an event loop."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import Message

from kseq_serving.client import arrays, messages, retry
from kseq_serving.client.address import Address, TlsOptions
from kseq_serving.client.call_error import CallError
from kseq_serving.client.calls import Call, Calls, Classes, Examples, Prediction, Result, Transport
from kseq_serving.client.examples import Example
from kseq_serving.client.grpc_transport import GrpcTransport
from kseq_serving.client.kinds import check_inputs, check_text, texts
from kseq_serving.client.model_info import AVAILABLE, ModelMetadata, ModelSpec, VersionStatus
from kseq_serving.client.rest_transport import RestTransport
from kseq_serving.client.retry import NO_RETRIES, Deadline, RetryPolicy
from kseq_serving.errors import Code

DEFAULT_SIGNATURE = "serving_default"
DEFAULT_TIMEOUT_S = 60.0
MAX_MESSAGE_BYTES = 512 * 2**20  # the largest body that kseq-serve accepts over REST
POLL_S = 0.1
PROBE_TIMEOUT_S = 5.0

_NOT_READY = frozenset((Code.UNAVAILABLE, Code.NOT_FOUND, Code.DEADLINE_EXCEEDED))
# Codes of the server or this client for a request that does not fit the model's present signature.
_DOES_NOT_FIT = frozenset((Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.DATA_LOSS))


class AsyncKseqClient:
    """`KseqClient` with methods to await; it belongs to the event loop of its first call.

    Args:
        address: Address of the server, in the forms that `KseqClient` takes.
        tls: Authorities and certificates for `grpcs` and `https`; None for the system's.
        retry: Which calls are tried again, and when; None for `RetryPolicy()`.
        max_message_bytes: Size of the largest answer, and over gRPC of the largest request.

    Raises:
        ValueError: If the address has no known form, or does not use `tls`.

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
        """Close the connections for good. Calls in progress end with an error and are not tried again."""
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
        """Run a signature of a model.

        Args:
            model: Name of the model.
            inputs: Array-likes by the names of the signature's inputs, with the batch where the model expects it.
                Numbers are cast to the signature's dtypes if that loses nothing but precision. Strings are str or
                bytes.
            version: Version to ask; None for the newest.
            label: Label of the version to ask, instead of its number.
            signature_name: Signature to run.
            output_filter: Names of the outputs to return; empty for all.
            timeout_s: Longest time that the call may take, in seconds.

        Returns:
            Arrays by the names of the signature's outputs. Strings are object arrays of str, in which bytes that are
            not UTF-8 are surrogate escapes (`text.encode("utf-8", "surrogateescape")` restores them). An output whose
            name ends in `_bytes` holds no text: its strings are bytes.

        Raises:
            CallError: If the server refused, or did not answer in time.
            ValueError: If an input is ragged, or its dtype or number of axes does not fit the signature's.
            TypeError: If an argument has another type, such as a list as `inputs`.
        """
        prediction = Prediction(ModelSpec(model, version, label), signature_name, texts("output_filter", output_filter))
        check_inputs(inputs)
        outputs = await self._retry(lambda deadline: self._predict(prediction, inputs, deadline), timeout_s)
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
        """Run a signature that classifies `tf.train.Example`.

        Args:
            model: Name of the model.
            examples: Features by name; each is a str, bytes, int or float, or a list of one of these.
            context: Features that all examples share.
            version: Version to ask; None for the newest.
            label: Label of the version to ask, instead of its number.
            signature_name: Signature to run.
            timeout_s: Longest time that the call may take, in seconds.

        Returns:
            For each example its classes, `(label, score)`.

        Raises:
            CallError: If the server refused, or did not answer in time.
            ValueError: If a feature has another type.
            TypeError: If an argument has another type, such as a single dict as `examples`.
        """
        asked = Examples(ModelSpec(model, version, label), signature_name, examples, context)
        return await self._ask(lambda calls: calls.classify(asked), timeout_s)

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
        """Run a signature that maps each `tf.train.Example` to a number; takes the arguments of `classify`.

        Returns:
            float32, `(examples,)`.

        Raises:
            CallError: If the server refused, or did not answer in time.
            ValueError: If a feature has another type.
            TypeError: If an argument has another type, such as a single dict as `examples`.
        """
        asked = Examples(ModelSpec(model, version, label), signature_name, examples, context)
        return await self._ask(lambda calls: calls.regress(asked), timeout_s)

    async def metadata(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> ModelMetadata:
        """Return the signatures of a version, with the names, dtypes and shapes of their inputs and outputs.

        Raises:
            CallError: If there is no such version, or no answer in time.
        """
        spec = ModelSpec(model, version, label)
        return await self._ask(lambda calls: calls.metadata(spec), timeout_s)

    async def status(
        self, model: str, *, version: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> list[VersionStatus]:
        """Return the states of a model's versions, or of the given one.

        Raises:
            CallError: If the server never knew the model or version, or did not answer in time.
        """
        spec = ModelSpec(model, version)
        return await self._ask(lambda calls: calls.status(spec), timeout_s)

    async def reload(self, config: str | Message, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        """Move the server to another configuration, and return when its new models are available. gRPC only.

        Args:
            config: A ModelServerConfig, or its text, as in a `--model_config_file`.
            timeout_s: Longest time that the call may take, in seconds.

        Raises:
            CallError: If the server refused the configuration; UNIMPLEMENTED over REST, which has no such call.
            ValueError: If the text is not a ModelServerConfig.
            TypeError: If `config` is neither a text nor a message.
        """
        own = messages.ModelServerConfig()
        if isinstance(config, Message):
            own.ParseFromString(config.SerializeToString())
        else:
            check_text("The configuration, if it is no ModelServerConfig,", config)
            try:
                text_format.Parse(config, own)
            except text_format.ParseError as error:
                raise ValueError(f"The configuration is not a ModelServerConfig in text format: {error}") from error
        await self._ask(lambda calls: calls.reload(own), timeout_s)

    async def is_ready(self, model: str, *, version: int | None = None, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
        """Ask once whether the version answers requests now; without `version`, whether any does.

        Raises:
            CallError: If the server refused to tell.
        """
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
        """Wait until `is_ready`; the server itself may start meanwhile.

        Raises:
            CallError: DEADLINE_EXCEEDED, with the server's last answer.
        """
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
                if seen is None or remaining_s > POLL_S:  # the last attempt is too short for an answer
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

    async def _send(self, build: Callable[[Calls], Call[Result]], deadline: Deadline) -> Result:
        """Build a call and send it once."""
        transport = self._transport
        return await transport.send(build(transport.calls), deadline)

    async def _ask(
        self, build: Callable[[Calls], Call[Result]], timeout_s: float, policy: RetryPolicy | None = None
    ) -> Result:
        """Send a call as often as the policy says; None for the client's own policy."""
        return await self._retry(lambda deadline: self._send(build, deadline), timeout_s, policy)

    async def _retry(
        self, attempt: retry.Attempt[Result], timeout_s: float, policy: RetryPolicy | None = None
    ) -> Result:
        return await retry.call(attempt, policy=policy or self._policy, timeout_s=timeout_s, address=self._address.text)

    async def _probe(self, model: str, version: int | None, timeout_s: float) -> list[VersionStatus]:
        spec = ModelSpec(model, version)
        return await self._ask(lambda calls: calls.status(spec), timeout_s, NO_RETRIES)

    async def _predict(
        self, prediction: Prediction, inputs: Mapping[str, Any], deadline: Deadline
    ) -> dict[str, np.ndarray]:
        """Send a prediction once; a second time if the request failed because a new version changed the signature."""
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
        sent = arrays.to_arrays(inputs, signature)
        return await self._send(lambda calls: calls.predict(prediction, sent, signature), deadline)

    async def _fetch(self, spec: ModelSpec, stale: ModelMetadata | None, deadline: Deadline) -> ModelMetadata:
        """Return the metadata of a version; of several calls that want them at once, one fetches them."""
        async with self._fetching[spec]:
            found = self._metadata.get(spec)
            if found is None or found is stale:
                found = self._metadata[spec] = await self._send(lambda calls: calls.metadata(spec), deadline)
            return found


def _is_available(statuses: Sequence[VersionStatus]) -> bool:
    return any(status.state == AVAILABLE for status in statuses)
