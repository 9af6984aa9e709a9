"""Timing of contenders that take turns in one process."""

import time

import numpy as np


def take_turns(functions, runs, *, rounds=2, twice=True):
    """Return the milliseconds of each function, `{name: [run, ...]}`; unmeasured rounds compile and warm up.

    An unmeasured call precedes each measured one, because the previous contender's threads may still be spinning;
    `twice=False` leaves it out, for calls that take seconds.
    """
    times = {name: [] for name in functions}
    for run in range(-rounds, runs):
        for name, function in functions.items():
            if twice:
                function()
            start = time.perf_counter()
            function()
            if run >= 0:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def median_and_spread(times):
    """Return the median and, in brackets, half the interquartile range, as a table's cell."""
    spread = np.subtract(*np.percentile(times, [75, 25])) / 2
    return f"{np.median(times):.1f} ({spread:.1f})"
