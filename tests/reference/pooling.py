"""Poolings of sequences, row by row and step by step."""

import numpy as np


def pooled_row(values: np.ndarray, pooling: str, weights: list | tuple = (), *, bidirectional: bool = False):
    """Return the pooled values of one row without padding, `(dim,)` of `(time, dim)`."""
    if not len(values):
        return np.zeros(values.shape[1])
    if pooling == "last" and bidirectional:
        half = values.shape[1] // 2
        return np.concatenate([values[-1, :half], values[0, half:]])
    if pooling == "last":
        return values[-1]
    if pooling == "max":
        return values.max(axis=0)
    if pooling == "attention":
        kernel, bias, query = weights
        scores = [query @ np.tanh(step @ kernel + bias) for step in values]
        shares = np.exp(scores) / np.sum(np.exp(scores))
        return sum(share * step for share, step in zip(shares, values, strict=True))
    total = sum(values)
    return total / len(values) if pooling == "mean" else total
