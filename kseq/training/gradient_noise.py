"""Gaussian noise on the gradients."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.numbers import real, whole
from kseq.training.gradient_hooks import GradientHook, add_hook, remove_hook, updating_optimizer


class GradientNoise(keras.callbacks.Callback):
    """Adds Gaussian noise to the gradients in `fit`, less from step to step, after they have been clipped.

        g' = g + N(0, s_t ** 2),   s_t ** 2 = eta / (1 + t) ** gamma

    with t the number of updates that the optimizer has made. The noise is a function of `seed`, t and the variable, so
    a run that is resumed draws what it would have drawn; compiled by XLA or not, a backend may draw different numbers.

    Args:
        eta: Variance of the noise at the first update, positive; the paper tries 0.01, 0.3 and 1.0.
        gamma: How fast the variance falls, at least 0.
        seed: Seed of the noise.

    Raises:
        ValueError: If a number is out of range; or, when training begins, if the model has a `MultiOptimizer`.

    Example:
        >>> model.fit(batches, epochs=5, callbacks=[kseq.training.GradientNoise(eta=0.01)])

    Reference: A. Neelakantan et al., "Adding gradient noise improves learning for very deep networks", 2015.
    """

    def __init__(self, eta: float = 0.01, gamma: float = 0.55, *, seed: int = 0):
        super().__init__()
        self.eta, self.gamma, self.seed = real("eta", eta), real("gamma", gamma), whole("seed", seed)
        if self.eta <= 0 or self.gamma < 0:
            raise ValueError(f"eta={eta} must be above 0, and gamma={gamma} at least 0.")
        self._hook = _Noise(self.eta, self.gamma, self.seed)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Add the noise to the training step."""
        strategy = getattr(self.model, "distribute_strategy", None)  # on TensorFlow
        is_whole = "_all_reduce_sum_gradients" in vars(updating_optimizer(self.model))  # that of a model of kseq
        self._hook.replicas = 1 if is_whole else getattr(strategy, "num_replicas_in_sync", 1)
        add_hook(self.model, self._hook)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Take the noise out of the training step."""
        remove_hook(self.model, self._hook)


class _Noise(GradientHook):
    replicas = 1  # whose gradients are added up after they got the noise, each the same

    def __init__(self, eta: float, gamma: float, seed: int):
        self._eta, self._gamma, self._seed = eta, gamma, seed

    def after_clipping(self, gradients: list[Tensor], optimizer: Any) -> list[Tensor]:
        update = optimizer.iterations
        scale = ops.sqrt(self._eta / (1.0 + ops.cast(update, "float32")) ** self._gamma)

        def noisy(index: int, gradient: Tensor) -> Tensor:
            gradient = ops.convert_to_tensor(gradient)  # a sparse one becomes dense
            noise = normal_noise(ops.shape(gradient), self._seed, index, update)
            return gradient + ops.cast(scale * noise / self.replicas, gradient.dtype)

        return [noisy(index, each) for index, each in enumerate(gradients)]


def normal_noise(shape: Any, seed: int, index: int, update: Tensor) -> Tensor:
    """Return standard normal numbers, float32, that depend on the seed, an index and the number of an update."""
    return keras.random.normal(shape, dtype="float32", seed=_UpdateSeed(seed, index, update))


class _UpdateSeed(keras.random.SeedGenerator):
    """The seed of one variable's noise in one update."""

    def __init__(self, seed: int, index: int, update: Tensor):
        self._words = (seed, index, update)  # without a state variable, so the constructor of the base is not called

    def next(self, ordered: bool = True) -> Tensor:
        """Return the seed, `(2,)`, of the kind that the backend's random functions take."""
        seed, index, update = self._words
        first = ops.cast((seed * 1_000_003 + index * 7_919) % 2**31, "int32")
        words = ops.stack([first, ops.cast(update, "int32")])
        return ops.cast(words, keras.src.backend.random_seed_dtype())
