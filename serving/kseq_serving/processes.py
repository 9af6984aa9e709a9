"""Several server processes that share the ports, and the process that starts and watches them.

Python runs one thread of a process at a time, so one process answers with about one core. The kernel spreads the
connections over the processes that listen at a port.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from kseq_serving.flags import EXIT_FAILURE

RESTART_S = 1.0  # between the end of a process that was killed and the start of its successor
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


class Place(NamedTuple):
    """Place of a process among those that share its ports.

    Attributes:
        index: Number of the process, from 0.
        count: Number of the processes.
        folder: Folder that only these processes may use.
    """

    index: int
    count: int
    folder: Path


def share(count: int, serve: Callable[[Place], NoReturn]) -> int:
    """Run `serve` in `count` processes until this one is told to stop, or one of them ends by itself.

    A process that is killed, such as by the kernel when memory is short, is started again; the others go on meanwhile.
    Call this before anything that starts threads, which a new process would not have; NumPy makes its own ones again.

    Args:
        count: Number of the processes.
        serve: Function that runs a server until SIGTERM, and then ends the process.

    Returns:
        The first exit code other than 0, or 0.
    """
    with tempfile.TemporaryDirectory(prefix="kseq-serve-") as folder:
        return _Processes(count, serve, Path(folder)).run()


class _Processes:
    def __init__(self, count: int, serve: Callable[[Place], NoReturn], folder: Path):
        self._count, self._serve, self._folder = count, serve, folder
        self._running: dict[int, int] = {}  # from process id to index
        self._stopping = False

    def run(self) -> int:
        for number in _SIGNALS:
            signal.signal(number, self._stop)
        for index in range(self._count):
            self._start(index)
        result = 0
        while self._running:
            process, status = os.wait()
            index = self._running.pop(process)
            code = os.waitstatus_to_exitcode(status)
            if code < 0 and not self._stopping:
                name = signal.Signals(-code).name
                print(f"Process {index} was ended by {name}; starting it again.", file=sys.stderr, flush=True)
                time.sleep(RESTART_S)
                self._start(index)
            else:
                result = result or (EXIT_FAILURE if code < 0 else code)
                self._stop()
        return result

    def _start(self, index: int) -> None:
        while not self._stopping:
            try:
                return self._fork(index)
            except OSError as error:  # such as for lack of memory
                print(f"Process {index} cannot be started: {error.strerror}", file=sys.stderr, flush=True)
                time.sleep(RESTART_S)

    def _fork(self, index: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # one between the next lines would not reach the new process
        try:
            self._running[os.fork() or self._become(index)] = index
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _become(self, index: int) -> NoReturn:
        """Serve as a new process."""
        try:
            for number in _SIGNALS:
                signal.signal(number, lambda *_: os._exit(0))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)  # if the parent is killed
            self._serve(Place(index, self._count, self._folder))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(EXIT_FAILURE)

    def _stop(self, *_: Any) -> None:
        self._stopping = True
        for process in self._running:
            os.kill(process, signal.SIGTERM)
