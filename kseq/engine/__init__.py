"""The engine: runs a cell over a sequence and computes the gradients of the run.

`run` is the entry point. It chooses between three loops: `recurrence`, which has a hand-written backward pass; a loop
with less overhead for inference; and a loop that calls the cell step by step, for steps that the cell's equations do
not describe. Cells whose gates do not depend on the state use `gated_linear_recurrence` instead.
"""

from kseq.engine.equations import Activated, Equations, State, Weights
from kseq.engine.runner import run

__all__ = ["Activated", "Equations", "State", "Weights", "run"]


def __dir__() -> list[str]:
    return __all__
