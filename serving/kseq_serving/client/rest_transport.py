"""The calls over REST."""

from __future__ import annotations

import json
import ssl
import urllib.parse
from collections.abc import Mapping
from typing import Any, NoReturn

import aiohttp
import numpy as np
import yarl
from google.protobuf import json_format

from kseq_serving.client import answers, examples, json_arrays, messages
from kseq_serving.client.address import Address, TlsOptions
from kseq_serving.client.answers import ModelMetadata, ModelSpec, Signature, VersionStatus
from kseq_serving.client.call_error import CallError
from kseq_serving.client.retry import Deadline
from kseq_serving.client.transport import Classes, Examples, Prediction
from kseq_serving.errors import Code, ServingError
from kseq_serving.protocol import output_filter

_HEADERS = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",  # so that max_message_bytes bounds the memory
}
_SHOWN = 500  # characters of an answer that is none, in the error


class RestTransport:
    """Kept-alive HTTP connections; they belong to the event loop in which the first call is made.

    Args:
        address: where the server is.
        tls: how to speak TLS, where the address asks for it.
        max_message_bytes: the largest answer.
    """

    def __init__(self, address: Address, tls: TlsOptions, max_message_bytes: int):
        self._address = address
        self._max_message_bytes = max_message_bytes
        self._server_name = tls.server_name if address.is_secure else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_context(tls) if address.is_secure else True, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(),  # the call's deadline is the only one
        )

    async def predict(
        self,
        prediction: Prediction,
        arrays: Mapping[str, np.ndarray],
        signature: Signature | None,
        deadline: Deadline,
    ) -> dict[str, np.ndarray]:
        """The outputs; strings as objects, bytes. The signature tells what the answer leaves out: dtypes and names."""
        wanted = self._wanted(prediction, signature)
        inputs = {name: json_arrays.write(array) for name, array in arrays.items()}
        document = {"signature_name": prediction.signature_name, "inputs": inputs}
        answer = await self._post(prediction.spec, "predict", document)
        if signature is None:
            self._refuse(answer, f"the model had no signature {prediction.signature_name!r} a moment ago")
        try:
            outputs = json_arrays.read_outputs(answer["outputs"], signature.outputs)
        except (KeyError, TypeError, ValueError) as error:
            self._refuse(answer, error)
        return {name: outputs[name] for name in wanted}

    async def classify(self, asked: Examples, deadline: Deadline) -> Classes:
        """The classes of each example."""
        results = await self._results(asked, "classify")
        return [[(label, float(np.float32(score))) for label, score in row] for row in results]

    async def regress(self, asked: Examples, deadline: Deadline) -> np.ndarray:
        """One number for each example, float32."""
        return np.array(await self._results(asked, "regress"), np.float32)

    async def metadata(self, spec: ModelSpec, deadline: Deadline) -> ModelMetadata:
        """The signatures of a version."""
        answer = await self._ask("GET", f"{_path(spec)}/metadata")
        try:
            found = answer["model_spec"]
            signatures = self._message(answer["metadata"]["signature_def"], messages.SignatureDefMap())
            return ModelMetadata(found["name"], int(found["version"]), answers.read_signatures(signatures))
        except (KeyError, TypeError, ValueError) as error:
            self._refuse(answer, error)

    async def status(self, spec: ModelSpec, deadline: Deadline) -> list[VersionStatus]:
        """The states of a model's versions."""
        answer = await self._ask("GET", _path(spec))
        return answers.read_statuses(self._message(answer, messages.GetModelStatusResponse()))

    async def reload(self, config: Any, deadline: Deadline) -> NoReturn:
        """TensorFlow Serving has no such call over REST."""
        raise CallError(
            Code.UNIMPLEMENTED, "REST has no call to reload a configuration: ask the gRPC port", self._address.text
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    def _wanted(self, prediction: Prediction, signature: Signature | None) -> list[str]:
        """The outputs to give: REST has no filter, so all come and some are left out here."""
        try:
            return output_filter.choose(signature.outputs, prediction.output_filter) if signature else []
        except ServingError as error:
            raise CallError(error.code, error.message, self._address.text) from None

    async def _results(self, asked: Examples, verb: str) -> list[Any]:
        document = {"signature_name": asked.signature_name} | examples.to_json(asked.examples, asked.context)
        answer = await self._post(asked.spec, verb, document)
        return answer["results"] if "results" in answer else self._refuse(answer, "expected 'results'")

    async def _post(self, spec: ModelSpec, verb: str, document: dict[str, Any]) -> dict[str, Any]:
        return await self._ask("POST", f"{_path(spec)}:{verb}", json.dumps(document).encode())

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        """The JSON object that is answered; the deadline is the caller's."""
        url = yarl.URL(f"{self._address.target}{path}", encoded=True)
        try:
            async with self._session.request(
                method, url, data=body, allow_redirects=False, server_hostname=self._server_name
            ) as response:
                text = (await self._read(response)).decode("utf-8", "surrogateescape")
        except aiohttp.ClientError as error:
            # Refused, broken, or ended before the answer was complete.
            raise CallError(Code.UNAVAILABLE, str(error) or type(error).__name__, self._address.text) from error
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if response.status != 200:
            message = answer.get("error") if isinstance(answer, dict) else None
            code = Code.from_http_status(response.status)
            raise CallError(code, message or text[:_SHOWN], self._address.text, response.status)
        return answer if isinstance(answer, dict) else self._refuse(text, "expected a JSON object")

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks, size = [], 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_message_bytes:
                message = f"the answer is larger than max_message_bytes={self._max_message_bytes}"
                raise CallError(Code.RESOURCE_EXHAUSTED, message, self._address.text, response.status)
        return b"".join(chunks)

    def _message(self, document: Any, message: Any) -> Any:
        try:
            return json_format.ParseDict(document, message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            self._refuse(document, error)

    def _refuse(self, answer: Any, reason: object) -> NoReturn:
        """Raises for an answer that is not what TensorFlow Serving answers."""
        shown = answer if isinstance(answer, str) else json.dumps(answer)
        raise CallError(
            Code.DATA_LOSS, f"the answer cannot be read ({reason}): {shown[:_SHOWN]}", self._address.text, 200
        )


def _path(spec: ModelSpec) -> str:
    path = f"/v1/models/{urllib.parse.quote(spec.name, safe='')}"
    if spec.version is not None:
        return f"{path}/versions/{spec.version}"
    return f"{path}/labels/{urllib.parse.quote(spec.label, safe='')}" if spec.label is not None else path


def _context(tls: TlsOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.certificate_file and tls.key_file:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    return context
