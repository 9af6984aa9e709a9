"""Heat maps of attention."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kseq.plots.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS_IN_A_ROW = 6  # of pictures side by side
LONGEST_FLAT_TOKEN = 2  # characters; longer tokens under a heat map stand upright, since they would overlap


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
    figure = new_figure(1.5 + 0.3 * len(source), 1.2 + 0.3 * len(target))
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
    figure = new_figure(1.5 + len(weights) * (0.6 + 0.3 * widest), 1.4 + 0.3 * len(target))
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
    figure = new_figure(1.6 * columns, 0.4 + lines * (0.3 + 1.6 * height / width))
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


def _draw_weights(axes: Any, source: Sequence[str], target: Sequence[str], weights: np.ndarray) -> Any:
    """Draw weights and tokens, and return the image."""
    image = axes.imshow(weights[: len(target), : len(source)], cmap="viridis", vmin=0.0, vmax=1.0, aspect="auto")
    rotation = 90 if any(len(token) > LONGEST_FLAT_TOKEN for token in source) else 0
    axes.set_xticks(range(len(source)), list(source), rotation=rotation)
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
