"""Answers that clients have not received yet, whose bytes and whose time are limited."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import struct
import termios
import time
from typing import Protocol

from kseq_serving.budget import Budget
from kseq_serving.errors import ServingError

MAX_UNSENT_BYTES = 512 * 2**20  # of all answers that are being sent; a larger one is sent alone
SMALL_BYTES = 64 * 2**10  # longest answer that does not count; so many bytes for each connection do no harm
STALLED_S = 60.0  # longest time in which a client may receive nothing of its answer
MIN_RATE = 2**20  # bytes per second that a client must receive while too many bytes are unsent
SLOW_S = 1.0  # time in which every client may be slower
_LOOK_S = 0.5


class Receiver(Protocol):
    """Connection whose client receives an answer.

    Attributes:
        wire: Transport, until the connection is lost.
        since: Time since which the connection waits for its client.
    """

    wire: asyncio.Transport | None
    since: float

    def abort(self) -> None:
        """End the connection at once."""


@dataclasses.dataclass
class _Progress:
    """What the client of a connection has received.

    Attributes:
        began: Time at which the bytes were more than the system takes at once.
        first: Bytes that were left then.
        left: Bytes that are left.
        since: Time at which they were so many first.
    """

    began: float
    first: int
    left: int
    since: float

    def update(self, left: int, now: float) -> None:
        if left != self.left:
            self.left, self.since = left, now

    def is_slow(self, now: float) -> bool:
        received, seconds = self.first - self.left, now - self.began
        return now - self.since >= SLOW_S or (seconds >= SLOW_S and received < MIN_RATE * seconds)


class UnsentAnswers:
    """Answers of an event loop that clients have not received yet.

    A client that receives nothing for `STALLED_S` loses its connection. While all large answers have more bytes than
    `MAX_UNSENT_BYTES`, so does the slow client that has received nothing for longest, for each new answer.
    """

    def __init__(self) -> None:
        self._budget = Budget(MAX_UNSENT_BYTES, "The answers that clients have not received yet")
        self._sizes: dict[Receiver, int] = {}  # what each holds of the budget
        self._watched: dict[Receiver, _Progress] = {}
        self._is_looking = False

    @property
    def used(self) -> int:
        """Number of bytes of the large answers."""
        return self._budget.used

    def take(self, connection: Receiver, size: int) -> None:
        """Count an answer until `release`.

        Raises:
            ServingError: If all answers together are too large, and no client is slow.
        """
        if size <= SMALL_BYTES:
            return
        size = min(size, MAX_UNSENT_BYTES)
        while True:
            try:
                self._budget.take(size)
                break
            except ServingError:
                slowest = self._slowest()
                if slowest is None:
                    raise
                self._end(slowest)
        self._sizes[connection] = size

    def release(self, connection: Receiver) -> None:
        """Count the answer no more."""
        self._budget.give_back(self._sizes.pop(connection, 0))

    def watch(self, connection: Receiver) -> None:
        """Begin to measure how much a client receives, since it does not receive all at once."""
        now = connection.since = time.monotonic()
        left = _bytes_left(connection)
        self._watched[connection] = _Progress(now, left, left, now)
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def unwatch(self, connection: Receiver) -> None:
        """End to measure it: all was sent, or the connection is lost."""
        self._watched.pop(connection, None)

    def _look(self) -> None:
        """End what has lasted too long."""
        self._measure()
        now = time.monotonic()
        for connection, progress in list(self._watched.items()):
            if now - progress.since >= STALLED_S:
                self._end(connection)
        self._is_looking = bool(self._watched)
        if self._is_looking:
            asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _measure(self) -> None:
        now = time.monotonic()
        for connection, progress in self._watched.items():
            progress.update(_bytes_left(connection), now)
            connection.since = progress.since

    def _slowest(self) -> Receiver | None:
        """Return the connection of a slow client with a large answer that has received nothing for longest."""
        self._measure()
        now = time.monotonic()
        slow = [one for one in self._sizes if one in self._watched and self._watched[one].is_slow(now)]
        return min(slow, key=lambda one: self._watched[one].since, default=None)

    def _end(self, connection: Receiver) -> None:
        self.release(connection)
        self.unwatch(connection)
        connection.abort()


def _bytes_left(connection: Receiver) -> int:
    """Return how many bytes are to be sent, in the transport and in the system."""
    wire = connection.wire
    if wire is None:
        return 0
    try:
        sent = fcntl.ioctl(wire.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:  # it broke meanwhile
        return 0
    return wire.get_write_buffer_size() + struct.unpack("i", sent)[0]
