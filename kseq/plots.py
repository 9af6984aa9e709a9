"""Plots of attention, alignments and training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PANELS_IN_A_ROW = 6  # of pictures side by side


def attention_heat_map(
    source: Sequence[str], target: Sequence[str], weights: np.ndarray, *, title: str = ""
) -> "Figure":
    """Draw the attention of each target token over the source tokens.

    Args:
        source: The source's tokens, drawn left to right.
        target: The target's tokens, drawn top to bottom.
        weights: Float `(len(target) or more, len(source) or more)`, such as `Decoded.alignments[row, hypothesis]`;
            weights beyond the tokens are padding and are not drawn.
        title: Title of the plot.

    Returns:
        A matplotlib figure; `figure.savefig("attention.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are fewer weights than tokens.
    """
    weights = np.asarray(weights)
    _check_weights(weights, target, source)
    figure = _figure(1.5 + 0.3 * len(source), 1.2 + 0.3 * len(target))
    axes = figure.subplots()
    image = _draw_weights(axes, source, target, weights)
    axes.set_ylabel("written")
    axes.set_title(title)
    figure.colorbar(image, label="attention")
    return figure


def attention_heat_maps(
    source: Sequence[str] | Mapping[str, Sequence[str]],
    target: Sequence[str],
    weights: Mapping[str, np.ndarray] | np.ndarray,
    *,
    title: str = "",
) -> "Figure":
    """Draw several attentions of the same target side by side: of the heads of a mechanism, or of several mechanisms.

    Args:
        source: The source's tokens; or, if mechanisms read different sources, the tokens by the names in `weights`.
        target: The target's tokens, drawn top to bottom.
        weights: The weights by name, each as in `attention_heat_map`; or float `(heads, target, source)`, the weights
            of several heads.
        title: Title of the figure.

    Returns:
        A matplotlib figure; `figure.savefig("heads.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no weights, fewer weights than tokens, or no source of one of the names.

    Example:
        >>> _, weights, _ = kseq.attention.MultiHeadAttention(4, 8, head_weights=True)(queries, values)
        >>> attention_heat_maps("abc", "xy", weights[0]).savefig("heads.png")
    """
    if not isinstance(weights, Mapping):
        heads = np.asarray(weights)
        if heads.ndim != 3:
            raise ValueError(f"weights have shape {heads.shape}, but expected (heads, target, source) of one row.")
        weights = {f"head {number}": head for number, head in enumerate(heads, start=1)}
    sources = source if isinstance(source, Mapping) else dict.fromkeys(weights, source)
    if not weights or set(weights) - set(sources):
        raise ValueError(
            f"There are weights of {list(weights)}, but sources of {list(sources)}: give one of each name."
        )
    for name, each in weights.items():
        _check_weights(np.asarray(each), target, sources[name])
    widest = max(len(sources[name]) for name in weights)
    figure = _figure(1.5 + len(weights) * (0.6 + 0.3 * widest), 1.4 + 0.3 * len(target))
    every = np.atleast_1d(figure.subplots(1, len(weights), sharey=True))
    images = [
        _draw_weights(axes, sources[name], target, np.asarray(each))
        for axes, (name, each) in zip(every, weights.items(), strict=True)
    ]
    for axes, name in zip(every, weights, strict=True):
        axes.set_title(name)
    every[0].set_ylabel("written")
    figure.suptitle(title)
    figure.colorbar(images[0], ax=list(every), label="attention")
    return figure


def attention_over_picture(
    picture: np.ndarray, tokens: Sequence[str], weights: np.ndarray, *, title: str = ""
) -> "Figure":
    """Draw the attention of each written token over the picture that it was written for.

    Each token has a copy of the picture of its own, whose brightness is that of the weights: the cell with the largest
    weight is unchanged, cells without weight are dark.

    Args:
        picture: Float `(height, width, 3)` or `(height, width, 1)`, values from 0 to 1.
        tokens: The written tokens.
        weights: Float `(len(tokens) or more, rows, columns)`, such as `Decoded.alignments[row, hypothesis]`, reshaped
            to `(-1, *encoder.grid_shape)` of a `kseq.models.GridEncoder`; weights beyond the tokens are padding.
        title: Title of the figure.

    Returns:
        A matplotlib figure; `figure.savefig("attention.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If there are no tokens, fewer weights than tokens, or the picture has another shape.
    """
    picture, weights = np.asarray(picture, "float32"), np.asarray(weights, "float32")
    if picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise ValueError(
            f"The picture has shape {picture.shape}, but expected (height, width, 3) or (height, width, 1)."
        )
    if not len(tokens) or weights.ndim != 3 or len(weights) < len(tokens) or not weights.size:
        raise ValueError(
            f"weights have shape {weights.shape}, but {len(tokens)} tokens need at least ({len(tokens)}, rows, "
            "columns), of one row and hypothesis."
        )
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3)).clip(0.0, 1.0)
    height, width = picture.shape[:2]
    columns = min(len(tokens), PANELS_IN_A_ROW)
    lines = -(-len(tokens) // columns)
    figure = _figure(1.6 * columns, 0.4 + lines * (0.3 + 1.6 * height / width))
    every = np.atleast_1d(figure.subplots(lines, columns)).ravel()
    down, across = (
        np.arange(size) * cells // size for size, cells in zip((height, width), weights.shape[1:], strict=True)
    )
    for axes in every:
        axes.set_axis_off()
    for axes, token, weight in zip(every, tokens, weights, strict=False):
        shares = weight / max(weight.max(), 1e-9)
        axes.imshow(picture * (0.15 + 0.85 * shares[down][:, across, None]))
        axes.set_title(token)
    figure.suptitle(title)
    return figure


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
    figure = _figure(1.0 + 3.6 * len(names), 3.2)
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


def alignment_heat_map(
    values: np.ndarray,
    labels: Sequence[str],
    starts: np.ndarray,
    ends: np.ndarray,
    *,
    frame_rate: float,
    rows: Sequence[str] | None = None,
    boundaries: Sequence[float] = (),
    title: str = "",
) -> "Figure":
    """Draw the time span of each label as a bar above a heat map of the frames.

    Args:
        values: Float `(time, features)`, such as a spectrogram, or each class's probability in each frame.
        labels: The labels in order.
        starts: Float `(len(labels) or more,)`, each label's start in seconds, such as a row of the result of
            `kseq.alignment.alignment_spans`; NaN for a label without a span. Values beyond the labels are padding.
        ends: Each label's end in seconds, of the same shape.
        frame_rate: Frames of `values` per second.
        rows: A name for each feature; None draws no names.
        boundaries: Known times in seconds, drawn as dashed lines over the frames.
        title: Title of the plot.

    Returns:
        A matplotlib figure; `figure.savefig("alignment.png")` writes it.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If `values` is not a matrix, the frame rate is not positive, there are fewer starts or ends than
            labels, or the number of names differs from that of features.

    Example:
        >>> alignment = kseq.ctc_forced_align(labels, logits, label_lengths, logit_lengths)
        >>> starts, ends = kseq.alignment.alignment_spans(alignment, frame_rate=50.0)
        >>> alignment_heat_map(spectrogram, ["one", "two"], starts[0], ends[0], frame_rate=100.0).savefig("spans.png")
    """
    values, starts, ends = np.asarray(values), np.asarray(starts), np.asarray(ends)
    _check_spans(values, labels, starts, ends, frame_rate, rows)
    time, features = values.shape
    seconds = time / frame_rate
    figure = _figure(1.5 + 0.9 * max(seconds, len(labels)), 3.2 if rows is None else 2.0 + 0.2 * features)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 6))
    for label, start, end in zip(labels, starts, ends, strict=False):
        if not np.isfinite(start + end):
            continue
        above.broken_barh([(start, end - start)], (0, 1), edgecolor="black", facecolor="lightsteelblue")
        above.text((start + end) / 2, 0.5, label, horizontalalignment="center", verticalalignment="center")
    above.set_yticks([])
    above.set_title(title)
    image = below.imshow(values.T, cmap="viridis", aspect="auto", origin="lower", extent=(0, seconds, 0, features))
    for place in boundaries:
        below.axvline(place, color="white", linestyle="dashed", linewidth=1)
    if rows is None:
        below.set_yticks([])
    else:
        below.set_yticks(np.arange(features) + 0.5, list(rows))
    below.set_xlim(0, seconds)
    below.set_xlabel("seconds")
    figure.colorbar(image, ax=[above, below])
    return figure


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
    figure = _figure(7.2, 3.6)
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


def _figure(width: float, height: float) -> "Figure":
    """Return an empty figure of the given size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('Plots need matplotlib. Install it with `pip install "kseq[plots]"`.') from error
    return Figure(figsize=(width, height), layout="constrained")


def _draw_weights(axes: Any, source: Sequence[str], target: Sequence[str], weights: np.ndarray) -> Any:
    """Draw weights and tokens, and return the image."""
    image = axes.imshow(weights[: len(target), : len(source)], cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(source)), list(source))
    axes.set_yticks(range(len(target)), list(target))
    axes.set_xlabel("read")
    return image


def _check_weights(weights: np.ndarray, target: Sequence[str], source: Sequence[str]) -> None:
    """Raise ValueError if there are fewer weights than tokens."""
    if weights.ndim != 2 or weights.shape[0] < len(target) or weights.shape[1] < len(source):
        raise ValueError(
            f"weights have shape {weights.shape}, but {len(target)} target and {len(source)} source tokens need at "
            f"least ({len(target)}, {len(source)}). Choose one row and hypothesis of Decoded.alignments."
        )


def _check_spans(
    values: np.ndarray,
    labels: Sequence[str],
    starts: np.ndarray,
    ends: np.ndarray,
    frame_rate: float,
    rows: Sequence[str] | None,
) -> None:
    """Raise ValueError if labels, spans and frames do not match."""
    if values.ndim != 2 or not values.size:
        raise ValueError(f"values have shape {values.shape}, but must be (time, features), one row of a batch.")
    if not frame_rate > 0:
        raise ValueError(f"frame_rate={frame_rate}, but expected the number of frames per second, above 0.")
    if starts.ndim != 1 or starts.shape != ends.shape or len(starts) < len(labels):
        raise ValueError(
            f"starts and ends have shapes {starts.shape} and {ends.shape}, but {len(labels)} labels need at least "
            f"({len(labels)},) each. Choose one row of the result of alignment_spans."
        )
    if rows is not None and len(rows) != values.shape[1]:
        raise ValueError(f"rows has {len(rows)} names, but the frames have {values.shape[1]} features.")
