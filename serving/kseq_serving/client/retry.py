"""One call, asked again while that is safe and there is time: the same for both protocols."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kseq_serving.client.call_error import CallError
from kseq_serving.errors import Code

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """When and how often a call is tried again, always within its deadline.

    Before the attempt after the n-th the client waits ``min(first_delay_s * factor ** (n - 1), max_delay_s)`` times a
    random number between 0.5 and 1, so that clients that failed together do not return together.

    Attributes:
        max_attempts: how often the server is asked at most, the first time included.
        first_delay_s: the wait before the second attempt, in seconds.
        factor: what each further wait is multiplied by.
        max_delay_s: the longest wait, in seconds.
        codes: the errors that are worth another attempt. UNAVAILABLE stands for a refused or broken connection and for
            HTTP 502 and 503 too. Add RESOURCE_EXHAUSTED for servers whose overload passes.
    """

    max_attempts: int = 5
    first_delay_s: float = 0.05
    factor: float = 2.0
    max_delay_s: float = 2.0
    codes: frozenset[Code] = frozenset((Code.UNAVAILABLE,))

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.first_delay_s < 0 or self.factor < 1 or self.max_delay_s < 0:
            raise ValueError(f"A RetryPolicy has max_attempts >= 1, delays >= 0 and factor >= 1; got {self}.")

    def delay_s(self, attempts: int) -> float:
        """How long to wait after this many attempts, in seconds."""
        exponent = min(attempts - 1, 64)  # by then any delay is the longest, and no power overflows
        return min(self.first_delay_s * self.factor**exponent, self.max_delay_s) * random.uniform(0.5, 1.0)


NO_RETRIES = RetryPolicy(max_attempts=1)


class Deadline:
    """The time by which a call must be over.

    Args:
        timeout_s: how long it may take from now, in seconds.
    """

    def __init__(self, timeout_s: float):
        if not 0 < timeout_s < math.inf:
            raise ValueError(f"timeout_s is a positive number of seconds, got {timeout_s}.")
        self.timeout_s = timeout_s
        self._ends = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """What is left, in seconds; never negative."""
        return max(self._ends - time.monotonic(), 0.0)


Attempt = Callable[[Deadline], Awaitable[Result]]
"""One attempt of a call, which must be over by the deadline."""


async def call(attempt: Attempt[Result], *, policy: RetryPolicy, timeout_s: float, address: str) -> Result:
    """Return the result of the first attempt that succeeds.

    Args:
        attempt: Function that asks once; it is cancelled at the deadline.
        policy: Which errors are worth another attempt, and when it is made.
        timeout_s: Longest time that all attempts together may take, in seconds.
        address: Address of the server, for errors.

    Raises:
        CallError: The error of the last attempt, or DEADLINE_EXCEEDED.
    """
    deadline = Deadline(timeout_s)
    attempts = 0
    failed: CallError | None = None
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                attempts += 1
                try:
                    return await attempt(deadline)
                except CallError as error:
                    failed = error
                    failed.attempts = attempts
                    delay_s = policy.delay_s(attempts)
                    is_last = attempts >= policy.max_attempts or delay_s >= deadline.remaining_s()
                    if is_last or error.code not in policy.codes:
                        raise
                await asyncio.sleep(delay_s)
    except TimeoutError as error:
        before = f"; attempt {failed.attempts} ended with {failed.code.name}: {failed.message}" if failed else ""
        late = CallError(Code.DEADLINE_EXCEEDED, f"no answer within {timeout_s:g} s{before}", address)
        late.attempts = attempts
        raise late from error
