"""Metrics of all processes that share the ports: each asks the others, and adds the numbers up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from pathlib import Path

from kseq_serving.metrics import Metrics
from kseq_serving.processes import Place

TIMEOUT_S = 1.0  # longest wait for another process
_READ_BYTES = 64 * 2**10


async def exchange(metrics: Metrics, place: Place) -> asyncio.Server:
    """Answer the other processes with the metrics of this one, and add theirs to this one's.

    Returns:
        What answers the others, until it is closed or forgotten.
    """

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(metrics.render_own())
            await writer.drain()
        writer.close()

    others = [_address(place, index) for index in range(place.count) if index != place.index]
    metrics.add_others(lambda own: sums([own, *(text for address in others if (text := _ask(address)) is not None)]))
    return await asyncio.start_unix_server(answer, str(_address(place, place.index)))


def sums(texts: Iterable[bytes]) -> bytes:
    """Return the sums of metrics in Prometheus's text format; of all series in any of the texts."""
    families: dict[bytes, dict[bytes, float]] = {}
    for text in texts:
        series: dict[bytes, float] = {}
        for line in text.splitlines():
            if line.startswith(b"# TYPE "):
                series = families.setdefault(line, {})
            else:
                name, _, value = line.rpartition(b" ")
                series[name] = series.get(name, 0.0) + float(value)
    lines = []
    for kind in sorted(families):
        lines += [kind, *(b"%s %.17g" % (name, value) for name, value in families[kind].items())]
    return b"\n".join(lines) + b"\n"


def _address(place: Place, index: int) -> Path:
    return place.folder / f"metrics-{index}"


def _ask(address: Path) -> bytes | None:
    """Return the metrics of another process; None if it does not answer, such as while it starts."""
    pieces = []
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(address))
            while piece := connection.recv(_READ_BYTES):
                pieces.append(piece)
    except OSError:
        return None
    text = b"".join(pieces)
    return text if text.endswith(b"\n") else None  # the process has ended meanwhile
