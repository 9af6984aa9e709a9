"""Learning rates of parts of a model."""

from collections.abc import Mapping
from typing import Any

import keras

from kseq.numbers import real
from kseq.training.gradient_hooks import GradientHook, add_hook, remove_hook
from kseq.training.model_parts import Part, by_smallest_part, check_parts


class LearningRates(keras.callbacks.Callback):
    """Multiplies the learning rate of parts of a model in `fit`, for any optimizer, also that of weight decay.

    The optimizer's own learning rate, a number or a schedule, is that of all other weights. Gradients are clipped, by
    their global norm too, as without this callback. Other kinds of optimizers for parts of a model are those of Keras's
    `MultiOptimizer`. To keep a part as it is, set `trainable = False` before `compile`.

    Args:
        factors: What the learning rate is multiplied by, at least 0, for each part: a layer; or its place in the model,
            attributes or names of layers with dots between them, such as "encoder" or "decoder.embedding". Of a part
            inside of a part its own factor alone applies.

    Raises:
        ValueError: When it is made, if a factor is negative or no number. When training begins, if the model has no
            such part, a part has no trainable weights, two parts share weights and none is inside of the other, or the
            optimizer is a `MultiOptimizer`.

    Example:
        >>> rates = kseq.training.LearningRates({"encoder": 0.1, "encoder.embedding": 0.0})
        >>> model.fit(batches, epochs=5, callbacks=[rates])

    Reference: J. Howard, S. Ruder, "Universal language model fine-tuning for text classification", 2018 (discriminative
    fine-tuning).
    """

    def __init__(self, factors: Mapping[Part, float]):
        super().__init__()
        check_parts(factors, "factors")
        self.factors = {part: real(f"the factor of {part!r}", factor) for part, factor in factors.items()}
        if wrong := {part: factor for part, factor in self.factors.items() if factor < 0}:
            raise ValueError(f"factors={wrong}, but a factor of the learning rate is at least 0.")
        self._hook: GradientHook | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Multiply the learning rates from now on."""
        self._hook = _Factors(by_smallest_part(self.model, self.factors))
        add_hook(self.model, self._hook)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Multiply them no more."""
        if self._hook is not None:
            remove_hook(self.model, self._hook)


class _Factors(GradientHook):
    def __init__(self, factors: dict[int, float]):
        self._factors = factors

    def factor(self, variable: keras.Variable) -> float:
        return self._factors.get(id(variable), 1.0)
