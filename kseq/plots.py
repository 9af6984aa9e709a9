"""Pictures of what a model does."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def attention_heat_map(
    source: Sequence[str], target: Sequence[str], weights: np.ndarray, *, title: str = ""
) -> "Figure":
    """Draw how much each written token attended to each token read.

    Args:
        source: The source's tokens, left to right.
        target: The target's tokens, top to bottom.
        weights: Float `(len(target) or more, len(source) or more)`, such as `Decoded.alignments[row, hypothesis]`; what
            is beyond the tokens is padding and is left out.
        title: Written above.

    Returns:
        A matplotlib figure; `figure.savefig("attention.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are fewer weights than tokens.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Plots need matplotlib. Install it with `pip install "kseq[plots]"`.') from error
    weights = np.asarray(weights)
    if weights.ndim != 2 or weights.shape[0] < len(target) or weights.shape[1] < len(source):
        raise ValueError(
            f"weights have shape {weights.shape}, but {len(target)} target and {len(source)} source tokens need at "
            f"least ({len(target)}, {len(source)}). Choose one row and hypothesis of Decoded.alignments."
        )
    figure = Figure(figsize=(1.5 + 0.3 * len(source), 1.2 + 0.3 * len(target)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(weights[: len(target), : len(source)], cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(source)), list(source))
    axes.set_yticks(range(len(target)), list(target))
    axes.set_xlabel("read")
    axes.set_ylabel("written")
    axes.set_title(title)
    figure.colorbar(image, label="attention")
    return figure
