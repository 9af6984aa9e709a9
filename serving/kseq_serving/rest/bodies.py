"""Bodies of requests: how they are received, in how many bytes and in what time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import cast

from aiohttp import web

from kseq_serving.budget import Budget, Share
from kseq_serving.errors import Code, ServingError
from kseq_serving.rest.http_connections import HttpConnection
from kseq_serving.rest.json_lanes import check_size

BODY_TIMEOUT_S = 30.0  # longest time between two pieces of a body
MIN_RATE = 2**20  # bytes per second that a body must have after its first BODY_TIMEOUT_S


class Bodies:
    """Bodies of the requests that are not answered, whose bytes have a limit.

    Above the limit, the largest body that is not whole ends for the sake of a smaller one. Otherwise a client could
    take the place of all others, with bodies whose ends do not come.

    Args:
        budget: Budget for their bytes.
    """

    def __init__(self, budget: Budget):
        self._budget = budget
        self._lock = threading.Lock()
        self._unfinished: dict[Share, Callable[[], object]] = {}  # functions that end them; guarded by _lock

    def share(self) -> Share:
        """Return the share of a new request."""
        return Share(self._budget)

    async def read(self, request: web.BaseRequest, share: Share) -> bytes:
        """Receive a body; its bytes count until the share is released.

        Raises:
            ServingError: If the body is too large, alone or with the others.
            TimeoutError: If it takes too long.
        """
        check_size(request.content_length or 0)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # the interim response does not count as part of the response
        if request.content.at_eof():
            return b""
        body = None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S) as patience:
                with self._lock:
                    self._unfinished[share] = lambda: loop.call_soon_threadsafe(_expire, patience)
                body = await self._receive(request, share, patience)
        except TimeoutError:
            body = None
        finally:
            with self._lock:
                is_kept = self._unfinished.pop(share, None) is not None
        if not is_kept:
            raise _given_up()
        if body is None:
            raise TimeoutError
        return body

    async def _receive(self, request: web.BaseRequest, share: Share, patience: asyncio.Timeout) -> bytes:
        content, connection = request.content, cast(HttpConnection, request.protocol)
        began = connection.since = time.monotonic()
        body = bytearray()
        while not content.at_eof():
            chunk = await content.readany()
            check_size(len(body) + len(chunk))
            if share not in self._unfinished:
                raise _given_up()
            self.take(share, len(chunk))
            body += chunk
            now = time.monotonic()
            # As if the client had begun to wait only after the bytes that it has sent, at the lowest rate.
            connection.since = min(now, began + len(body) / MIN_RATE)
            patience.reschedule(asyncio.get_running_loop().time() + BODY_TIMEOUT_S - (now - connection.since))
        return bytes(body)

    def take(self, share: Share, size: int) -> None:
        """Count more bytes of a request; usable from any thread.

        Raises:
            ServingError: If the bodies are too large together, or the share was released.
        """
        while True:
            try:
                share.take(size)
                return
            except ServingError as error:
                if error.code is not Code.RESOURCE_EXHAUSTED or not self._end_largest(share.size + size):
                    raise

    def _end_largest(self, size: int) -> bool:
        """End the largest body that is not whole, and return whether there was one of more than `size` bytes."""
        with self._lock:
            largest = max(self._unfinished, key=lambda share: share.size, default=None)
            if largest is None or largest.size <= size:
                return False
            end = self._unfinished.pop(largest)
        largest.release()
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            end()
        return True


def _expire(patience: asyncio.Timeout) -> None:
    with contextlib.suppress(RuntimeError):  # it ends already
        patience.reschedule(asyncio.get_running_loop().time())


def _given_up() -> ServingError:
    return ServingError(
        Code.RESOURCE_EXHAUSTED,
        "Too many bytes of requests wait, and this body was the largest that was not whole. Try again later.",
    )
