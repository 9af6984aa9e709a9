"""Command `kseq-serve`."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from kseq_serving import flags as command_line
from kseq_serving import ports, processes
from kseq_serving.errors import ServingError
from kseq_serving.flags import EXIT_FAILURE, FAILED, Flags
from kseq_serving.processes import Place

PROGRAM = "kseq-serve"
SEE_HELP = "(--help lists all flags)"
ALLOCATOR = "TF_ONEDNN_USE_SYSTEM_ALLOCATOR"  # environment variable that TensorFlow reads
ERRORS_ONLY = "2"  # of TF_CPP_MIN_LOG_LEVEL
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop.

    Args:
        arguments: Command line without the program's name; None for that of the process.

    Returns:
        Exit code, if no server was started. A server that was started ends the process itself.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if not command_line.HELP.isdisjoint(given):
        print(command_line.usage(PROGRAM), end="")
        return EXIT_FAILURE  # as tensorflow_model_server's
    try:
        flags, unknown = command_line.parse(given)
    except ServingError as error:
        print(f"{error.message} {SEE_HELP}", file=sys.stderr)
        return EXIT_FAILURE
    if flags.version:
        versions = {name: importlib.metadata.version(name) for name in ("kseq", "tensorflow")}
        print(f"{PROGRAM}: {versions['kseq']}\nTensorFlow Library: {versions['tensorflow']}")
        return 0
    typos = [argument for argument in unknown if command_line.nearest(argument)]
    for argument in typos[:1] or unknown:
        print(f"{command_line.complaint(argument)} {SEE_HELP}", file=sys.stderr, flush=True)
    if typos:
        return EXIT_FAILURE
    try:
        command_line.check(flags)
        for line in flags.without_partner():
            print(f"Warning: {line}", file=sys.stderr, flush=True)
        ports.check_free(flags)
        if flags.num_processes == 1:
            _serve(flags)
        with ports.kept(flags):
            return processes.share(flags.num_processes, functools.partial(_serve, flags))
    except ServingError as error:
        print(f"{FAILED} {error}")
        return EXIT_FAILURE


def _serve(flags: Flags, place: Place | None = None) -> NoReturn:
    _end_at_signals()
    # Read by TensorFlow when `server` imports it. It logs a warning for each request that an op refuses.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", ERRORS_ONLY)
    _choose_allocator()
    _allow_connections()
    from kseq_serving import server

    server.run(flags, place)


def _choose_allocator() -> None:
    """Let TensorFlow take memory from the C library, unless the environment says otherwise.

    oneDNN's own allocator tries for ten seconds to get memory that there is not, and nobody else gets any meanwhile:
    one request with an enormous shape would stop all models. The numbers do not depend on the allocator.
    """
    if os.environ.setdefault(ALLOCATOR, "1") != "1":
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        mallopt = ctypes.CDLL(None).mallopt
        # Memory of freed tensors is kept for the next run, as by oneDNN's allocator; returning it costs page faults.
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 512 << 20)


def _allow_connections() -> None:
    """Allow this process as many open files as the system allows; a thousand idle connections take the usual number."""
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _end_at_signals() -> None:
    """Let SIGTERM and SIGINT end the process at once until the server handles them.

    Python's own answer to SIGINT, a KeyboardInterrupt, is lost if it is raised inside one of the many imports that
    expect errors, such as that of jax by keras; and the kernel's default does not apply to process 1 of a container.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))


if __name__ == "__main__":
    sys.exit(main())
