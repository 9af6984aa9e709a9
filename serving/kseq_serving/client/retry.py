"""Retries of a call within its deadline, the same for both protocols."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kseq_serving.client.call_error import CallError
from kseq_serving.client.kinds import check_number
from kseq_serving.errors import Code

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """Number and times of the attempts of a call, always within its deadline.

    After the n-th attempt the client waits `min(first_delay_s * factor ** (n - 1), max_delay_s)` times a random number
    between 0.5 and 1, so that clients that failed at the same time do not retry at the same time.

    Attributes:
        max_attempts: Largest number of attempts, including the first.
        first_delay_s: Wait before the second attempt, in seconds.
        factor: Factor from each wait to the next.
        max_delay_s: Longest wait, in seconds.
        codes: Codes of the errors that are worth another attempt. UNAVAILABLE includes refused and broken connections
            and HTTP 502 and 503, RESOURCE_EXHAUSTED a server with too many requests (HTTP 429). An error because a
            message is too large is never tried again.

    Raises:
        ValueError: If a number is out of range.
    """

    max_attempts: int = 5
    first_delay_s: float = 0.05
    factor: float = 2.0
    max_delay_s: float = 2.0
    codes: frozenset[Code] = frozenset((Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED))

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.first_delay_s < 0 or self.factor < 1 or self.max_delay_s < 0:
            raise ValueError(f"A RetryPolicy has max_attempts >= 1, delays >= 0 and factor >= 1; got {self}.")

    def delay_s(self, attempts: int) -> float:
        """Return the wait after this many attempts, in seconds."""
        exponent = min(attempts - 1, 64)  # so that the power does not overflow
        return min(self.first_delay_s * self.factor**exponent, self.max_delay_s) * random.uniform(0.5, 1.0)


NO_RETRIES = RetryPolicy(max_attempts=1)


class Deadline:
    """Deadline of a call.

    Args:
        timeout_s: Time from now to the deadline, in seconds.

    Raises:
        ValueError: If `timeout_s` is not positive and finite.
        TypeError: If it is not a number.
    """

    def __init__(self, timeout_s: float):
        check_number("timeout_s", timeout_s)
        if not 0 < timeout_s < math.inf:
            raise ValueError(f"timeout_s is a positive number of seconds, got {timeout_s}.")
        self.timeout_s = timeout_s
        self._ends = time.monotonic() + timeout_s

    def remaining_s(self) -> float:
        """Return the time left, in seconds; 0 after the deadline."""
        return max(self._ends - time.monotonic(), 0.0)


Attempt = Callable[[Deadline], Awaitable[Result]]
"""Function that makes one attempt of a call, which must end by the deadline."""


async def call(attempt: Attempt[Result], *, policy: RetryPolicy, timeout_s: float, address: str) -> Result:
    """Return the result of the first attempt that succeeds.

    Args:
        attempt: Function that asks once; it is cancelled at the deadline.
        policy: Which errors are worth another attempt, and when it is made.
        timeout_s: Longest time that all attempts together may take, in seconds.
        address: Address of the server, for errors.

    Raises:
        CallError: If the last attempt failed, with its error; or DEADLINE_EXCEEDED, if an attempt was cancelled.
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
                    if is_last or error.code not in policy.codes or error.is_about_size:
                        raise
                await asyncio.sleep(delay_s)
    except TimeoutError as error:
        before = f"; attempt {failed.attempts} ended with {failed.code.name}: {failed.message}" if failed else ""
        late = CallError(Code.DEADLINE_EXCEEDED, f"no answer within {timeout_s:g} s{before}", address)
        late.attempts = attempts
        raise late from error
