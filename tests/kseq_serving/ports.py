"""Ports for servers that take seconds to listen."""

import itertools
import os
import socket

# Below the ports that the system assigns on request, so that a port stays free until its server listens.
_FIRST = 20_000
_EACH_WORKER = 2_000

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_offsets = itertools.count(os.getpid())


def free_port() -> int:
    """Return a free port that neither the system nor another test process of this run will hand out."""
    for offset in itertools.islice(_offsets, _EACH_WORKER):
        port = _FIRST + _worker % 5 * _EACH_WORKER + offset % _EACH_WORKER
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"None of {_EACH_WORKER} ports is free.")
