"""The adding problem: a GRU learns to add the two marked numbers of 200, up to 200 steps apart.

usage: python examples/adding_problem.py [--length 200] [--steps 1500] [--seed 0]

Each step has a number between 0 and 1 and a mark. Two steps are marked, one in each half, and the answer after the last
step is the sum of their numbers (S. Hochreiter, J. Schmidhuber, "Long short-term memory", 1997). The constant answer 1
has a mean squared error of 1/6; below 0.001 the problem counts as solved. Trains for a minute or two on two cores, then
prints a few new sequences, and the error on 2000 of them. Needs `pip install kseq`.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kseq


def make_sequences(count, length, generator):
    """`(inputs (count, length, 2), sums (count, 1))`; the inputs are numbers and marks."""
    numbers, marks, rows = generator.random((count, length)), np.zeros((count, length)), np.arange(count)
    marks[rows, generator.integers(0, length // 2, count)] = 1.0
    marks[rows, generator.integers(length // 2, length, count)] = 1.0
    sums = np.sum(numbers * marks, axis=1, keepdims=True)
    return np.stack([numbers, marks], axis=-1).astype("float32"), sums.astype("float32")


class Sequences(keras.utils.PyDataset):
    """New sequences for every training step, so that none can be memorised."""

    def __init__(self, steps, batch_size, length, seed):
        super().__init__()
        self.steps, self.batch_size, self.length, self.seed = steps, batch_size, length, seed

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        return make_sequences(self.batch_size, self.length, np.random.default_rng([self.seed, index]))


def make_model(length, units):
    """A GRU with chrono initialisation: the units start with time scales from 2 to `length` steps."""
    recipe = kseq.initializers.chrono_gru(longest=length) | kseq.initializers.orthogonal_gates()
    return keras.Sequential([keras.Input((None, 2)), kseq.layers.GRU(units, **recipe), keras.layers.Dense(1)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)

    model = make_model(options.length, options.units)
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.steps)
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), "mse", jit_compile=True)
    started = time.perf_counter()
    model.fit(Sequences(options.steps, options.batch_size, options.length, options.seed))
    seconds = time.perf_counter() - started

    inputs, sums = make_sequences(2000, options.length, np.random.default_rng([options.seed, options.steps]))
    predictions = model.predict(inputs, batch_size=500, verbose=0)
    for (numbers, marks), right, answer in zip(
        inputs[:5].transpose(0, 2, 1), sums[:5, 0], predictions[:5, 0], strict=True
    ):
        terms = " + ".join(f"{numbers[step]:.3f} (step {step})" for step in np.flatnonzero(marks))
        print(f"{terms} = {right:.3f}, predicted {answer:.3f}")
    print(f"Trained for {seconds:.0f} seconds. Mean squared error of always 1: {np.mean((sums - 1.0) ** 2):.4f}")
    error = np.mean((predictions - sums) ** 2)
    print(f"mean squared error on 2000 new sequences of {options.length} steps: {error:.6f}")


if __name__ == "__main__":
    main()
