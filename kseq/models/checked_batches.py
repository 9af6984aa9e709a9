"""Batches of Python's making, each checked before Keras converts it: of a generator, and of a `keras.utils.PyDataset`.

Keras casts every batch to the dtypes of the first one, so a compiled training step would not see that an id is 4.9.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import keras

from kseq.ids import NO_ID, known_integers
from kseq.models.model_inputs import InputNames


def checked_batches(data: Any, names: InputNames) -> Any:
    """Return `data`, a generator or a `PyDataset`, with a check of each batch; anything else as it is.

    Iterating raises ValueError if ids, labels or lengths of a batch are not integers that fit into int32.
    """
    check = partial(check_batch, names)
    if isinstance(data, keras.utils.PyDataset):
        return _CheckedDataset(data, check)
    return _checked_generator(data, check) if hasattr(data, "__next__") else data


def check_batch(names: InputNames, batch: Any) -> None:
    """Raise ValueError if ids, labels or lengths of a batch are not integers that fit into int32."""
    inputs = keras.utils.unpack_x_y_sample_weight(batch)[0]
    of_integers = {names.y, *names.ends, *names.words, *names.lengths.values()}
    for name in of_integers.intersection(inputs) if isinstance(inputs, Mapping) else ():
        known = known_integers(inputs[name], name)
        if known is not None and known.size and not -NO_ID <= known.min() <= known.max() <= NO_ID:
            raise ValueError(f"{name} has values from {known.min()} to {known.max()}, which do not fit into int32.")


def _checked_generator(batches: Iterator[Any], check: Callable[[Any], None]) -> Iterator[Any]:
    for batch in batches:
        check(batch)
        yield batch


class _CheckedDataset(keras.utils.PyDataset):
    """A `PyDataset` that checks each batch of another one."""

    def __init__(self, data: keras.utils.PyDataset, check: Callable[[Any], None]):
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data, self.check = data, check

    @property
    def num_batches(self) -> Any:
        """The number of batches."""
        return self.data.num_batches

    def __getitem__(self, index: int) -> Any:
        batch = self.data[index]
        self.check(batch)
        return batch

    def on_epoch_begin(self) -> None:
        """Begin an epoch."""
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """End an epoch."""
        self.data.on_epoch_end()
