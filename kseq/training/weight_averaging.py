"""A mean of the weights of several epochs."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.numbers import positive_int, whole


class StochasticWeightAveraging(keras.callbacks.Callback):
    """Gives a model the mean of its weights at the ends of the last epochs of `fit`.

        w_mean = (w_1 + ... + w_n) / n    with w_i the trained weights after an epoch that counts

    Training goes on from the weights as they were trained. From `start_epoch` on the model has the mean while it is
    validated, and for callbacks that are listed after this one, such as `ModelCheckpoint`, at the end of an epoch; when
    `fit` ends, it keeps it. A moving average of all steps is Keras's: an optimizer with `use_ema=True`, with
    `keras.callbacks.SwapEMAWeights(swap_on_epoch=True)`.

    The mean is that of the trainable weights. Moving statistics, such as those of `BatchNormalization`, are those of
    the trained weights. List `ExactResume` before this callback; it does not save the mean, so a resumed run averages
    the epochs after it was resumed.

    Args:
        start_epoch: Index of the first epoch that counts, from 0. The paper starts after 3/4 of the training, with a
            learning rate that stays high or goes up and down.
        every: Number of epochs from one that counts to the next.

    Attributes:
        count: Number of epochs in the mean so far.

    Raises:
        ValueError: When it is made, if a number is out of range. When training begins, if the optimizer has
            `use_ema=True`, which sets the weights to another mean.

    Example:
        >>> averaging = kseq.training.StochasticWeightAveraging(start_epoch=15)
        >>> model.fit(batches, epochs=20, callbacks=[averaging])

    Reference: P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018.
    """

    def __init__(self, start_epoch: int, *, every: int = 1):
        super().__init__()
        self.start_epoch, self.every = whole("start_epoch", start_epoch), positive_int(self, "every", every)
        if self.start_epoch < 0:
            raise ValueError(f"start_epoch={start_epoch}, but it is the index of an epoch, at least 0.")
        self.count = 0
        self._epoch: int | None = None  # of a `fit`
        self._last = -1  # epoch that is in the mean
        self._mean: list[np.ndarray] = []
        self._trained: list[np.ndarray] | None = None  # while the model has the mean

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin a new mean."""
        optimizer = self.model.optimizer
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        if any(each.use_ema for each in (optimizer, *getattr(optimizer, "optimizers", ()))):
            raise ValueError("The optimizer has use_ema=True, a mean of its own. Use one of the two.")
        self.count, self._last, self._mean, self._trained = 0, -1, [], None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Give the model its trained weights back."""
        self._epoch = epoch
        if self._trained is not None:
            self._assign(self._trained)
            self._trained = None

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Give the model the mean for its validation."""
        self._give_mean()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Give the model the mean."""
        self._give_mean()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Leave the mean in the model."""
        self._epoch, self._trained = None, None

    def _give_mean(self) -> None:
        epoch = self._epoch
        if epoch is None or epoch < self.start_epoch or self._trained is not None:
            return
        trained = [np.array(ops.convert_to_numpy(each)) for each in self.model.trainable_variables]
        if (epoch - self.start_epoch) % self.every == 0 and epoch != self._last:
            self.count, self._last = self.count + 1, epoch
            before = self._mean or [np.zeros_like(each) for each in trained]
            self._mean = [mean + (now - mean) / self.count for mean, now in zip(before, trained, strict=True)]
        self._trained = trained
        self._assign(self._mean)

    def _assign(self, values: list[np.ndarray]) -> None:
        for variable, value in zip(self.model.trainable_variables, values, strict=True):
            variable.assign(ops.cast(ops.convert_to_tensor(value), variable.dtype))
