"""Losses of attention weights: against alignments, against a diagonal, and of repeated attention."""

from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.masking import mask_from_lengths
from kseq.numbers import real

LEAST_WEIGHT = 1e-9  # added before the logarithm, so that a weight of 0 has a finite loss and a gradient
KINDS = ("cross_entropy", "mean_squared")


def guided_alignment_loss(weights: Tensor, alignments: Tensor, *, kind: str = "cross_entropy") -> Tensor:
    """Return the distance of attention weights from alignments, for each target step (Chen et al. 2016).

    Alignments are divided by their sum over the source, so they may be 0 and 1. With A an alignment and a the weights:
    `-sum_j A_j * log a_j` for "cross_entropy", `0.5 * sum_j (A_j - a_j) ** 2` for "mean_squared".

    Args:
        weights: Float `(batch, target time, source time)`, attention weights.
        alignments: Float or int of the same shape, at least 0. A step whose alignments are all 0 has no alignment.
        kind: "cross_entropy" or "mean_squared".

    Returns:
        Float32 `(batch, target time)`, 0 for steps without an alignment. Where an alignment is negative, NaN or
        infinite, the loss is NaN, without a gradient. So it is if only a compiled graph knows that the source times
        differ.

    Raises:
        ValueError: If `kind` is unknown, or the shapes differ.

    Reference: W. Chen, E. Matusov, S. Khadivi, J. Peter, "Guided alignment training for topic-aware neural machine
    translation", 2016.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}, but it must be one of {KINDS}.")
    weights, alignments = (ops.cast(ops.convert_to_tensor(each), "float32") for each in (weights, alignments))
    _check_shapes(weights, alignments)
    usable = ops.all(ops.logical_and(alignments >= 0, alignments < np.inf), axis=-1)  # False for NaN too
    alignments = ops.stop_gradient(ops.where(usable[..., None], alignments, 0.0))
    total = ops.sum(alignments, axis=-1, keepdims=True)
    aligned = total > 0
    shares = alignments / ops.where(aligned, total, 1.0)
    if kind == "cross_entropy":
        losses = -ops.sum(shares * ops.log(weights + LEAST_WEIGHT), axis=-1)
    else:
        losses = 0.5 * ops.sum(ops.square(shares - ops.where(aligned, weights, 0.0)), axis=-1)
    fits = ops.equal(ops.shape(alignments)[2], ops.shape(weights)[2])  # what a graph of unknown sizes does not tell
    return ops.where(ops.logical_and(usable, fits), losses, np.nan)


def diagonal_attention_loss(
    weights: Tensor, target_lengths: Tensor, source_lengths: Tensor, *, width: float = 0.2
) -> Tensor:
    """Return how far attention is from the diagonal, for each target step (guided attention, Tachibana et al. 2017).

    `sum_j a_nj * (1 - exp(-(n / N - j / T) ** 2 / (2 * width ** 2)))` for target step n of N and source step j of T.

    Args:
        weights: Float `(batch, target time, source time)`, attention weights.
        target_lengths: int `(batch,)`, N of each row.
        source_lengths: int `(batch,)`, T of each row.
        width: The distance from the diagonal, as a share of the lengths, at which the loss is 0.39; above 0.

    Returns:
        Float32 `(batch, target time)`, 0 in the padding.

    Raises:
        ValueError: If the width is not above 0.

    Reference: H. Tachibana, K. Uenoyama, S. Aihara, "Efficiently trainable text-to-speech system based on deep
    convolutional networks with guided attention", 2017.
    """
    width = check_width(width)
    weights = ops.cast(ops.convert_to_tensor(weights), "float32")
    (_, targets, sources), places = ops.shape(weights), []
    real = [mask_from_lengths(n, size) for n, size in ((target_lengths, targets), (source_lengths, sources))]
    for lengths, size in ((target_lengths, targets), (source_lengths, sources)):
        count = ops.cast(ops.maximum(ops.cast(lengths, "int32"), 1), "float32")
        places.append(ops.cast(ops.arange(size, dtype="int32"), "float32") / count[:, None])
    distance = places[0][:, :, None] - places[1][:, None, :]  # (batch, target time, source time)
    costs = 1.0 - ops.exp(-ops.square(distance) / (2.0 * width**2))
    both = ops.logical_and(real[0][:, :, None], real[1][:, None, :])
    return ops.sum(ops.where(both, weights, 0.0) * costs, axis=-1)


def coverage_loss(weights: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return how much each row attends again to what it has attended to before (See et al. 2017).

    `sum_t sum_j min(a_tj, c_tj)`, the coverage `c_t` being the sum of the weights of the target steps before t.

    Args:
        weights: Float `(batch, target time, source time)`, attention weights.
        mask: Bool `(batch, target time)`, True at the real target steps; None if all are. The weights of other steps,
            even NaN, do not count.

    Returns:
        Float32 `(batch,)`.

    Reference: A. See, P. Liu, C. Manning, "Get to the point: summarization with pointer-generator networks", 2017.
    """
    weights = ops.cast(ops.convert_to_tensor(weights), "float32")
    if mask is not None:
        weights = ops.where(ops.cast(mask, "bool")[:, :, None], weights, 0.0)
    before = ops.cumsum(weights, axis=1) - weights
    return ops.sum(ops.minimum(weights, before), axis=(1, 2))


def check_width(width: Any) -> float:
    """Return the width of a diagonal as a float, or raise ValueError if it is not above 0."""
    number = real("width", width)
    if number < 1e-3:
        raise ValueError(f"width={number}, but it must be above 0, and 0.001 at least.")
    return number


def _check_shapes(weights: Tensor, alignments: Tensor) -> None:
    shapes = tuple(weights.shape), tuple(alignments.shape)
    if len(shapes[0]) != len(shapes[1]) or any(a != b for a, b in zip(*shapes, strict=True) if None not in (a, b)):
        raise ValueError(
            f"The attention weights have shape {shapes[0]}, but the alignments have {shapes[1]}: there is one for each "
            "target token after the first, and each position of the encoder's outputs."
        )
