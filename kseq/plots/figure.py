"""Figures of matplotlib, which is imported when the first one is drawn."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of the given size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Plots need matplotlib. Install it with `pip install "kseq[plots]"`.') from error
    return Figure(figsize=(width, height), layout="constrained")
