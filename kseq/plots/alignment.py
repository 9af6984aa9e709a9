"""Heat maps of frames with the spans of their labels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kseq.plots.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    figure = new_figure(1.5 + 0.9 * max(seconds, len(labels)), 3.2 if rows is None else 2.0 + 0.2 * features)
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
