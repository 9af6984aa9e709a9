"""Processes that parse large JSON bodies, so that no other request waits for Python's lock meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kseq_serving.errors import Code, ServingError
from kseq_serving.rest import json_worker

_KEPT_BYTES = 1 << 26  # a process that parsed a larger body is replaced, because it keeps much memory

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ParsedInputs:
    """Parsed body of a predict request.

    Attributes:
        signature_name: Name of the requested signature; empty for the default one.
        in_rows: Whether the request has rows.
        arrays: Inputs by name; empty if the signature does not exist.
        error: Reason why the inputs cannot be read, if any.
    """

    signature_name: str
    in_rows: bool
    arrays: Mapping[str, np.ndarray]
    error: ServingError | None


@dataclasses.dataclass(frozen=True)
class ParsedExamples:
    """Parsed body of a classify or regress request.

    Attributes:
        signature_name: Name of the requested signature; empty for the default one.
        pieces: Pieces of a serialised Input message, which are to be merged one after another.
    """

    signature_name: str
    pieces: Sequence[bytes]


class Parsing:
    """Parsing of one body, which another thread may end because the client has gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None  # guarded by _lock
        self._is_cancelled = False  # guarded by _lock

    def cancel(self) -> None:
        """End the parsing, now or before it begins."""
        with self._lock:
            self._is_cancelled = True
            if self._process:
                self._process.kill()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._is_cancelled

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        """Remember the process that parses.

        Raises:
            ServingError: If the parsing was cancelled already.
        """
        with self._lock:
            if self._is_cancelled:
                raise ServingError(Code.CANCELLED, "The client has gone.")
            self._process = process

    def end(self) -> None:
        """Forget the process."""
        with self._lock:
            self._process = None


class JsonProcess:
    """One process, started when it is first needed; used by one thread at a time.

    Args:
        timeout_s: Longest time that a body may take, in seconds.
    """

    def __init__(self, timeout_s: float):
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    def inputs(self, body: bytes, signatures: Mapping[str, Mapping[str, int]], parsing: Parsing) -> ParsedInputs:
        """Parse the body of a predict request.

        Args:
            body: The body.
            signatures: Dtypes of the inputs of each signature, by the names of both.
            parsing: Handle by which the parsing may be ended.

        Raises:
            ServingError: If the body is malformed, or parsing it takes too much time or memory.
        """
        with self._asked(json_worker.PREDICT, signatures, body, parsing) as (header, stream):
            arrays = json_worker.read_arrays(stream, header["arrays"])
        error = ServingError(Code(header["error"][0]), header["error"][1]) if header["error"] else None
        return ParsedInputs(header["signature_name"], header["in_rows"], arrays, error)

    def examples(self, body: bytes, parsing: Parsing) -> ParsedExamples:
        """Parse the body of a classify or regress request; raises as `inputs`."""
        with self._asked(json_worker.EXAMPLES, {}, body, parsing) as (header, stream):
            pieces = [json_worker.read(stream) for _ in range(header["pieces"])]
        return ParsedExamples(header["signature_name"], pieces)

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # pyright: ignore[reportOptionalMemberAccess]

    @contextlib.contextmanager
    def _asked(self, kind: str, signatures: Mapping[str, Any], body: bytes, parsing: Parsing) -> Any:
        """Send a body, and yield the header of the answer and the stream with the rest of it."""
        if self._process is None or self._process.poll() is not None:
            self.stop()
            self._process = _start()
        process = self._process
        parsing.begin(process)
        late = threading.Timer(self._timeout_s, process.kill)
        late.daemon = True
        late.start()
        is_whole = False
        try:
            json_worker.write(process.stdin, pickle.dumps((kind, dict(signatures))), body)  # pyright: ignore[reportArgumentType]
            header = pickle.loads(json_worker.read(process.stdout))  # pyright: ignore[reportArgumentType]
            if refused := header.get("refused"):
                is_whole = True
                if header["failure"]:
                    _log.error("Parsing a JSON body failed unexpectedly: %s", header["failure"])
                raise ServingError(Code(refused[0]), refused[1])
            yield header, process.stdout
            is_whole = True
        except (EOFError, OSError) as error:
            raise _given_up(parsing, process) from error
        finally:
            late.cancel()
            parsing.end()
            if not is_whole or len(body) > _KEPT_BYTES:
                self.stop()


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from kseq_serving.rest import json_worker; json_worker.main()"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # clients must not fill the server's log; errors come back as answers
        env=environment,
        start_new_session=True,
    )


def _given_up(parsing: Parsing, process: subprocess.Popen[bytes]) -> ServingError:
    """Return the error for a process that ended without an answer."""
    if parsing.is_cancelled:
        return ServingError(Code.CANCELLED, "The client has gone.")
    if process.wait() == -signal.SIGKILL:
        return ServingError(Code.RESOURCE_EXHAUSTED, "Parsing the JSON body took too much time or memory.")
    return ServingError(Code.INTERNAL, "The process that parses JSON has ended.")
