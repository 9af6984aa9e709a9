"""Weights of labels by their class, of rows or of tokens."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from kseq.ids import from_bools, known_integers
from kseq.models.inputs.checked_batches import mapped_batches
from kseq.models.inputs.model_inputs import InputNames
from kseq.numbers import real, whole


class ClassWeights:
    """What Keras's `class_weight` means for labels of rows or of tokens: their `sample_weight`.

    Args:
        by_class: Class -> weight; other classes have weight 1.
        num_classes: Number of classes.
        names: Names of the model's inputs.

    Raises:
        ValueError: If a key is no class, or a weight no number of at least 0.
    """

    def __init__(self, by_class: Any, num_classes: int, names: InputNames):
        if not isinstance(by_class, Mapping):
            raise ValueError(f"class_weight={by_class!r} must be a dict: class -> weight.")
        by_class = {
            whole("a class of class_weight", key): real(f"class_weight[{key}]", weight)
            for key, weight in by_class.items()
        }
        if unknown := sorted(set(by_class) - set(range(num_classes))):
            raise ValueError(f"class_weight has weights for {unknown}, but the classes are 0 to {num_classes - 1}.")
        if negative := {key: weight for key, weight in by_class.items() if weight < 0}:
            raise ValueError(f"class_weight has {negative}, but a weight is at least 0.")
        # Labels that are no class, which other checks find, or which the loss ignores, have the last weight.
        self.table = np.array([by_class.get(each, 1.0) for each in range(num_classes + 1)], "float32")
        self._name, self._per_row = names.y, names.y in names.per_row

    def of_arrays(self, labels: Any, given: Any, trained: int) -> np.ndarray:
        """Return the weights of arrays of labels, times those given, or None.

        Args:
            labels: Labels `(rows, ...)`.
            given: Weights `(rows,)` or of the shape of the labels, or None.
            trained: The number of rows, from the first one on, of which classes have weights; the others validate.
        """
        weights = self._of_known(labels)
        weights[trained:] = 1.0
        return _times(weights, None if given is None else _floats(given))

    def of_stream(self, data: Any) -> Any:
        """Return a dataset or generator of batches whose inputs contain the weights, or that have them beside `y`."""
        if not hasattr(data, "element_spec"):
            return mapped_batches(data, partial(self._of_batch, lookup=self._of_known, as_float=_floats))
        if not hasattr(data, "map"):
            raise ValueError(
                f"class_weight cannot be looked up in a {type(data).__name__}. Give sample_weight instead."
            )
        from kseq.backend.tensorflow_data import as_float, looked_up, mapped_dataset  # of every backend's training

        lookup = partial(looked_up, table=self.table, flat=self._per_row)
        return mapped_dataset(data, partial(self._of_batch, lookup=lookup, as_float=as_float))

    def _of_known(self, labels: Any) -> np.ndarray:
        known = known_integers(from_bools(labels), self._name, whole_floats=True)
        assert known is not None
        known = known.reshape(-1) if self._per_row else known
        return self.table[np.where((known < 0) | (known >= len(self.table)), len(self.table) - 1, known)]

    def _of_batch(self, batch: Any, lookup: Callable[[Any], Any], as_float: Callable[[Any], Any]) -> Any:
        """Return a batch with weights; `lookup` returns those of labels."""
        inputs, labels, given = keras.utils.unpack_x_y_sample_weight(batch)
        own = inputs.get("sample_weight") if labels is None else given
        weights = lookup(inputs[self._name] if labels is None else labels)
        weights = _times(weights, None if own is None else as_float(own))
        if labels is not None:
            return inputs, labels, weights
        inputs = {**inputs, "sample_weight": weights}
        return (inputs,) if isinstance(batch, tuple | list) else inputs


def _times(weights: Any, given: Any) -> Any:
    """Return the product of weights and those given, which are None, one for each row, or of the same shape."""
    if given is None:
        return weights
    fewer = len(weights.shape) - len(given.shape)
    return weights * (given[:, None] if fewer == 1 else given[:, 0] if fewer == -1 else given)


def _floats(values: Any) -> np.ndarray:
    return np.asarray(values, "float32")
