"""Wrapper cells in NumPy: functions of another cell's step or of its input projection."""

import numpy as np


def zoneout(new, old, kept):
    """Mix old and new states: `kept` is 1 where the old value stays and 0 elsewhere, or the rate in expectation."""
    return tuple(k * before + (1 - k) * after for k, before, after in zip(kept, old, new, strict=True))


def run_zoneout(step, x, state, kept, weights):
    """Return outputs `(batch, time, units)` and final states; `kept[state][batch, time, unit]`, or a rate per state."""
    outputs = []
    for time in range(x.shape[1]):
        now = [k if np.isscalar(k) else k[:, time] for k in kept]
        state = zoneout(step(x[:, time], state, *weights), state, now)
        outputs.append(state[0])
    return np.stack(outputs, axis=1), state


def lstm_step_with_dropped_hidden(lstm_step, mask):
    """Run a step of an LSTM whose recurrent projection uses `mask * h`; nothing else uses h."""

    def step(x, state, *weights):
        h, c = state
        return lstm_step(x, (mask * h, c), *weights)

    return step


def batch_norm(values, real, gamma, epsilon):
    """Normalise `values` `(batch, time, units)` by the mean and variance of each unit over the real steps alone."""
    steps = values[real]  # (real steps of all rows, units)
    mean, variance = steps.mean(axis=0), steps.var(axis=0)
    return gamma * (values - mean) / np.sqrt(variance + epsilon), mean, variance
