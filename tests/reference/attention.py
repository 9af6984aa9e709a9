"""Attention in NumPy, with the papers' equations for one query and one source step at a time."""

import numpy as np


def additive_score(query, value, query_kernel, bias, memory_kernel, v, gain=None):
    if gain is not None:
        v = gain * v / np.sqrt(np.sum(v**2))
    return v @ np.tanh(query @ query_kernel + bias + value @ memory_kernel)


def dot_product_score(query, value, *, scale, kernel=None):
    key = value if kernel is None else value @ kernel
    return query @ key / (np.sqrt(len(query)) if scale else 1.0)


def attend(score, queries, values, mask):
    """Return contexts and weights of `queries` (batch, queries, dim) over `values` (batch, time, dim)."""
    contexts = np.zeros((*queries.shape[:2], values.shape[-1]))
    weights = np.zeros((*queries.shape[:2], values.shape[1]))
    for row in range(len(values)):
        steps = np.flatnonzero(mask[row])
        for place, query in enumerate(queries[row]):
            exponentials = np.exp([score(query, values[row, step]) for step in steps])
            for step, share in zip(steps, exponentials / exponentials.sum(), strict=True):
                weights[row, place, step] = share
                contexts[row, place] += share * values[row, step]
    return contexts, weights
