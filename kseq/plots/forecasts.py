"""Charts of forecasts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kseq.plots.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def fan_chart(
    history: np.ndarray,
    quantiles: np.ndarray,
    levels: Sequence[float],
    *,
    truth: np.ndarray | None = None,
    title: str = "",
) -> "Figure":
    """Draw the past of a series, and the central intervals of its forecast around their median.

    Args:
        history: Float `(time,)`, the values before the forecast.
        quantiles: Float `(steps, levels)`, such as a row of `Forecaster.forecast(...).quantiles`.
        levels: Increasing levels of the quantiles. Two that lie symmetrically around 0.5 are the ends of an interval.
        truth: Float `(steps,)`, what was forecast, drawn as a line; None: it is not known.
        title: Title of the plot.

    Returns:
        A matplotlib figure; `figure.savefig("forecast.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If the shapes do not fit each other, or no two levels are the ends of an interval.

    Example:
        >>> forecast = model.forecast(series, seed=0)
        >>> fan_chart(series[0], forecast.quantiles[0], model.levels).savefig("forecast.png")
    """
    history, quantiles = np.asarray(history, "float64"), np.asarray(quantiles, "float64")
    known = None if truth is None else np.asarray(truth, "float64")
    if history.ndim != 1 or quantiles.ndim != 2 or quantiles.shape[1] != len(levels):
        raise ValueError(
            f"history has shape {history.shape} and quantiles {quantiles.shape}, but expected (time,) and (steps, "
            f"{len(levels)}), one for each level. Choose one row of the forecast."
        )
    if known is not None and known.shape != quantiles.shape[:1]:
        raise ValueError(f"truth has shape {known.shape}, but the forecast has {len(quantiles)} steps.")
    pairs = [(i, j) for i, low in enumerate(levels) for j, high in enumerate(levels) if abs(low + high - 1) < 1e-6]
    pairs = [(i, j) for i, j in pairs if i < j]
    if not pairs:
        raise ValueError(f"levels={levels} has no two levels around 0.5, such as 0.1 and 0.9.")
    figure = new_figure(7.2, 3.6)
    axes = figure.subplots()
    steps = np.arange(len(quantiles)) + len(history)
    for i, j in pairs:
        label = f"{100 * (levels[j] - levels[i]):.0f} %"
        axes.fill_between(
            steps, quantiles[:, i], quantiles[:, j], color="tab:blue", alpha=0.6 / len(pairs), linewidth=0, label=label
        )
    for column, level in enumerate(levels):
        if abs(level - 0.5) < 1e-6:
            axes.plot(steps, quantiles[:, column], color="tab:blue", label="median")
    axes.plot(np.arange(len(history)), history, color="black", label="history")
    if known is not None:
        axes.plot(steps, known, color="black", linestyle="dotted", label="truth")
    axes.set_xlabel("step")
    axes.set_title(title)
    axes.legend(loc="upper left", fontsize="small")
    return figure
