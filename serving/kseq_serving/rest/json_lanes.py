"""Lanes in which large and compressed bodies are read ahead, so that they hold up nobody but those of their size."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from typing import TypeVar

from kseq_serving import compression
from kseq_serving.errors import Code, ServingError
from kseq_serving.rest.api import HttpRequest, RestApi
from kseq_serving.rest.json_processes import JsonProcess, Parsing
from kseq_serving.workers import Workers

MAX_BODY_BYTES = 512 * 2**20
LARGE_BYTES = 1 << 17  # Python's scanner holds the lock for about ten milliseconds then
HUGE_BYTES = 1 << 23
MAX_WAITING = 512  # bodies of each lane that wait
# For each lane, the largest body and the longest time to parse it; a processor needs less than a second for each MiB.
LANES = ((1 << 20, 10.0), (HUGE_BYTES, 20.0), (MAX_BODY_BYTES, 120.0))

_Result = TypeVar("_Result")


class TooLargeError(ServingError):
    """Error for a body that exceeds the limit."""


class JsonLanes:
    """Lanes by the sizes of bodies.

    Args:
        api: REST API that the requests are for.
    """

    def __init__(self, api: RestApi):
        self._api = api
        self._lanes = [_Lane(most, timeout_s) for most, timeout_s in LANES]

    async def read_ahead(
        self, request: HttpRequest, *, is_gzip: bool, client: object, take: Callable[[int], None]
    ) -> HttpRequest:
        """Return a request whose body is decompressed and, if it is large then, parsed.

        Args:
            request: The request.
            is_gzip: Whether the body is compressed.
            client: Client, with whom others take turns.
            take: Function that is called with the size of what is decompressed; it raises an error to refuse the body.

        Raises:
            ServingError: If too many bodies wait, or the body is refused because of its size.
        """
        if is_gzip and len(request.body) <= HUGE_BYTES:
            # What comes out is seldom huge, and should not wait for huge bodies.
            with contextlib.suppress(TooLargeError):
                plain = await self._lanes[0].run(lambda _: decompress(request.body, lambda _: None, HUGE_BYTES), client)
                take(len(plain))
                request, is_gzip = dataclasses.replace(request, body=plain), False
        if not is_gzip and len(request.body) <= LARGE_BYTES:
            return request
        lane = self._lanes[-1] if is_gzip else next(lane for lane in self._lanes if len(request.body) <= lane.most)

        def work(parsing: Parsing) -> HttpRequest:
            whole = dataclasses.replace(request, body=decompress(request.body, take)) if is_gzip else request
            return self._api.parse_ahead(whole, lane.process, parsing)

        return await lane.run(work, client)

    def stop(self) -> None:
        """End the threads and the processes."""
        for lane in self._lanes:
            lane.stop()


class _Lane:
    """Thread and process that read bodies of at most so many bytes, one at a time."""

    def __init__(self, most: int, timeout_s: float):
        self.most = most
        self.workers = Workers(1, name=f"json-{most}", max_waiting=MAX_WAITING)
        self.process = JsonProcess(timeout_s)

    async def run(self, work: Callable[[Parsing], _Result], client: object) -> _Result:
        """Do work when it is its client's turn; it ends if the client goes."""
        parsing = Parsing()
        try:
            return await self.workers.run(lambda: work(parsing), client=client)
        except asyncio.CancelledError:
            parsing.cancel()
            raise

    def stop(self) -> None:
        self.workers.stop()
        self.process.stop()


def decompress(body: bytes, take: Callable[[int], None], most: int = MAX_BODY_BYTES) -> bytes:
    """Decompress a gzip body; return an empty one if it is broken, which is then refused as JSON.

    Args:
        body: Compressed body.
        take: Function that is called with the size of each piece; it raises an error to refuse the body.
        most: Largest size that may come out.

    Raises:
        ServingError: If the body is larger than `most` when decompressed, or `take` refuses a piece.
    """
    size = 0

    def take_within_limit(piece: int) -> None:
        nonlocal size
        size += piece
        check_size(size, most)
        take(piece)

    return compression.gunzip(body, take_within_limit) or b""


def check_size(size: int, most: int = MAX_BODY_BYTES) -> None:
    """Refuse a body of more than `most` bytes.

    Raises:
        TooLargeError: If it is larger.
    """
    if size > most:
        raise TooLargeError(Code.RESOURCE_EXHAUSTED, f"The body is larger than {most} bytes.")
