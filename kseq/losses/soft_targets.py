"""The loss of distillation: how far predictions are from a teacher's."""

from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.numbers import real


def soft_target_loss(teacher_logits: Tensor, logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Return the Kullback-Leibler divergence of each prediction from the teacher's, in nats, times `temperature ** 2`.

    `T ** 2 * sum_v p(v) * (log p(v) - log q(v))`, with `p = softmax(teacher_logits / T)` and `q = softmax(logits / T)`.
    The factor keeps the size of the gradient independent of the temperature (Hinton et al. 2015, section 2).

    Args:
        teacher_logits: Float `(batch, time, vocabulary)`, unnormalised; the logarithms of probabilities will do.
        logits: Float of the same shape, unnormalised.
        temperature: T, above 0. Above 1 the improbable tokens count for more.

    Returns:
        Float32 `(batch, time)`. No gradient goes to the teacher. Where a teacher's logit is NaN or plus infinity, the
        loss is NaN, without a gradient.

    Raises:
        ValueError: If the temperature is not above 0, or the shapes differ.

    Reference: G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.
    """
    temperature = check_temperature(temperature)
    teacher, own = (ops.cast(ops.convert_to_tensor(each), "float32") for each in (teacher_logits, logits))
    _check_shapes(teacher, own)
    teacher = ops.stop_gradient(teacher)
    usable = ops.all(teacher < np.inf, axis=-1)  # False for NaN too
    teacher = ops.where(usable[..., None], ops.maximum(teacher, -1e30), 0.0)  # minus infinity times 0 would be NaN
    log_p = ops.log_softmax(teacher / temperature, axis=-1)
    log_q = ops.log_softmax(own / temperature, axis=-1)
    losses = temperature**2 * ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)
    return ops.where(usable, losses, np.nan)


def check_temperature(temperature: Any) -> float:
    """Return a temperature as a float, or raise ValueError if it is not above 0."""
    number = real("temperature", temperature)
    if number < 1e-6:
        raise ValueError(f"temperature={number}, but it must be above 0, and 1e-6 at least.")
    return number


def _check_shapes(teacher: Tensor, own: Tensor) -> None:
    shapes = tuple(teacher.shape), tuple(own.shape)
    fit = len(shapes[0]) == len(shapes[1]) and all(a == b or None in (a, b) for a, b in zip(*shapes, strict=True))
    if not fit:
        raise ValueError(
            f"The teacher's logits have shape {shapes[0]}, but the model's have {shapes[1]}: they need one number for "
            "each token of the vocabulary, at each step."
        )
