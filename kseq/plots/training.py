"""Curves of losses and metrics."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kseq.plots.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def training_curves(history: Any, *, names: Sequence[str] | None = None, title: str = "") -> "Figure":
    """Draw losses and metrics by epoch, those of training and validation of the same name in one plot.

    Args:
        history: What `fit` returned, its attribute `history`, or another dict of lists: a value for each epoch by name,
            with `val_` before the names of validation.
        names: The names to draw, without `val_`, in this order; None for all.
        title: Title of the figure.

    Returns:
        A matplotlib figure; `figure.savefig("training.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there is nothing to draw, or no value of one of the names.

    Example:
        >>> training_curves(model.fit(rows, epochs=5, validation_data=others)).savefig("training.png")
    """
    values = getattr(history, "history", history)
    found = list(dict.fromkeys(name.removeprefix("val_") for name in values))
    names = found if names is None else list(names)
    if not names or set(names) - set(found):
        raise ValueError(f"The history has values of {found}, but names={names}.")
    figure = new_figure(1.0 + 3.6 * len(names), 3.2)
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in values:
                axes.plot(np.arange(1, len(values[key]) + 1), values[key], marker=".", label=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel("epoch")
        axes.set_title(name)
        axes.legend()
    figure.suptitle(title)
    return figure
