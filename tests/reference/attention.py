"""Attention in NumPy, with the papers' equations for one query and one source step at a time."""

import numpy as np


def additive_score(query, value, query_kernel, bias, memory_kernel, v, gain=None, extra=0.0):
    if gain is not None:
        v = gain * v / np.sqrt(np.sum(v**2))
    return v @ np.tanh(query @ query_kernel + bias + value @ memory_kernel + extra)


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


def softmax(scores):
    exponentials = np.exp(scores - np.max(scores))
    return exponentials / exponentials.sum()


def location_features(weights, filters):
    """Return the convolution (time, filters) of weights (time,) with filters (size, filters)."""
    size = len(filters)
    features = np.zeros((len(weights), filters.shape[1]))
    for step in range(len(weights)):
        for place in range(size):
            if 0 <= step + place - size // 2 < len(weights):
                features[step] += weights[step + place - size // 2] * filters[place]
    return features


def attend_by_weights(score, queries, values, *, extra, combine):
    """Return the weights of consecutive queries over one source, of which each depends on those before.

    Args:
        score: `(query, value, extra) -> score`.
        queries: `(queries, dim)`.
        values: `(time, dim)`, without padding.
        extra: `(seen (time,)) -> (time, dim)`, what is added to the keys.
        combine: `(seen, weights) -> seen`.
    """
    seen, every = np.zeros(len(values)), []
    for query in queries:
        added = extra(seen)
        weights = softmax([score(query, value, added[step]) for step, value in enumerate(values)])
        seen = combine(seen, weights)
        every.append(weights)
    return np.array(every)


def expected_alignments(stopping, before):
    """Return the probabilities that a query stops at each step, by its definition.

    Args:
        stopping: `(time,)`, the probability to stop at a step that is looked at.
        before: `(time,)`, the probability that the query before stopped there.
    """
    weights = np.zeros(len(before), "float64")
    for start in range(len(before)):
        here = float(before[start])
        for step in range(start, len(before)):
            weights[step] += here * float(stopping[step])
            here *= 1.0 - float(stopping[step])
    return weights


def hard_alignment(energies, start):
    """Return the first step from `start` on with an energy above 0, or None."""
    return next((step for step in range(start, len(energies)) if energies[step] > 0), None)


def rotate(vector, position):
    """Rotate each pair of dimensions i and i + dim / 2 by `position * 10000 ** (-2 i / dim)` (Su et al. 2021)."""
    half = len(vector) // 2
    rotated = np.zeros(len(vector))
    for i in range(half):
        angle = position * 10_000 ** (-2 * i / len(vector))
        a, b = vector[i], vector[i + half]
        rotated[i], rotated[i + half] = a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)
    return rotated


def multi_head(values, weights, *, positions, causal, mask):
    """Return contexts and mean weights of self-attention over `values` (batch, time, dim), head by head.

    The weights are the kernels (dim, heads, size) and biases (heads, size) of query, key and value; the kernel (heads,
    size, units) and bias of the output; and for relative positions the vector of each distance (Shaw et al. 2018).
    """
    query_kernel, query_bias, key_kernel, key_bias, value_kernel, value_bias, kernel, bias, *table = weights
    heads, kv_heads = query_kernel.shape[1], key_kernel.shape[1]
    contexts = np.zeros((*values.shape[:2], len(bias)))
    shown = np.zeros((*values.shape[:2], values.shape[1]))
    for row, place in np.ndindex(values.shape[:2]):
        steps = [step for step in np.flatnonzero(mask[row]) if step <= place or not causal]
        for head in range(heads if steps else 0):
            shared = head * kv_heads // heads
            query = values[row, place] @ query_kernel[:, head] + query_bias[head]
            scores = []
            for step in steps:
                key = values[row, step] @ key_kernel[:, shared] + key_bias[shared]
                if positions == "rotary":
                    product = rotate(query, place) @ rotate(key, step)
                else:
                    most = len(table[0]) // 2 if table else 0
                    vector = table[0][np.clip(step - place, -most, most) + most] if table else 0.0
                    product = query @ (key + vector)
                scores.append(product / np.sqrt(len(query)))
            exponentials = np.exp(scores)
            for step, share in zip(steps, exponentials / exponentials.sum(), strict=True):
                value = values[row, step] @ value_kernel[:, shared] + value_bias[shared]
                contexts[row, place] += share * value @ kernel[head]
                shown[row, place, step] += share / heads
        contexts[row, place] += bias
    return contexts, shown
