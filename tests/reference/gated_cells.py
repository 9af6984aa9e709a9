"""Variants of LSTM and GRU in NumPy, following the papers' equations, with weights in the order of the kseq cells."""

import numpy as np

from tests.reference.recurrence import sigmoid

EPSILON = 1e-3


def peephole_lstm_step(x, state, kernel, recurrent_kernel, bias, pi, pf, po):
    h, c = state
    i, f, g, o = np.split(x @ kernel + bias + h @ recurrent_kernel, 4, axis=-1)
    new = sigmoid(f + pf * c) * c + sigmoid(i + pi * c) * np.tanh(g)
    return sigmoid(o + po * new) * np.tanh(new), new


def coupled_lstm_step(x, state, kernel, recurrent_kernel, bias):
    h, c = state
    f, g, o = np.split(x @ kernel + bias + h @ recurrent_kernel, 3, axis=-1)
    f = sigmoid(f)
    c = f * c + (1.0 - f) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def projection_lstm_step(x, state, kernel, recurrent_kernel, bias, projection):
    h, c = state
    i, f, g, o = np.split(x @ kernel + bias + h @ recurrent_kernel, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return (sigmoid(o) * np.tanh(c)) @ projection, c


def normalise(v):
    return (v - np.mean(v)) / np.sqrt(np.mean((v - np.mean(v)) ** 2) + EPSILON)


def layer_norm_lstm_step(x, state, kernel, recurrent_kernel, bias, a1, a2, a3, b3):
    h, c = state
    i, f, g, o = np.split(normalise(x @ kernel) * a1 + normalise(h @ recurrent_kernel) * a2 + bias, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(normalise(c) * a3 + b3), c


def layer_norm_gru_step(x, state, kernel, recurrent_kernel, bias, a, a_recurrent):
    (h,) = state
    units = len(h)

    def apart(v, gain, offset):
        gates, candidate = normalise(v[: 2 * units]), normalise(v[2 * units :])
        return np.split(np.concatenate([gates, candidate]) * gain + offset, 3)

    xz, xr, xn = apart(x @ kernel, a, bias[0])
    hz, hr, hn = apart(h @ recurrent_kernel, a_recurrent, bias[1])
    z, r = sigmoid(xz + hz), sigmoid(xr + hr)
    return (z * h + (1.0 - z) * np.tanh(xn + r * hn),)
