"""Gaussian noise on the weights."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.numbers import real, whole
from kseq.training.gradient_hooks import GradientHook, add_hook, remove_hook
from kseq.training.gradient_noise import normal_noise
from kseq.training.model_parts import Part, check_parts, weights_of_part


class WeightNoise(keras.callbacks.Callback):
    """Computes the gradient of each batch in `fit` at weights with Gaussian noise.

        g = dL / dw at w + N(0, stddev ** 2);   the update is one of w

    All rows and time steps of a batch have the same noise. Evaluation, also during training, has none. The noise is a
    function of `seed`, the number of the batch since the optimizer was made, and the weight, so a run that is resumed
    draws what it would have drawn; compiled by XLA or not, a backend may draw different numbers. `cells.WeightDropCell`
    is dropout of recurrent weights instead.

    On TensorFlow a step that ends in an error may leave the noise in the weights; load them again before going on.

    Args:
        stddev: Standard deviation of the noise, positive; the paper has 0.075.
        parts: The parts of the model that get noise: layers; or their places in the model, attributes or names of
            layers with dots between them, such as "encoder" or "decoder.cell". None: all trainable weights.
        seed: Seed of the noise.

    Raises:
        ValueError: When it is made, if a number is out of range. When training begins, if the model has no such part,
            a part has no trainable weights, or the optimizer is a `MultiOptimizer`.

    Example:
        >>> model.fit(batches, epochs=5, callbacks=[kseq.training.WeightNoise(0.05)])

    Reference: A. Graves, "Practical variational inference for neural networks", 2011 (with a fixed variance).
    """

    def __init__(self, stddev: float = 0.075, *, parts: Sequence[Part] | None = None, seed: int = 0):
        super().__init__()
        self.stddev, self.seed = real("stddev", stddev), whole("seed", seed)
        if self.stddev <= 0:
            raise ValueError(f"stddev={stddev} must be above 0.")
        if parts is not None:
            check_parts(parts, "parts")
        self.parts = parts
        self._hook: GradientHook | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Add the noise to the training step."""
        variables = self.model.trainable_variables
        noisy = [each for part in self.parts or () for each in weights_of_part(self.model, part)]
        chosen = {id(each) for each in (variables if self.parts is None else noisy)}
        places = [place for place, each in enumerate(variables) if id(each) in chosen]
        self._hook = _Noise(self.stddev, self.seed, places)
        add_hook(self.model, self._hook)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Take the noise out of the training step."""
        if self._hook is not None:
            remove_hook(self.model, self._hook)


class _Noise(GradientHook):
    def __init__(self, stddev: float, seed: int, places: list[int]):
        self._stddev, self._seed, self._places = stddev, seed, places

    def weights(self, values: list[Tensor], optimizer: Any) -> list[Tensor]:
        values, batch = list(values), optimizer._iterations
        for place in self._places:
            # Indices below 0, so that the noise is not that of GradientNoise with the same seed.
            noise = normal_noise(ops.shape(values[place]), self._seed, -1 - place, batch)
            values[place] = values[place] + ops.cast(self._stddev * noise, values[place].dtype)
        return values
