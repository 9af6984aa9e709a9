"""Losses of distillation and of attention weights in plain NumPy, one step at a time."""

import numpy as np


def softmax(logits):
    exponentials = np.exp(logits - np.max(logits))
    return exponentials / exponentials.sum()


def soft_target_loss(teacher, logits, temperature):
    """Return T ** 2 KL(p || q) of one step."""
    p, q = (softmax(np.asarray(each, "float64") / temperature) for each in (teacher, logits))
    return temperature**2 * sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def guided_alignment_loss(weights, alignments, kind):
    """Return the loss of one target step, whose source positions are given."""
    if not np.sum(alignments):
        return 0.0
    shares = alignments / np.sum(alignments)
    if kind == "mean_squared":
        return 0.5 * np.sum((shares - weights) ** 2)
    return -sum(share * np.log(weight + 1e-9) for share, weight in zip(shares, weights, strict=True) if share)


def diagonal_attention_loss(weights, step, target_length, source_length, width):
    """Return the loss of one target step."""
    return sum(
        weights[j] * (1 - np.exp(-((step / target_length - j / source_length) ** 2) / (2 * width**2)))
        for j in range(source_length)
    )


def coverage_loss(weights):
    """Return the loss of one row, `(target time, source time)`."""
    coverage, total = np.zeros(weights.shape[1]), 0.0
    for step in weights:
        total += np.minimum(step, coverage).sum()
        coverage = coverage + step
    return total
