"""Linear recurrences and their cells in NumPy, following the papers' equations step by step."""

import numpy as np

from tests.reference.recurrence import sigmoid


def states(decay, increments, initial, mask=None, *, reverse=False):
    """Return all states (time, batch, units), computed step by step and held where the mask (time, batch) is False."""
    found, state = np.zeros_like(increments), initial
    for time in range(len(decay))[:: -1 if reverse else 1]:
        new = decay[time] * state + increments[time]
        state = new if mask is None else np.where(mask[time][:, None], new, state)
        found[time] = state
    return found


def min_gru_step(x, state, kernel, bias, activation=lambda n: n):
    (h,) = state
    z, n = np.split(x @ kernel + bias, 2, axis=-1)
    z = sigmoid(z)
    return ((1.0 - z) * h + z * activation(n),)


def min_lstm_step(x, state, kernel, bias, activation=lambda n: n):
    (h,) = state
    f, i, n = np.split(x @ kernel + bias, 3, axis=-1)
    f, i = sigmoid(f), sigmoid(i)
    return (f / (f + i) * h + i / (f + i) * activation(n),)


def rg_lru_step(x, state, kernel, bias, decay_logit):
    (h,) = state
    r, i, n = np.split(x @ kernel + bias, 3, axis=-1)
    a = sigmoid(decay_logit) ** (8.0 * sigmoid(r))
    return (a * h + np.sqrt(1.0 - a**2) * sigmoid(i) * n,)
