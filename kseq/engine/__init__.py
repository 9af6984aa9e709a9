"""The engine: runs a cell over a sequence, and differentiates the run.

`run` is the door. Behind it are the loop with a gradient of its own (`recurrence`), the loop for inference, and the
loop for cells that are known by their `call` alone. Cells whose gates do not depend on the state use
`gated_linear_recurrence`.
"""

from kseq.engine.equations import Activated, Equations, State, Weights
from kseq.engine.runner import run

__all__ = ["Activated", "Equations", "State", "Weights", "run"]
