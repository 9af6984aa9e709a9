"""Resuming an interrupted training at the step where it was, with the same losses."""

import os
import pathlib
from typing import Any

import keras

from kseq import backend
from kseq.numbers import flag, positive_int
from kseq.training.batch_order import fingerprint
from kseq.training.training_state import description_of, read_state, restore, save_state


class ExactResume(keras.callbacks.Callback):
    """Saves the state of a training every few steps; after an interruption the same losses follow.

    Like Keras's `BackupAndRestore`, which goes back to an epoch's weights: run the same script again. After a crash or
    a kill in the middle of an epoch, `fit` goes on from the last saved step. It has the same weights, optimizer, random
    numbers of dropout, states that a `kseq.models.LanguageModel` carries and sums of metrics, and meets the same
    batches, so the losses are those of a run that was not interrupted, to the last bit where the backend's operations
    are deterministic. Batches of the epoch before that step are read and left out; other callbacks see these steps with
    the logs of the saved one.

    The order of the batches must be a function of the number of the epoch. It is that of
    `kseq.training.bucket_by_length` and `continuous_batches`, whose order this callback sets in each epoch. Other
    datasets of `tf.data` must have one order, without shuffling.

    The state is one file, which is replaced when a new one is complete on the disk. It is deleted at the end of `fit`.
    Under a strategy of TensorFlow, there are as many replicas as before. Give the same directory to all processes of a
    `MultiWorkerMirroredStrategy`: the first one writes what all of them read.

    States of other callbacks, such as the best value of an `EarlyStopping`, and the history are not saved.

    Args:
        directory: Folder of the state, used for one training alone; created if it does not exist.
        batches: The dataset that is given to `fit`, or from which that is mapped.
        every_steps: Number of steps from one saved state to the next. There is another one at the end of each epoch.
        delete_at_end: Whether the state is deleted when `fit` ends. If it is kept, the next `fit` begins after it.

    Raises:
        ValueError: When it is made, if an option is out of range, or the order of the batches changes. When training
            begins, if the model is not built, or the saved state is that of other data, or of another model or
            optimizer.
        OSError: If the state cannot be written, as on a full disk. The last one is still there.

    Example:
        >>> batches = kseq.training.bucket_by_length(rows, batch_size=32, buckets=(8, 16), shuffle=True, seed=1)
        >>> resume = kseq.training.ExactResume("state", batches, every_steps=200)
        >>> model.fit(batches, epochs=20, callbacks=[resume])
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        batches: Any,
        *,
        every_steps: int = 100,
        delete_at_end: bool = True,
    ):
        super().__init__()
        self.path = pathlib.Path(directory) / "training_state.npz"
        self.every_steps = positive_int(self, "every_steps", every_steps)
        self.delete_at_end = flag("delete_at_end", delete_at_end)
        self._order: Any = getattr(batches, "order", None) or _FixedOrder(batches)
        self._about: dict[str, Any] = {}
        self._state: Any = None  # the values of variables to go on from, and what was written about them
        self._epoch, self._train_function = 0, None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Look for a saved state, and check that it is one of this training."""
        model = self.model
        if not model.built:
            raise ValueError(
                f"The {type(model).__name__} is not built, so it has no variables to restore. Call build(), or the "
                "model on a batch, before fit."
            )
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        # A `fit` that has failed may have left this behind.
        model.train_function = getattr(model.train_function, "of_all_steps", model.train_function)
        self._about = {**description_of(model), "data": self._order.fingerprint}
        self._state = read_state(self.path)
        if self._state is None:
            return
        values, about = self._state
        self._refuse_others(about)
        self._order.seed = about["seed"]
        restore(model, values, "variables")
        model._initial_epoch = about["epoch"]  # as Keras's BackupAndRestore does it
        if about["epoch"] >= self.params.get("epochs", about["epoch"] + 1):
            self._state = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the order of the batches, and in the epoch that was interrupted the state."""
        self._epoch, self._order.epoch = epoch, epoch
        if self._state is None:
            return
        values, about = self._state
        self._state = None
        if about["epoch"] != epoch:
            raise ValueError(
                f"The state in {self.path} is one of epoch {about['epoch']}, but fit begins with epoch {epoch}. Leave "
                "initial_epoch out: it is that of the state."
            )
        self.model._initial_epoch = None  # of this `fit` alone
        if about["step"]:
            self._leave_out(about["step"], about["logs"], values)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Save the state, if it is time."""
        step, every = batch + 1, self.every_steps
        if self._train_function is None and step // every > (step - self.model.steps_per_execution) // every:
            self._save(self._epoch, step, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save the state at the beginning of the next epoch."""
        self._save(epoch + 1, 0, None)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Delete the state."""
        self.model._initial_epoch = None
        self._restore_function()
        if self.delete_at_end and backend.process_of(self.model)[0] == 0:
            self.path.unlink(missing_ok=True)

    def _save(self, epoch: int, step: int, logs: dict[str, Any] | None) -> None:
        shown = {name: float(value) for name, value in (logs or {}).items()}
        about = {**self._about, "seed": self._order.seed, "epoch": epoch, "step": step, "logs": shown}
        try:
            save_state(self.path, self.model, about, write=backend.process_of(self.model)[0] == 0)
        except OSError as error:
            raise OSError(
                error.errno,
                f"The state of epoch {epoch}, step {step} could not be written ({error.strerror}). The last one, if "
                "there is one, is as it was: make room and run fit again.",
                str(self.path),
            ) from error

    def _refuse_others(self, about: dict[str, Any]) -> None:
        """Raise ValueError if a saved state is not one of this training."""
        for part in ("data", "model", "optimizer", "variables"):
            if about.get(part) != self._about.get(part):
                raise ValueError(
                    f"The state in {self.path} is one of a training with other {part}: it was "
                    f"{_shown(about.get(part), self._about.get(part))}. Give the same data, model and optimizer to go "
                    "on, or another directory to begin anew."
                )

    def _leave_out(self, steps: int, logs: dict[str, Any], values: dict[str, Any]) -> None:
        """Read and leave out the first steps of an epoch, and restore its sums of metrics."""
        model, train = self.model, self.model.train_function
        left = [steps]
        metrics = model._compile_metrics
        unbuilt = metrics is not None and not metrics.built  # TensorFlow builds them in the first step
        if not unbuilt:
            restore(model, values, "metrics")

        def step(*args: Any) -> Any:
            nonlocal unbuilt
            if left[0] <= 0:
                self._restore_function()
                return train(*args)
            left[0] -= model.steps_per_execution
            if unbuilt:  # take a step, and undo it
                train(*args)
                for name in ("variables", "metrics"):
                    restore(model, values, name)
                unbuilt = False
            else:
                for _ in range(model.steps_per_execution):
                    next(args[-1], None)
            return dict(logs) if len(args) == 1 else (dict(logs), args[0])  # on JAX of `(state, batches)`

        step.of_all_steps = train  # type: ignore[attr-defined]
        self._train_function, model.train_function = train, step

    def _restore_function(self) -> None:
        if self._train_function is not None:
            # Not `self.model`, which on JAX would take the state of a step from the variables.
            self._model.train_function, self._train_function = self._train_function, None


class _FixedOrder:
    """The order of a dataset that is the same in each epoch."""

    def __init__(self, batches: Any):
        if not hasattr(batches, "element_spec"):
            raise ValueError(
                f"batches is a {type(batches).__name__}, but expected a tf.data.Dataset whose order is known, such as "
                "kseq.training.bucket_by_length(rows, ..., shuffle=True) makes it of lists of rows."
            )
        first, second = (fingerprint(_first(batches)) for _ in range(2))
        if first != second:
            raise ValueError(
                "The dataset begins with another batch each time, so an interrupted epoch cannot be resumed. Shuffle "
                "by kseq.training.bucket_by_length(rows, ..., shuffle=True), or once before the dataset is made."
            )
        self.fingerprint, self.seed, self.epoch = first, 0, 0


def _first(batches: Any) -> list[Any]:
    """Return the spec of a dataset's batches, their number, and the arrays of the first one."""
    arrays = keras.tree.flatten(next(iter(batches.as_numpy_iterator())))
    return [str(batches.element_spec), int(batches.cardinality()), *arrays]


def _shown(before: Any, now: Any) -> str:
    if isinstance(before, list) and isinstance(now, list):
        pairs = [(a, b) for a, b in zip(before, now, strict=False) if a != b]
        return f"{len(before)} variables, now {len(now)}; first {pairs[:1]}"
    return f"{str(before)[:200]}, now {str(now)[:200]}"
