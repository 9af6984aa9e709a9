"""Limit of the number of connections."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Collection

from kseq_serving.rest.http_connections import HttpConnections
from kseq_serving.rest.plain_connections import Connections

_PAUSE_S = 0.1


class ConnectionLimit:
    """Limit of the number of connections, above which those end that have waited longest for their clients.

    Connections wait for a request, for the rest of one, or until a client has received its answer. Those with a
    request that is being answered stay.

    Args:
        limit: Largest number.
        plain: Connections with plain requests.
        others: Connections of aiohttp.
        between: Connections that go from the first to the second.
        loop: Event loop of aiohttp.
    """

    def __init__(
        self,
        limit: int,
        plain: Connections,
        others: HttpConnections,
        between: Collection[object],
        loop: asyncio.AbstractEventLoop,
    ):
        self._limit = limit
        self._plain, self._others, self._between = plain, others, between
        self._loop = loop
        self._is_planned = False
        self._is_delayed = False

    def make_room(self, least: int) -> None:
        """End the connections above the limit, or at least so many; usable from any thread."""
        # In the order in which connections change sides, so that each is counted once at least.
        if len(self._plain) + len(self._between) + self._others.count <= self._limit and not least:
            return
        if not self._is_planned:
            self._is_planned = True
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(self._end, least)

    def _end(self, least: int) -> None:
        self._is_planned = False
        others = self._others.open()
        excess = max(least, self._plain.kept + len(others) - self._limit)
        if excess > 0 or self._between:
            self._try_later()
        waiting = [connection for connection in others if not connection.is_answering]
        oldest = heapq.nsmallest(excess, waiting, key=lambda connection: connection.since)[::-1]
        for _ in range(excess):
            plain_since = self._plain.waiting_since()
            if oldest and (plain_since is None or oldest[-1].since < plain_since):
                oldest.pop().abort()
            elif plain_since is not None:
                self._plain.end_oldest()

    def _try_later(self) -> None:
        """Look again soon: connections that could not end, because they changed sides or were answered, may now."""
        if not self._is_delayed:
            self._is_delayed = True
            self._loop.call_later(_PAUSE_S, self._try_again)

    def _try_again(self) -> None:
        self._is_delayed = False
        self.make_room(0)
