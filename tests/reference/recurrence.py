"""Recurrent cells in NumPy, following the papers' equations step by step."""

import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def simple_rnn_step(x, state, kernel, recurrent_kernel, bias):
    (h,) = state
    return (np.tanh(x @ kernel + bias + h @ recurrent_kernel),)


def lstm_step(x, state, kernel, recurrent_kernel, bias):
    h, c = state
    i, f, g, o = np.split(x @ kernel + bias + h @ recurrent_kernel, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(x, state, kernel, recurrent_kernel, bias):
    """Run a step with `reset_after=True`: the bias has two rows, for the input and the recurrent projection."""
    (h,) = state
    xz, xr, xn = np.split(x @ kernel + bias[0], 3, axis=-1)
    hz, hr, hn = np.split(h @ recurrent_kernel + bias[1], 3, axis=-1)
    z, r = sigmoid(xz + hz), sigmoid(xr + hr)
    return (z * h + (1.0 - z) * np.tanh(xn + r * hn),)


def gru_reset_before_step(x, state, kernel, recurrent_kernel, bias):
    """Run a step with `reset_after=False`: the reset gate multiplies the hidden state before the product."""
    (h,) = state
    units = h.shape[-1]
    xz, xr, xn = np.split(x @ kernel + bias, 3, axis=-1)
    z = sigmoid(xz + h @ recurrent_kernel[:, :units])
    r = sigmoid(xr + h @ recurrent_kernel[:, units : 2 * units])
    return (z * h + (1.0 - z) * np.tanh(xn + (r * h) @ recurrent_kernel[:, 2 * units :]),)


def run(step, x, lengths, state, weights):
    """Return outputs (batch, time, units), zero in the padding, and final states; each row runs by itself."""
    outputs, finals = np.zeros((*x.shape[:2], state[0].shape[-1])), [s.copy() for s in state]
    for row, length in enumerate(lengths):
        current = tuple(s[row] for s in state)
        for time in range(length):
            current = step(x[row, time], current, *weights)
            outputs[row, time] = current[0]
        for final, value in zip(finals, current, strict=True):
            final[row] = value
    return outputs, finals
