"""Schedules of the learning rate that Keras lacks.

A cosine with a warm-up is Keras's own: `keras.optimizers.schedules.CosineDecay(0.0, decay_steps, warmup_target=1e-3,
warmup_steps=1000)`.
"""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.numbers import real, whole


@keras.saving.register_keras_serializable(package="kseq")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up to a peak, then a decay with the inverse square root of the step.

        rate = peak * min(n / warmup_steps, sqrt(warmup_steps / n)),   n = step + 1

    Args:
        peak: The largest learning rate, reached at update number `warmup_steps`, positive.
        warmup_steps: Number of updates of the warm-up, at least 1.

    Call arguments:
        step: The number of updates before this one, an int or an int scalar.

    Returns:
        The learning rate, a float scalar.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> schedule = kseq.training.InverseSquareRoot(1e-3, warmup_steps=4000)
        >>> float(schedule(3999)), float(schedule(15999))
        (0.001, 0.0005)

    Reference: A. Vaswani et al., "Attention is all you need", 2017.
    """

    def __init__(self, peak: float, warmup_steps: int):
        self.peak, self.warmup_steps = real("peak", peak), whole("warmup_steps", warmup_steps)
        if self.peak <= 0 or self.warmup_steps < 1:
            raise ValueError(f"peak={peak} must be above 0, and warmup_steps={warmup_steps} at least 1.")

    def __call__(self, step: int | Tensor) -> Tensor:
        """Return the learning rate of a step."""
        count, warmup = ops.cast(step, "float32") + 1.0, float(self.warmup_steps)
        return self.peak * ops.minimum(count / warmup, ops.sqrt(warmup / count))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable(package="kseq")
class NoamSchedule(InverseSquareRoot):
    """The Transformer's schedule, an `InverseSquareRoot` whose peak follows from the size of the model.

        rate = factor * model_dim ** -0.5 * min(n ** -0.5, n * warmup_steps ** -1.5),   n = step + 1

    Args:
        model_dim: Size of the model's vectors, at least 1.
        warmup_steps: Number of updates of the warm-up, at least 1.
        factor: Multiplies the learning rate, positive.

    Call arguments:
        step: The number of updates before this one, an int or an int scalar.

    Returns:
        The learning rate, a float scalar.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> optimizer = keras.optimizers.Adam(kseq.training.NoamSchedule(512), beta_2=0.98, epsilon=1e-9)

    Reference: A. Vaswani et al., "Attention is all you need", 2017.
    """

    def __init__(self, model_dim: int, warmup_steps: int = 4000, *, factor: float = 1.0):
        self.model_dim, self.factor = whole("model_dim", model_dim), real("factor", factor)
        if self.model_dim < 1 or self.factor <= 0 or whole("warmup_steps", warmup_steps) < 1:
            raise ValueError(
                f"model_dim={model_dim}, warmup_steps={warmup_steps}: must be at least 1; factor={factor}: above 0."
            )
        super().__init__(self.factor * (self.model_dim * warmup_steps) ** -0.5, warmup_steps)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"model_dim": self.model_dim, "warmup_steps": self.warmup_steps, "factor": self.factor}
