"""Convolutional LSTM in NumPy, with the convolution computed position by position."""

import itertools

import numpy as np

from tests.reference.recurrence import sigmoid


def convolve(x, kernel):
    """Convolve one signal (*spatial, channels) with a kernel (*window, channels, filters), padded to the same size."""
    spatial, window = x.shape[:-1], kernel.shape[:-2]
    result = np.zeros((*spatial, kernel.shape[-1]))
    for place in itertools.product(*map(range, spatial)):
        for offset in itertools.product(*map(range, window)):
            source = tuple(p + o - (w - 1) // 2 for p, o, w in zip(place, offset, window, strict=True))
            if all(0 <= s < size for s, size in zip(source, spatial, strict=True)):
                result[place] += x[source] @ kernel[offset]
    return result


def conv_lstm_step(x, state, kernel, recurrent_kernel, bias):
    """Run one step of one row: x (*spatial, channels), states (*spatial, filters)."""
    h, c = state
    i, f, g, o = np.split(convolve(x, kernel) + bias + convolve(h, recurrent_kernel), 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c
