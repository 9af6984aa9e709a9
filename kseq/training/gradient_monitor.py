"""A callback that watches the gradients of a training."""

import pathlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.utils import io_utils  # no public API; it writes where Keras's progress bar does

from kseq import backend
from kseq.backend import Tensor
from kseq.numbers import whole
from kseq.training.gradient_hooks import GradientHook, add_hook, remove_hook, updating_optimizer
from kseq.training.not_finite import NotFinite, find_not_finite, save_batch

STEPS, CLIPPED, BAD, FIRST_BAD, SUM, LARGEST = range(6)  # places of the statistics; the layers' follow


class GradientMonitor(keras.callbacks.Callback):
    """Reports the norm of the gradient by layer in `fit`, the share of clipped steps, and the first NaN.

    The norms are computed inside of the training step, compiled or not, before the optimizer clips the gradients and
    after it has accumulated and unscaled them. Once an epoch they are added to its `logs`, where callbacks that are
    listed after this one, such as `CSVLogger` and `TensorBoard`, find them:

    - `gradient/norm` and `gradient/largest_norm`: mean and maximum of the norm of the whole gradient;
    - `gradient/clipped`: the share of steps that the optimizer clipped, if it has `clipnorm`, `global_clipnorm` or
      `clipvalue`;
    - `gradient/not_finite`: the number of steps whose gradient had NaN or infinity;
    - `gradient/LAYER`: the mean norm of the gradient of a layer's own weights, with `LAYER` the layer's path.

    A step whose gradient is not finite does not change the weights (weight decay excepted), so they can be examined as
    they were. After the first such step, or the first loss of NaN, the monitor runs the step's batch through the model
    again, layer by layer, and the layer that it finds operation by operation. It prints where NaN or infinity arose
    first and which operation gave it, writes the batch to `directory`, and stops the training. Dropout then draws other
    units, and `WeightNoise` is left out. Under a strategy of several processes, the batch is that of one process.

    With a `LossScaleOptimizer` only the steps count that it does not skip, and only a loss of NaN ends the training.

    Args:
        directory: Folder to which the batch with the first NaN is written, `not_finite-EPOCH-STEP.npz`, to be read by
            `load_batch`; None writes none.
        stop: Whether to stop the training then.
        check_every: Number of steps from one look for NaN to the next. The last so many batches are kept. On a GPU a
            look waits for the step to end.

    Attributes:
        found: A `NotFinite` that says where the first NaN or infinity arose, or None.

    Raises:
        ValueError: If `check_every` is not at least 1; or, when training begins, if the model has a `MultiOptimizer`.

    Example:
        >>> monitor = kseq.training.GradientMonitor("not_finite")
        >>> model.fit(batches, epochs=5, callbacks=[monitor, keras.callbacks.TensorBoard("logs")])
    """

    def __init__(self, directory: str | pathlib.Path | None = None, *, stop: bool = True, check_every: int = 1):
        super().__init__()
        self.directory, self.stop = None if directory is None else pathlib.Path(directory), stop
        self.check_every = whole("check_every", check_every)
        if self.check_every < 1:
            raise ValueError(f"check_every={check_every}, but it must be at least 1 step.")
        self.found: NotFinite | None = None
        self._hook: _Statistics | None = None
        self._batches: deque = deque()
        self._epoch = self._since_check = 0
        self._accumulated = 1  # batches in an update

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Add the statistics to the training step."""
        self.found = None
        self._accumulated = updating_optimizer(self.model).gradient_accumulation_steps or 1
        most = self.check_every * self.model.steps_per_execution + self._accumulated - 1
        self._batches = deque(maxlen=most)
        with backend.strategy_scope(self.model):
            self._hook = _Statistics(self.model, self._batches)
        add_hook(self.model, self._hook)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Set the statistics to zero."""
        self._epoch, self._since_check = epoch, 0
        self._batches.clear()
        self._hook.variable.assign(np.zeros(self._hook.variable.shape, "float32"))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look for NaN."""
        self._since_check += 1
        if self.found is None and self._since_check % self.check_every == 0:
            self._check(batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the epoch's values to the logs."""
        if self.found is None and self._batches and self._since_check % self.check_every:
            self._check(self._since_check - 1, logs or {})
        if logs is not None:
            logs.update(self._hook.values(self._statistics()))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Take the statistics out of the training step."""
        if self._hook is not None:
            remove_hook(self.model, self._hook)
        self._batches.clear()
        self._hook = None

    def _statistics(self) -> np.ndarray:
        """Return the statistics so far in this epoch."""
        return ops.convert_to_numpy(self._hook.variable)

    def _check(self, batch: int, logs: dict[str, Any]) -> None:
        """Examine the model if a step since the last check was not finite."""
        statistics = self._statistics()
        loss = logs.get("loss", 0.0)
        if not statistics[BAD] and not np.isnan(float(loss)):
            return
        updates = int(statistics[STEPS] + statistics[BAD] - statistics[FIRST_BAD]) if statistics[BAD] else 0
        last = max(0, len(self._batches) - 1 - updates * self._accumulated)
        places = range(max(0, last - self._accumulated + 1), last + 1)  # of the batches in the update
        getattr(self.model, "jax_state_sync", lambda: None)()
        whole = {place: backend.of_all_replicas(self._batches[place]) for place in places}
        every = [(place, find_not_finite(self.model, whole[place])) for place in places]
        place, found = next((each for each in every if each[1].source != "gradient"), every[-1])
        step = batch - (len(self._batches) - 1 - place)
        found = found._replace(epoch=self._epoch, step=step, gradients=self._hook.bad_layers(statistics))
        if self.directory is not None:
            path = self.directory / f"not_finite-{self._epoch + 1}-{step + 1}.npz"
            found = found._replace(batch=str(save_batch(path, whole[place])))
        self.found = found
        io_utils.print_msg(f"\n{found}")
        if self.stop:
            self.model.stop_training = True


class _Statistics(GradientHook):
    """The norms of a training step's gradients, added up in a variable.

    Args:
        model: A built and compiled model.
        batches: Gets the batches that are read.
    """

    def __init__(self, model: keras.Model, batches: deque):
        self._batches = batches
        paths = [each.path.rsplit("/", 1)[0] for each in model.trainable_variables]
        self.layers = list(dict.fromkeys(paths))
        self._index = {id(v): self.layers.index(p) for v, p in zip(model.trainable_variables, paths, strict=True)}
        size = LARGEST + 1 + 2 * len(self.layers)  # mean norms, and those of the first step that was not finite
        self.variable = keras.Variable(
            np.zeros(size, "float32"), trainable=False, name="gradient_statistics", aggregation="only_first_replica"
        )
        self.clips = bool(_clip_options(updating_optimizer(model)))
        self._fine: Tensor = None  # of the update that is being traced

    def read(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Return the batches, which are remembered when they are read."""
        first = next(batches)  # raises StopIteration at the end of the data, as Keras's training function does
        return _Remembering(first, batches, self._batches)

    def before_clipping(self, gradients: list[Tensor], variables: list[keras.Variable], optimizer: Any) -> list[Tensor]:
        """Add the statistics, and return zeros in place of gradients that are not finite."""
        squares = [ops.sum(ops.square(ops.cast(ops.convert_to_tensor(each), "float32"))) for each in gradients]
        own = [ops.zeros((), "float32")] * len(self.layers)
        for variable, square in zip(variables, squares, strict=True):
            own[self._index[id(variable)]] += square
        norms, norm = ops.sqrt(ops.stack(own)), ops.sqrt(sum(own))
        fine = self._fine = ops.isfinite(norm)
        clipped = ops.cast(_is_clipped(optimizer, gradients, squares, norm), "float32")
        before, count = self.variable.value, len(self.layers)
        one, zero = ops.ones((), "float32"), ops.zeros((), "float32")
        counts = ops.where(fine, ops.stack([one, clipped, zero]), ops.stack([zero, zero, one]))
        first = ops.where(fine | (before[BAD] > 0), before[FIRST_BAD], before[STEPS] + before[BAD] + 1.0)
        sums = [
            before[SUM] + ops.where(fine, norm, 0.0),
            ops.where(fine, ops.maximum(before[LARGEST], norm), before[LARGEST]),
        ]
        means = before[LARGEST + 1 : LARGEST + 1 + count] + ops.where(fine, norms, 0.0)
        bad = before[LARGEST + 1 + count :]
        bad = ops.where(fine | (before[BAD] > 0), bad, norms)
        self.variable.assign(ops.concatenate([before[:3] + counts, ops.stack([first, *sums]), means, bad]))
        return [_map_values(lambda x: ops.where(fine, x, ops.zeros_like(x)), each) for each in gradients]

    def learning_rate(self, learning_rate: Any) -> Any:
        """Return zero for a step whose gradient is not finite, so that momentum does not move the weights."""
        rate = ops.convert_to_tensor(learning_rate)
        return ops.where(self._fine, rate, ops.zeros_like(rate))

    def values(self, statistics: np.ndarray) -> dict[str, float]:
        """Return what the logs get."""
        steps, count = max(1.0, statistics[STEPS]), len(self.layers)
        values = {"gradient/norm": statistics[SUM] / steps, "gradient/largest_norm": statistics[LARGEST]}
        if self.clips:
            values["gradient/clipped"] = statistics[CLIPPED] / steps
        values["gradient/not_finite"] = statistics[BAD]
        norms = statistics[LARGEST + 1 : LARGEST + 1 + count] / steps
        values |= {f"gradient/{layer}": norm for layer, norm in zip(self.layers, norms, strict=True)}
        return {name: float(value) for name, value in values.items()}

    def bad_layers(self, statistics: np.ndarray) -> tuple[str, ...]:
        """Return the layers whose gradients were not finite in the first such step."""
        norms = statistics[LARGEST + 1 + len(self.layers) :]
        return tuple(layer for layer, norm in zip(self.layers, norms, strict=True) if not np.isfinite(norm))


