"""Recurrences that are linear in the state, one step after the other, in float64."""

import numpy as np


def linear_recurrence(decay, increments, initial):
    """All states `(time, batch, units)` of h_t = decay_t * h_{t-1} + increments_t."""
    states, state = [], np.asarray(initial, "float64")
    for a, b in zip(np.asarray(decay, "float64"), np.asarray(increments, "float64"), strict=True):
        state = a * state + b
        states.append(state)
    return np.array(states)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def min_gru(x, kernel, bias, state):
    z, n = np.split(x @ kernel + bias, 2, axis=-1)
    return (1.0 - sigmoid(z)) * state + sigmoid(z) * n


def min_lstm(x, kernel, bias, state):
    f, i, n = np.split(x @ kernel + bias, 3, axis=-1)
    f, i = sigmoid(f), sigmoid(i)
    return f / (f + i) * state + i / (f + i) * n


def rg_lru(x, kernel, bias, decay_logit, state):
    r, i, n = np.split(x @ kernel + bias, 3, axis=-1)
    a = sigmoid(decay_logit) ** (8.0 * sigmoid(r))
    return a * state + np.sqrt(1.0 - a**2) * sigmoid(i) * n
