"""The states that a model carries from one batch of continued texts to the next."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops, tree

from kseq.backend import Tensor, num_replicas, strategy_scope
from kseq.masking import align_mask


class CarriedStates:
    """Variables with the states after the last batch, for training and for evaluation, by the number of rows.

    They are no weights: files do not hold them, and no gradient passes through them, so backpropagation through time
    ends at the begin of a batch.
    """

    def __init__(self):
        self._states: dict[tuple[bool, int], Any] = {}

    @property
    def variables(self) -> list:
        """All variables, as a flat list."""
        return [variable for state in self._states.values() for variable in tree.flatten(state)]

    def create(self, initial_state: Callable[[int], Any], batch: int, *, training: bool) -> None:
        """Create the variables of a number of rows, unless there are some; not while a graph is traced."""
        if (training, batch) not in self._states:
            self._states[training, batch] = tree.map_structure(_variable, initial_state(batch))

    def create_for(self, model: Any, rows: Any, *, training: bool) -> None:
        """Create the variables of batches of a number of rows, which the replicas of a model's strategy share.

        Raises:
            ValueError: If the replicas cannot share them evenly.
        """
        with strategy_scope(model):
            if rows % num_replicas():
                raise ValueError(
                    f"Batches of {rows} rows that go on from batch to batch cannot be shared evenly by "
                    f"{num_replicas()} replicas. Give batches of a multiple of {num_replicas()} rows."
                )
            self.create(model.initial_state, rows // num_replicas(), training=training)

    def has(self, batch: int | None, *, training: bool) -> bool:
        """Return whether there are variables for a number of rows."""
        return (training, batch) in self._states

    def begin(self, batch: int, start: Any, restart: Tensor | None, *, training: bool) -> Any:
        """Return the state before a batch: that after the last one, or `start` in the rows `restart`, bool `(batch,)`.

        Args:
            batch: Number of rows.
            start: The initial state.
            restart: None if no row begins anew.
            training: Whether the batch is one of training.
        """
        carried = tree.map_structure(ops.convert_to_tensor, self._states[training, batch])
        if restart is None:
            return carried
        return tree.map_structure(lambda new, old: ops.where(align_mask(restart, new), new, old), start, carried)

    def keep(self, batch: int, state: Any, *, training: bool) -> None:
        """Store the state after a batch."""
        for variable, value in zip(tree.flatten(self._states[training, batch]), tree.flatten(state), strict=True):
            variable.assign(ops.cast(value, variable.dtype))


def _variable(value: Tensor) -> keras.Variable:
    dtype = keras.backend.standardize_dtype(value.dtype)
    return keras.Variable(ops.zeros(value.shape, dtype), dtype=dtype, trainable=False, name="carried_state")