def _clip_options(optimizer: Any) -> dict[str, float]:
    names = ("clipnorm", "global_clipnorm", "clipvalue")
    return {name: value for name in names if (value := getattr(optimizer, name, None))}


def _is_clipped(optimizer: Any, gradients: list[Tensor], squares: list[Tensor], norm: Tensor) -> Tensor:
    """Return whether the optimizer clips these gradients, a bool scalar."""
    for name, most in _clip_options(optimizer).items():
        if name == "global_clipnorm":
            return norm > most
        if name == "clipnorm":
            return ops.any(ops.stack(squares) > most**2)
        return ops.any(ops.stack([ops.any(ops.abs(ops.convert_to_tensor(each)) > most) for each in gradients]))
    return ops.zeros((), "bool")


def _map_values(function: Any, gradient: Any) -> Any:
    """Apply an element-wise function to a gradient, of a sparse one (TensorFlow's `IndexedSlices`) to its values."""
    if hasattr(gradient, "dense_shape"):
        return type(gradient)(function(gradient.values), gradient.indices, gradient.dense_shape)
    return function(gradient)


class _Remembering(Iterator):
    def __init__(self, first: Any, rest: Iterator, batches: deque):
        self._first, self._rest, self._batches = [first], rest, batches

    def __next__(self) -> Any:
        batch = self._first.pop() if self._first else next(self._rest)
        self._batches.append(batch)
        return batch
