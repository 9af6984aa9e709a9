"""Replicas on JAX, which divides the arrays of one step over devices: there is one."""

import contextlib
from typing import Any

import jax
import keras


def num_replicas() -> int:
    """Return 1."""
    return 1


def sum_over_replicas(value: Any) -> Any:
    """Return the value: a sum over an array is one over all devices."""
    return value


def of_first_replica(values: Any) -> Any:
    """Return the values."""
    return values


def add_gradients_first(optimizer: Any) -> None:
    """Do nothing: gradients are those of the whole batch."""


def of_all_replicas(values: Any) -> Any:
    """Return the values."""
    return values


def strategy_scope(model: Any) -> Any:
    """Return a context that changes nothing: variables are placed by `keras.distribution`."""
    return contextlib.nullcontext()


def parts_of_replicas(variable: Any) -> list[Any]:
    """Return the variable, which all devices have."""
    return [variable]


def process_of(model: Any) -> tuple[int, int]:
    """Return 0 and 1: datasets and states of trainings are those of one process."""
    return 0, 1


def batches_of_process(model: Any, dataset: Any) -> Any:
    """Return the dataset."""
    return dataset


def check_rows(sizes: set[int]) -> None:
    """Raise ValueError if the devices of this process cannot share batches of these numbers of rows evenly."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return
    devices = max(1, distribution.num_model_replicas // jax.process_count())
    if uneven := sorted(size for size in sizes if size % devices):
        raise ValueError(
            f"There are batches of {uneven} rows, which {devices} devices cannot share evenly, as JAX needs it. Give a "
            f"batch_size that is a multiple of {devices}, and leave out or complete a smaller last batch, as "
            "kseq.training.bucket_by_length does."
        )


def results_of_step(model: Any, results: Any) -> Any:
    """Return the results."""
    return results
