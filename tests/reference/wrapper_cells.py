"""Cells around cells in NumPy: what they make of another cell's step, or of its inputs' projection."""

import numpy as np


def zoneout(new, old, kept):
    """Each state: the old value where it is kept (0 or 1), or in expectation, kept being the rate."""
    return tuple(k * before + (1 - k) * after for k, before, after in zip(kept, old, new, strict=True))


def run_zoneout(step, x, state, kept, weights):
    """Outputs `(batch, time, units)` and final states; `kept[state][batch, time, unit]`, or a rate for each state."""
    outputs = []
    for time in range(x.shape[1]):
        now = [k if np.isscalar(k) else k[:, time] for k in kept]
        state = zoneout(step(x[:, time], state, *weights), state, now)
        outputs.append(state[0])
    return np.stack(outputs, axis=1), state


def lstm_step_with_dropped_hidden(lstm_step, mask):
    """The step of an LSTM whose recurrent map sees `mask * h`; nothing else of it uses h."""

    def step(x, state, *weights):
        h, c = state
        return lstm_step(x, (mask * h, c), *weights)

    return step


def batch_norm(values, real, gamma, epsilon):
    """Normalise `values` `(batch, time, units)` by the mean and variance of each unit over the real steps alone."""
    steps = values[real]  # (real steps of all rows, units)
    mean, variance = steps.mean(axis=0), steps.var(axis=0)
    return gamma * (values - mean) / np.sqrt(variance + epsilon), mean, variance
