"""The base class of models that train under the distribution strategies of TensorFlow."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kseq.backend import (
    Tensor,
    add_gradients_first,
    batches_of_process,
    check_rows,
    num_replicas,
    of_first_replica,
    process_of,
    results_of_step,
    strategy_scope,
    sum_over_replicas,
)
from kseq.losses.reduced_loss import MEAN, ReducedLoss
from kseq.masking import implicit_mask, token_weights


class ReplicatedModel(keras.Model):
    """A Keras model whose training step, divided over replicas, is that of one process with the whole batch.

    In Keras 3.15 it is not, which this class mends: Keras takes the mean of the replicas' means, clips the gradient of
    each replica, and builds metrics with the mean of the replicas' inputs, which are no ids any more.
    """

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Configure the training, as in Keras.

        Raises:
            ValueError: If the optimizer accumulates gradients and there are several replicas.
        """
        super().compile(*args, **kwargs)
        if getattr(self, "optimizer", None) is not None:
            with self._strategy_scope():
                add_gradients_first(self.optimizer)

    def train_step(self, *args: Any) -> Any:
        """Train on one batch, as in Keras."""
        return results_of_step(self, super().train_step(*args))

    def test_step(self, *args: Any) -> Any:
        """Evaluate one batch, as in Keras."""
        return results_of_step(self, super().test_step(*args))

    def _strategy_scope(self) -> Any:
        """Return the scope of the strategy that the model was created under, in which variables are created."""
        return strategy_scope(self)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Build metrics, as in Keras's trainer of TensorFlow, with inputs of one replica."""
        if self._distribute_strategy is None:
            return
        if iterator is not None:
            data_batch = next(next(iter(iterator))[2])
        with self._strategy_scope():
            super()._maybe_symbolic_build(data_batch=of_first_replica(data_batch))

    def _own_batches(self, data: Any, *, batch_size: int | None = None, left_out: float = 0.0) -> Any:
        """Return data for Keras; a dataset with an attribute `worker` is this process's part of the batches.

        Args:
            data: Arrays by name, or batches.
            batch_size: Rows in a batch of arrays; None: 32, as in Keras.
            left_out: The share of the arrays' rows that is for validation.

        Raises:
            ValueError: If it is the part of another process, or of another number of them, or the devices cannot share
                the rows.
        """
        check_rows(_sizes_of_batches(data, batch_size or 32, left_out))
        worker, process = getattr(data, "worker", (0, 1)), process_of(self)
        if worker[1] == 1 or process[1] == 1:
            return data
        if tuple(worker) != process:
            raise ValueError(
                f"The dataset has shard={tuple(worker)}, but this is process {process[0]} of {process[1]}. Make the "
                f"dataset with shard={process}."
            )
        return batches_of_process(self, data)

    def _of_whole_batch(self, loss: Tensor, outputs: Tensor, weights: Tensor | None) -> Tensor:
        """Return a replica's part of the loss of the whole batch.

        Losses of kseq are this part already. Keras's are a mean over the rows or tokens of the replica, divided by the
        number of replicas.

        Args:
            loss: What Keras's `compute_loss` returns.
            outputs: The model's outputs.
            weights: The sample weights, or None.
        """
        compiled, count = self.loss, num_replicas()
        reduction = getattr(compiled, "reduction", None)
        if count == 1 or isinstance(compiled, ReducedLoss) or reduction not in (MEAN, "sum_over_batch_size", "mean"):
            return loss
        like = ops.ones(ops.shape(outputs)[:-1], "float32")
        mask = implicit_mask(outputs)
        if len(outputs.shape) == 2:
            of_rows = like if weights is None or reduction != MEAN else ops.reshape(weights, (-1,))
        else:
            of_rows = token_weights(like, mask, weights if reduction == MEAN else None)
        own = ops.sum(ops.cast(of_rows, "float32"))
        total = sum_over_replicas(own)
        return loss * ops.cast(count * own / ops.where(total > 0, total, 1.0), loss.dtype)


def _sizes_of_batches(data: Any, batch_size: int, left_out: float) -> set[int]:
    """Return the numbers of rows of batches, those that are known."""
    if isinstance(data, Mapping):
        rows = int(len(next(iter(data.values()))) * (1.0 - left_out))
        return {min(rows, batch_size), rows % batch_size or min(rows, batch_size)}
    specs = keras.tree.flatten(getattr(data, "element_spec", ()))
    shapes = [tuple(spec.shape) for spec in specs if getattr(spec.shape, "rank", None)]
    return {shape[0] for shape in shapes if isinstance(shape[0], int)}
