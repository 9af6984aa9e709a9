"""Decision which runs take place on the caller's own thread.

TensorFlow usually hands a run to threads of its own and waits for them, also to end a run whose time is over. For a
graph that takes microseconds, this costs several times the run itself. A graph without loops and without operations
that wait ends by itself, so nothing needs to end it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef

SHORT_S = 3e-4  # a longer run may gain from several threads
MAX_KINDS = 100  # of runs that are told apart; clients choose the outputs and the sizes
_GROWTH = 1.25  # of the estimate after a run that took longer

_MAY_WAIT = re.compile(
    r"While|^For$|Enter|NextIteration|PyFunc|Queue|Dataset|Iterator|Barrier|Accumulator|[Ss]tage|Peek|Recv|Collective|"
    r"BatchFunction|Batch$|Unbatch|Mutex|RemoteCall|Tpu|TPU"
)


def always_ends(graph: MetaGraphDef) -> bool:
    """Return whether no operation of a graph or of its functions can loop or wait."""
    return not any(_MAY_WAIT.search(op) for op in _operations(graph.graph_def))


def _operations(graph: GraphDef) -> Iterator[str]:
    yield from (node.op for node in graph.node)
    match graph:
        case GraphDef(library=functions):
            yield from (node.op for function in functions.function for node in function.node_def)


Kind = tuple[tuple[str, ...], int]
"""What a run fetches, and the size of what it is fed."""


def kind_of(fetches: tuple[str, ...], fed: Iterable[np.ndarray]) -> Kind:
    """Return the kind of a run; sizes up to the next power of two are of one kind."""
    return fetches, sum(map(_size, fed)).bit_length()


def _size(array: np.ndarray) -> int:
    return array.nbytes if array.dtype != object else sum(map(len, array.flat))


class ShortRuns:
    """Estimates of how long the runs of a session take, by kind; usable from any thread.

    An estimate is near the shortest of the last runs, since other threads may have held up the longer ones.
    """

    def __init__(self) -> None:
        self._estimates: dict[Kind, float] = {}

    def __contains__(self, kind: Kind) -> bool:
        return self._estimates.get(kind, SHORT_S) < SHORT_S

    def note(self, kind: Kind, seconds: float) -> None:
        """Note how long a run took."""
        estimate = self._estimates.get(kind)
        if estimate is not None:
            self._estimates[kind] = min(seconds, _GROWTH * estimate)
        elif len(self._estimates) < MAX_KINDS:
            self._estimates[kind] = seconds
