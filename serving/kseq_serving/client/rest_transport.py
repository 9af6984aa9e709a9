"""Connections that send calls over REST."""

from __future__ import annotations

import ssl

import aiohttp
import yarl

from kseq_serving.client.address import Address, TlsOptions
from kseq_serving.client.call_error import CallError
from kseq_serving.client.calls import Call, Result
from kseq_serving.client.rest_calls import RestCalls, RestRequest
from kseq_serving.client.retry import Deadline
from kseq_serving.errors import Code

_HEADERS = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",  # so that max_message_bytes bounds the memory
}


class RestTransport:
    """Persistent HTTP connections; they belong to the event loop in which the first call is made.

    Args:
        address: Address of the server.
        tls: TLS options, used if the address asks for TLS.
        max_message_bytes: Size of the largest answer.
    """

    def __init__(self, address: Address, tls: TlsOptions, max_message_bytes: int):
        self._address = address
        self._max_message_bytes = max_message_bytes
        self.calls = RestCalls(address.text)
        self._server_name = tls.server_name if address.is_secure else None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_context(tls) if address.is_secure else True, limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(),  # the call's deadline is the only one
        )

    async def send(self, call: Call[Result], _deadline: Deadline, /) -> Result:
        """Send a call once and return its result. HTTP carries no deadline: `retry.call` cancels a late call."""
        request: RestRequest = call.request
        url = yarl.URL(f"{self._address.target}{request.path}", encoded=True)
        try:
            async with self._session.request(
                request.method, url, data=request.body, allow_redirects=False, server_hostname=self._server_name
            ) as response:
                text = (await self._read(response)).decode("utf-8", "surrogateescape")
        except aiohttp.ClientError as error:
            # Refused, broken, or ended before the answer was complete.
            raise CallError(Code.UNAVAILABLE, str(error) or type(error).__name__, self._address.text) from error
        return call.read(self.calls.parse(response.status, text))

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        chunks, size = [], 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_message_bytes:
                message = f"the answer is larger than max_message_bytes={self._max_message_bytes}"
                raise CallError(Code.RESOURCE_EXHAUSTED, message, self._address.text, response.status)
        return b"".join(chunks)


def _context(tls: TlsOptions) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.certificate_file and tls.key_file:
        context.load_cert_chain(tls.certificate_file, tls.key_file)
    return context
