"""Alignments of frames to labels: sums over all alignments, posteriors, and the most probable alignment."""

from kseq.alignment.ctc_topology import CTCTopology
from kseq.alignment.forced_alignment import Alignment, alignment_spans, ctc_forced_align, forced_align
from kseq.alignment.forward_backward import ForwardBackward, ctc_posteriors, forward_backward
from kseq.alignment.order_synchronous import OrderSynchronous
from kseq.alignment.topology import Arc, Lattice, Topology
from kseq.alignment.viterbi import BestPath, viterbi_align

__all__ = [
    "Alignment",
    "Arc",
    "BestPath",
    "CTCTopology",
    "ForwardBackward",
    "Lattice",
    "OrderSynchronous",
    "Topology",
    "alignment_spans",
    "ctc_forced_align",
    "ctc_posteriors",
    "forced_align",
    "forward_backward",
    "viterbi_align",
]


def __dir__() -> list[str]:
    return __all__
