"""One of the processes of `test_jax.py`, which train together under `keras.distribution` on JAX.

usage: KERAS_BACKEND=jax python -m tests.distribution.jax_processes FILE COUNT INDEX ADDRESS; writes the losses to FILE
"""

import pathlib
import sys

import keras
import numpy as np

from tests.distribution.trainings import tagged, tagger, train


def main(file: pathlib.Path, count: int, index: int, address: str) -> None:
    """Train a tagger, and save the losses of the epochs, the evaluation and the weights."""
    if count > 1:
        keras.distribution.initialize(address, num_processes=count, process_id=index)
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    np.savez(file, **train(tagger, lambda: tagged(shuffle=True, seed=1)))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
