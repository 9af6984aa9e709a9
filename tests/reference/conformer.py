"""A Conformer layer (Gulati et al. 2020), row by row without padding."""

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def layer_norm(x, weights):
    gamma, beta = weights
    mean, variance = x.mean(axis=-1, keepdims=True), x.var(axis=-1, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta


def feed_forward(x, weights):
    kernel, bias, output_kernel, output_bias = weights
    wide = x @ kernel + bias
    return (wide * sigmoid(wide)) @ output_kernel + output_bias


def depthwise(x, kernel):
    """Return the sum over the places of the kernel `(width, dim)`, centred at each step of `x` `(time, dim)`."""
    width, result = len(kernel), np.zeros_like(x)
    for step in range(len(x)):
        for place in range(width):
            read = step - (width - 1) // 2 + place
            if 0 <= read < len(x):
                result[step] += x[read] * kernel[place]
    return result


def convolution(rows, weights, moments):
    """Return the convolution of each row; `moments` is (mean, variance), or None for the batch's."""
    gate_kernel, gate_bias, kernel, output_kernel, output_bias, gamma, beta = weights
    convolved = []
    for x in rows:
        linear, gate = np.split(x @ gate_kernel + gate_bias, 2, axis=-1)
        convolved.append(depthwise(linear * sigmoid(gate), kernel))
    together = np.concatenate(convolved)
    mean, variance = (together.mean(axis=0), together.var(axis=0)) if moments is None else moments
    normal = [gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta for x in convolved]
    return [(x * sigmoid(x)) @ output_kernel + output_bias for x in normal], mean, variance


def conformer_layer(rows, weights, attend, moments=None):
    """Return the outputs of each row, and the mean and variance of batch normalisation.

    Args:
        rows: Arrays `(time, dim)`.
        weights: The lists of weights of each part, by name.
        attend: The self-attention of a row.
        moments: The moving averages (mean, variance), or None in training.
    """
    rows = [x + feed_forward(layer_norm(x, weights["feed_forward_norm"]), weights["feed_forward"]) / 2 for x in rows]
    rows = [x + attend(layer_norm(x, weights["attention_norm"])) for x in rows]
    normal = [layer_norm(x, weights["convolution_norm"]) for x in rows]
    convolved, mean, variance = convolution(normal, weights["convolution"], moments)
    rows = [x + more for x, more in zip(rows, convolved, strict=True)]
    norm, part = weights["second_feed_forward_norm"], weights["second_feed_forward"]
    rows = [x + feed_forward(layer_norm(x, norm), part) / 2 for x in rows]
    return [layer_norm(x, weights["output_norm"]) for x in rows], mean, variance
