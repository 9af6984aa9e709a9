"""Plots of the diagnostics of recurrent layers."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kseq.plots.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST, MOST = 1e-100, 1e100  # that are drawn on a logarithmic scale, instead of zero and infinity


def eigenvalue_plot(spectra: Mapping[str, Any], *, title: str = "") -> "Figure":
    """Draw the eigenvalues of recurrent kernels in the complex plane, around the unit circle.

    Args:
        spectra: Spectra by name, from `kseq.training.recurrent_spectra`.
        title: Title of the plot.

    Returns:
        A matplotlib figure; `figure.savefig("eigenvalues.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no eigenvalues.
    """
    drawn = {name: each.eigenvalues for name, each in spectra.items() if each.eigenvalues.size}
    _check_any(drawn, "spectra", "square kernels from kseq.training.recurrent_spectra")
    figure, axes = _frame(6.0, 4.8, "real part", "imaginary part", title)
    angles = np.linspace(0.0, 2.0 * np.pi, 200)
    axes.plot(np.cos(angles), np.sin(angles), color="black", linewidth=0.8)
    for name, values in drawn.items():
        axes.scatter(values.real, values.imag, s=9, label=f"{name}, radius {np.abs(values).max():.2f}")
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(fontsize="small")
    return figure


def singular_value_plot(spectra: Mapping[str, Any], *, title: str = "") -> "Figure":
    """Draw the singular values of recurrent kernels, the largest first.

    Args:
        spectra: Spectra by name, from `kseq.training.recurrent_spectra`.
        title: Title of the plot.

    Returns:
        A matplotlib figure; `figure.savefig("singular_values.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no spectra.
    """
    _check_any(spectra, "spectra", "kernels from kseq.training.recurrent_spectra")
    figure, axes = _frame(6.0, 3.6, "rank", "singular value", title)
    for name, each in spectra.items():
        axes.plot(np.arange(1, len(each.singular_values) + 1), each.singular_values, marker=".", label=name)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.legend(fontsize="small")
    return figure


def gradient_decay(norms: Mapping[str, np.ndarray] | np.ndarray, *, title: str = "") -> "Figure":
    """Draw the norm of d s_T / d s_(T - d) over the distance d, on a logarithmic scale.

    Args:
        norms: Norms by name, each float `(rows, distances)` from `kseq.training.state_jacobian_norms`; or one such
            array. The line is the geometric mean of the rows, the band goes from the smallest to the largest.
        title: Title of the plot.

    Returns:
        A matplotlib figure; `figure.savefig("gradients.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no norms, or their shape is another one.
    """
    named = norms if isinstance(norms, Mapping) else {"": norms}
    _check_any(named, "norms", "arrays (rows, distances) by name")
    figure, axes = _frame(6.4, 3.8, "distance in steps", "norm of the derivative", title)
    for name, each in named.items():
        values = np.array(each, "float64")
        if values.ndim != 2:
            raise ValueError(f"norms of {name!r} have shape {values.shape}, but expected (rows, distances).")
        known = ~np.isnan(values).all(axis=0)
        with np.errstate(divide="ignore"):
            logarithms = np.log10(np.clip(values[:, known], LEAST, MOST))
        distances = np.flatnonzero(known)
        (line,) = axes.plot(distances, 10.0 ** np.nanmean(logarithms, axis=0), label=name or None)
        low, high = 10.0 ** np.nanmin(logarithms, axis=0), 10.0 ** np.nanmax(logarithms, axis=0)
        axes.fill_between(distances, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set_yscale("log")
    axes.axhline(1.0, color="black", linewidth=0.8)
    if any(named):
        axes.legend(fontsize="small")
    return figure


def memory_curves(curves: Mapping[str, Any], *, title: str = "") -> "Figure":
    """Draw how much of its past inputs the state of recurrent layers contains, over the delay.

    Args:
        curves: Curves by name, from `kseq.training.memory_curve`.
        title: Title of the plot.

    Returns:
        A matplotlib figure; `figure.savefig("memory.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no curves.
    """
    _check_any(curves, "curves", "results of kseq.training.memory_curve by name")
    figure, axes = _frame(6.4, 3.6, "delay in steps", "squared correlation", title)
    for name, each in curves.items():
        axes.plot(each.delays, each.recovered, label=f"{name}, capacity {each.capacity:.1f}")
    axes.set_ylim(-0.02, 1.02)
    axes.legend(fontsize="small")
    return figure


def saturation_plot(gates: Mapping[str, Any], *, title: str = "") -> "Figure":
    """Draw for each unit of each gate how often it is near the lower and the upper end of its range.

    A unit near the right edge has a gate that is mostly open, near the top one that is mostly closed, near the origin
    one that is rarely saturated.

    Args:
        gates: Saturations by name, from `kseq.training.gate_saturation`.
        title: Title of the figure.

    Returns:
        A matplotlib figure; `figure.savefig("saturation.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no gates.

    Reference: A. Karpathy, J. Johnson, L. Fei-Fei, "Visualizing and understanding recurrent networks", 2015.
    """
    _check_any(gates, "gates", "results of kseq.training.gate_saturation")
    figure = new_figure(0.6 + 2.4 * len(gates), 2.9)
    every = np.atleast_1d(figure.subplots(1, len(gates), sharey=True))
    for axes, (name, each) in zip(every, gates.items(), strict=True):
        axes.scatter(np.ravel(each.high), np.ravel(each.low), s=12, alpha=0.6)
        axes.plot([0.0, 1.0], [1.0, 0.0], color="black", linewidth=0.8)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("share near upper end")
        axes.set_title(name)
    every[0].set_ylabel("share near lower end")
    figure.suptitle(title)
    return figure


def response_curves(responses: Mapping[str, Any], *, title: str = "") -> "Figure":
    """Draw the largest magnitude of recurrent layers' states while they read bounded inputs.

    Args:
        responses: Responses by name, from `kseq.training.bounded_input_response`.
        title: Title of the plot.

    Returns:
        A matplotlib figure; `figure.savefig("response.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no responses.
    """
    _check_any(responses, "responses", "results of kseq.training.bounded_input_response by name")
    figure, axes = _frame(6.4, 3.6, "step", "largest state so far", title)
    for name, each in responses.items():
        peaks = np.clip(each.peaks, LEAST, MOST)
        axes.plot(np.arange(1, len(peaks) + 1), peaks, label=f"{name}, {'bounded' if each.bounded else 'grows'}")
    axes.set_yscale("log")
    axes.legend(fontsize="small")
    return figure


def stability_diagram(maps: Mapping[str, Any] | Any, *, title: str = "") -> "Figure":
    """Draw how many stable fixed points the network h' = f(w h + b) has, over its weight and bias.

    Args:
        maps: Results of `kseq.training.stability_map` by the activation's name, drawn side by side; or one of them.
        title: Title of the figure.

    Returns:
        A matplotlib figure; `figure.savefig("stability.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no maps.
    """
    named = maps if isinstance(maps, Mapping) else {"": maps}
    _check_any(named, "maps", "results of kseq.training.stability_map by name")
    figure = new_figure(1.2 + 2.8 * len(named), 3.2)
    every = np.atleast_1d(figure.subplots(1, len(named), sharey=True))
    most = max(2, *(int(each.stable.max()) for each in named.values()))
    images = [
        axes.pcolormesh(each.weights, each.biases, each.stable.T, cmap="viridis", vmin=0, vmax=most)
        for axes, each in zip(every, named.values(), strict=True)
    ]
    for axes, name in zip(every, named, strict=True):
        axes.set_xlabel("weight")
        axes.set_title(name)
    every[0].set_ylabel("bias")
    figure.suptitle(title)
    figure.colorbar(images[0], ax=list(every), label="stable fixed points", ticks=range(most + 1))
    return figure


def _frame(width: float, height: float, across: str, up: str, title: str) -> "tuple[Figure, Axes]":
    """Return a figure of the given size in inches, and its one pair of axes with their labels."""
    figure = new_figure(width, height)
    axes = figure.subplots()
    axes.set(xlabel=across, ylabel=up, title=title)
    return figure, axes


def _check_any(values: Mapping[str, Any], name: str, expected: str) -> None:
    """Raise ValueError if there is nothing to draw."""
    if not values:
        raise ValueError(f"There is nothing to draw in {name}: expected {expected}.")
