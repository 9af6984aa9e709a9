"""Bounds of the log: no client can fill the disk with it, or break its lines."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import traceback

MAX_PER_MINUTE = 10  # records of one place in the code
MAX_CHARACTERS = 2000  # of a record without its traceback
MAX_TRACEBACK_CHARACTERS = 8000
OPERATORS_AT_ONCE = 200  # records of one place about loading models, so that a server of many models logs them all

# Loading a model and starting the server are the operator's business, so their records may hold tracebacks. A client
# can cause them as well, by HandleReloadConfigRequest.
_OPERATORS = ("kseq_serving.models", "kseq_serving.core", "kseq_serving.server", "kseq_serving.inference.warmup")


@dataclasses.dataclass
class _Place:
    """Place in the code that logs.

    Attributes:
        room: Number of records that may be written at once.
        since: Time for which `room` was computed, of `time.monotonic`.
        left_out: Number of records that were left out since the last one that was written.
    """

    room: float
    since: float
    left_out: int = 0


class RateLimit:
    """Bound on the number of records of each place in the code; usable from any thread.

    Args:
        per_minute: Number of records of a place in a minute, in the long run.
        at_once: Number of records of a place that may follow each other without a pause.
    """

    def __init__(self, per_minute: int = MAX_PER_MINUTE, at_once: int = MAX_PER_MINUTE):
        self._per_minute, self._at_once = per_minute, at_once
        self._lock = threading.Lock()
        self._places: dict[tuple[str, int], _Place] = {}  # guarded by _lock

    def admit(self, file: str, line: int) -> int | None:
        """Count one more record of a place.

        Returns:
            Number of the place's records that were left out since its last one; None if this one is left out as well.
        """
        now = time.monotonic()
        with self._lock:
            place = self._places.setdefault((file, line), _Place(self._at_once, now))
            place.room = min(self._at_once, place.room + (now - place.since) * self._per_minute / 60)
            place.since = now
            if place.room < 1:
                place.left_out += 1
                return None
            place.room -= 1
            left_out, place.left_out = place.left_out, 0
        return left_out


class BoundedLog(logging.Filter):
    """Filter of a handler that limits the number and the size of records, and leaves out tracebacks of requests.

    Of records about loading models, more may be written at once, and the first ones keep their tracebacks.
    """

    def __init__(self) -> None:
        super().__init__()
        self._requests = RateLimit()
        self._operators = RateLimit(at_once=OPERATORS_AT_ONCE)
        self._tracebacks = RateLimit()

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten a record, and return whether it is written."""
        place = record.pathname, record.lineno
        is_operators = record.name.startswith(_OPERATORS)
        left_out = (self._operators if is_operators else self._requests).admit(*place)
        if left_out is None:
            return False
        text, error = record.getMessage(), record.exc_info[1] if record.exc_info else None
        record.exc_info = record.exc_text = record.stack_info = None
        if error and is_operators and self._tracebacks.admit(*place) is not None:
            record.exc_text = _traceback(error)
        elif error:
            text += f": {summary(error)}"
        record.msg, record.args = one_line(text) + _omission(left_out), None
        return True


def _omission(left_out: int) -> str:
    return f" ({left_out} more records like this one were left out)" if left_out else ""


def _traceback(error: BaseException) -> str:
    """Return an exception's traceback, its end if it is long; indented, so that no line looks like a record."""
    lines = "".join(traceback.format_exception(error)).splitlines()
    text = "\n".join(f"  {one_line(line)}" for line in lines)
    if len(text) <= MAX_TRACEBACK_CHARACTERS:
        return text
    return f"  Traceback, cut off: ...{text[-MAX_TRACEBACK_CHARACTERS:]}"


_failures = RateLimit()


def failure(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log that a request failed unexpectedly, in one line, and only some times a minute for each cause.

    Args:
        log: Logger to write to.
        what: What failed, as the subject of the text.
        error: The exception.
    """
    frames = traceback.extract_tb(error.__traceback__)
    left_out = _failures.admit(frames[-1].filename if frames else "", (frames[-1].lineno or 0) if frames else 0)
    if left_out is not None:
        log.error("%s%s", one_line(f"{what} failed unexpectedly: {summary(error)}"), _omission(left_out))


def summary(error: BaseException) -> str:
    """Return an exception's type, text and place."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {str(error)[:MAX_CHARACTERS]}{place}"


def one_line(text: str) -> str:
    """Return a text without line breaks and other control characters, cut off at `MAX_CHARACTERS`."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:MAX_CHARACTERS])
