"""Batches of a generator, a `keras.utils.PyDataset` or a `tf.data.Dataset`, each checked before Keras converts it.

Keras casts every batch to the dtypes of the first one, so a compiled training step would not see that an id is 4.9.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras

from kseq.ids import NO_ID, known_integers
from kseq.masking import known_shape
from kseq.models.inputs.model_inputs import InputNames
from kseq.models.inputs.token_checks import check_ends, integer_array


def checked_batches(data: Any, check: Callable[[Any], None]) -> Any:
    """Return `data`, a generator or a `PyDataset`, with a check of each batch; anything else as it is."""

    def checked(batch: Any) -> Any:
        check(batch)
        return batch

    return mapped_batches(data, checked)


def mapped_batches(data: Any, function: Callable[[Any], Any]) -> Any:
    """Return `data`, a generator or a `PyDataset`, with a function of each batch; anything else as it is."""
    if isinstance(data, keras.utils.PyDataset):
        return _MappedDataset(data, function)
    return (function(batch) for batch in data) if hasattr(data, "__next__") else data


def check_integers(names: InputNames, batch: Any) -> None:
    """Raise ValueError if ids, labels or lengths of a batch are not integers that fit into int32."""
    inputs = keras.utils.unpack_x_y_sample_weight(batch)[0]
    of_integers = {names.y, *names.ends, *names.words, *names.lengths.values()} - {*names.per_row, *names.numbers}
    for name in of_integers.intersection(inputs) if isinstance(inputs, Mapping) else ():
        known = known_integers(inputs[name], name)
        if known is not None and known.size and not -NO_ID <= known.min() <= known.max() <= NO_ID:
            raise ValueError(f"{name} has values from {known.min()} to {known.max()}, which do not fit into int32.")


class TargetEnds:
    """The tokens with which targets begin and end, and the check of batches for them.

    Args:
        bos_id: Id of the begin token.
        eos_id: Id of the end token.
    """

    names = "target", "target_lengths"

    def __init__(self, bos_id: int, eos_id: int):
        self.bos_id, self.eos_id = bos_id, eos_id

    def check(self, inputs: Any) -> None:
        """Raise ValueError if a target lacks its begin or end token; arrays of other shapes are refused elsewhere."""
        if arrays := self._arrays(inputs):
            self._check(*arrays)

    def checked(self, dataset: Any) -> Any:
        """Return a `tf.data.Dataset` with a check of each batch that has no labels besides the inputs.

        TensorFlow raises an error of its own for a wrong batch; the ValueError is in the attribute `refusals` of the
        result. Any other dataset is returned as it is.
        """
        if not hasattr(dataset, "map") or not self._tensors(dataset.element_spec):
            return dataset
        from kseq.backend.tensorflow_data import checked_dataset, have_ends  # read by every backend's training

        have = partial(have_ends, bos_id=self.bos_id, eos_id=self.eos_id)
        return checked_dataset(dataset, self._tensors, have, self._check)

    def _tensors(self, batch: Any) -> list[Any]:
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
        return self._arrays(inputs) if labels is None else []

    def _arrays(self, inputs: Any) -> list[Any]:
        """Return the target `(batch, time)` and its lengths `(batch,)`; an empty list if a batch has no such arrays."""
        if not isinstance(inputs, Mapping) or any(name not in inputs for name in self.names):
            return []
        arrays = [inputs[name] for name in self.names]
        shapes = [known_shape(array) if hasattr(array, "shape") else () for array in arrays]
        fit = [shape is None or len(shape) == rank for shape, rank in zip(shapes, (2, 1), strict=True)]
        return arrays if all(fit) else []

    def _check(self, target: Any, lengths: Any) -> None:
        names = self.names
        check_ends(integer_array(target, names[0]), integer_array(lengths, names[1]), self.bos_id, self.eos_id)


class _MappedDataset(keras.utils.PyDataset):
    """A `PyDataset` with a function of each batch of another one."""

    def __init__(self, data: keras.utils.PyDataset, function: Callable[[Any], Any]):
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data, self.function = data, function

    @property
    def num_batches(self) -> Any:
        """The number of batches."""
        return self.data.num_batches

    def __getitem__(self, index: int) -> Any:
        return self.function(self.data[index])

    def on_epoch_begin(self) -> None:
        """Begin an epoch."""
        self.data.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """End an epoch."""
        self.data.on_epoch_end()
