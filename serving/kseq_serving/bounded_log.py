"""Bounds of the log: no client can fill the disk with it, or break its lines."""

from __future__ import annotations

import logging
import threading
import time
import traceback

MAX_PER_MINUTE = 10  # records of one place in the code
MAX_CHARACTERS = 2000  # of a record

# Loading a model and starting the server are the operator's business, so their records may hold tracebacks.
_OPERATORS = ("kseq_serving.models", "kseq_serving.core", "kseq_serving.server", "kseq_serving.inference.warmup")


class RateLimit:
    """Number of records of each place in the code during the present minute; usable from any thread."""

    def __init__(self, per_minute: int = MAX_PER_MINUTE):
        self._per_minute = per_minute
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int], tuple[int, int]] = {}  # minute and number; guarded by _lock

    def admits(self, file: str, line: int) -> bool:
        """Return whether one more record of a place may be written, and count it."""
        minute = int(time.monotonic() // 60)
        with self._lock:
            known, count = self._counts.get((file, line), (minute, 0))
            count = count + 1 if known == minute else 1
            self._counts[file, line] = minute, count
        return count <= self._per_minute


class BoundedLog(logging.Filter):
    """Filter of a handler that limits the number and the size of records, and leaves out tracebacks of requests."""

    def __init__(self) -> None:
        super().__init__()
        self._limit = RateLimit()

    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten a record, and return whether it is written."""
        if record.name.startswith(_OPERATORS):
            return True
        if not self._limit.admits(record.pathname, record.lineno):
            return False
        text = record.getMessage()
        if record.exc_info and record.exc_info[1]:
            text += f": {summary(record.exc_info[1])}"
        record.msg, record.args = one_line(text), None
        record.exc_info = record.exc_text = record.stack_info = None
        return True


_failures = RateLimit()


def failure(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log that a request failed unexpectedly, in one line, and only some times a minute for each cause.

    Args:
        log: Logger to write to.
        what: What failed, as the subject of the text.
        error: The exception.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if _failures.admits(frames[-1].filename if frames else "", (frames[-1].lineno or 0) if frames else 0):
        log.error("%s", one_line(f"{what} failed unexpectedly: {summary(error)}"))


def summary(error: BaseException) -> str:
    """Return an exception's type, text and place."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {str(error)[:MAX_CHARACTERS]}{place}"


def one_line(text: str) -> str:
    """Return a text without line breaks and other control characters, cut off at `MAX_CHARACTERS`."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:MAX_CHARACTERS])
