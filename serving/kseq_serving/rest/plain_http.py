"""Plain HTTP requests and their responses, as bytes.

A plain request is a POST to a model with the headers that clients usually send, none of which changes how the request
is received or answered. The response is, byte by byte, that of aiohttp, which serves all other requests.
"""

from __future__ import annotations

import email.utils
import functools
import http
import re
import time
from typing import NamedTuple

from aiohttp.http import SERVER_SOFTWARE

from kseq_serving.rest.api import HttpRequest, HttpResponse

MAX_HEAD_BYTES = 4096

_REQUEST_LINE = re.compile(
    rb"POST (/v1/models/[\w.\-]{1,256}(?:/versions/[1-9][0-9]{0,17}|/labels/[\w.\-]{1,256})?"
    rb":(?:predict|classify|regress)) HTTP/1\.1\r\n"
)
_HEADER = re.compile(rb"([A-Za-z][A-Za-z0-9\-]*): ([!-~](?:[ -~]*[!-~])?)?\r\n")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,8}")
_HARMLESS = frozenset(
    (
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"authorization",
        b"cache-control",
        b"content-type",
        b"traceparent",
        b"tracestate",
        b"user-agent",
    )
)
_END = b"\r\n\r\n"


class Head(NamedTuple):
    """Head of a plain request.

    Attributes:
        text: All bytes of the head.
        path: Request target.
        host: Host header.
        length: Number of bytes of the body.
    """

    text: bytes
    path: str
    host: str
    length: int

    @property
    def size(self) -> int:
        """Number of bytes of the whole request."""
        return len(self.text) + self.length

    def request(self, data: bytes) -> HttpRequest:
        """Return the request, whose bytes are `data`."""
        return HttpRequest("POST", self.path, data[len(self.text) :], "", (self.host,))


def read_head(data: bytes) -> Head | None:
    """Return the head that a request begins with; None if it is not whole, or the request is not plain."""
    end = data.find(_END, 0, MAX_HEAD_BYTES)
    first = _REQUEST_LINE.match(data) if end >= 0 else None
    if not first:
        return None
    end += len(_END)
    single: dict[bytes, bytes] = {}
    at = first.end()
    while at < end - 2:
        found = _HEADER.match(data, at)
        if not found:
            return None
        at = found.end()
        name, value = found[1].lower(), found[2] or b""
        if name in (b"host", b"content-length") and name not in single:
            single[name] = value
        elif not (name in _HARMLESS or name.startswith(b"x-") or (name == b"connection" and value == b"keep-alive")):
            return None
    host, length = single.get(b"host"), single.get(b"content-length", b"")
    if not host or not _LENGTH.fullmatch(length):
        return None
    return Head(data[:end], first[1].decode(), host.decode(), int(length))


def write(response: HttpResponse) -> bytes:
    """Return the bytes of a response on a connection that stays open."""
    head = _head(response.status, tuple(response.headers.items()))
    length = b"Content-Length: %d\r\n" % len(response.body)
    return head + length + _date_and_server(int(time.time())) + response.body


_STATUS = {status.value: f"{status.value} {status.phrase}" for status in http.HTTPStatus}


@functools.lru_cache
def _head(status: int, headers: tuple[tuple[str, str], ...]) -> bytes:
    given = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {_STATUS[status]}\r\n{given}".encode()


@functools.lru_cache(maxsize=1)
def _date_and_server(seconds: int) -> bytes:
    date = email.utils.formatdate(seconds, usegmt=True)
    return f"Date: {date}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n".encode()
