"""Callbacks that `fit` adds: what is compiled, what a first loss of infinity or NaN means, and the order of epochs."""

import math
import warnings
from typing import Any

import keras
from keras.src.utils import io_utils  # no public API; it writes where Keras's progress bar does

Shape = tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of each array


class FirstLoss(keras.callbacks.Callback):
    """Warns if the loss of the first batch is not finite; datasets and generators pass unchecked until then."""

    async_safe = True  # so that Keras need not wait for each step's logs

    def __init__(self) -> None:
        super().__init__()
        self._seen = False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the first batch of all."""
        if self._seen:
            return
        self._seen = True
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            warnings.warn(
                f"The loss of the first batch is {loss}. Look for ids or labels outside the model's vocabulary, labels "
                "padded with 0 where 0 is a class or the blank (give their lengths, or pad CTC's labels with -1), rows "
                "with more labels than frames, and NaN or infinity among the features. With arrays in place of a "
                "dataset or generator, fit says which row is wrong.",
                stacklevel=2,
            )


class OrderOfEpochs(keras.callbacks.Callback):
    """Sets the number of the epoch in the order of a dataset, which may have been read ahead before the training.

    Args:
        order: The `order` of a dataset, see `kseq.training.ExactResume`.
        initial_epoch: The number of the first epoch.
    """

    async_safe = True  # so that Keras need not wait for each step's logs

    def __init__(self, order: Any, initial_epoch: int) -> None:
        super().__init__()
        self._order, self._begin = order, order.epoch - initial_epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the number."""
        self._order.epoch = self._begin + epoch


class CompilationReport(keras.callbacks.Callback):
    """Prints "compiling shape 2 of 4" before the first step of each shape, which XLA takes seconds to compile.

    Args:
        shapes: The shapes of the batches: an `ArrayShapes`, or the `shapes` of a dataset of `bucket_by_length`.
        compiled: The shapes that the training step was compiled for before; new ones are added.
    """

    async_safe = True  # so that Keras need not wait for each step's logs

    def __init__(self, shapes: Any, compiled: set[Any]) -> None:
        super().__init__()
        self._shapes, self._compiled, self._count = shapes, compiled, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Forget the order of the last epoch's batches."""
        self._shapes.start_epoch()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Say if the batch's shape is new."""
        if self._count == self._shapes.count:
            return
        shape = self._shapes.shape_of(batch)
        if shape is None:  # a dataset has no order before it has returned its first batch
            if not self._compiled:
                self._report("")
            return
        if batch and not self._compiled:
            self._compiled.add(self._shapes.shape_of(0))  # reported without its name
        if shape not in self._compiled:
            self._compiled.add(shape)
            self._report(": " + ", ".join(f"{name} {size}" for name, size in shape))

    def _report(self, shown: str) -> None:
        self._count += 1
        io_utils.print_msg(f"\ncompiling shape {self._count} of {self._shapes.count}{shown}")


class ArrayShapes:
    """The shapes of batches of arrays: all alike, except for a smaller last one.

    Args:
        rows: Number of rows.
        batch_size: Rows in a batch.
    """

    def __init__(self, rows: int, batch_size: int):
        self._rows, self._batch_size = rows, batch_size
        self.count = (rows >= batch_size) + (rows % batch_size > 0)

    def start_epoch(self) -> None:
        """Do nothing: all epochs are alike."""

    def shape_of(self, batch: int) -> Shape:
        """Return the number of rows of a batch."""
        left = self._rows - batch * self._batch_size
        return (("rows", (min(left, self._batch_size),)),)
