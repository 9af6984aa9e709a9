"""The loss of distributions that a network predicts."""

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, known_value
from kseq.losses.reduced_loss import MEAN, ReducedLoss
from kseq.masking import implicit_mask, token_weights
from kseq.numbers import flag

MISSING = ("refuse", "mask")


@keras.saving.register_keras_serializable(package="kseq")
class NegativeLogLikelihood(ReducedLoss):
    """Mean negative log-probability per real step of values under a head of `kseq.heads`, in nats.

    For a head without a distribution, `kseq.heads.Quantiles`, it is that head's own loss. Steps of weight 0 and
    padding, told by the implicit Keras mask of the predictions, change neither the loss nor a gradient.

    Args:
        head: A head of `kseq.heads`.
        missing: What NaN in `y_true` is: "refuse", an error; "mask", a missing value, whose step has weight 0.
        stacked: Whether the predictions are parameters, as `head.stack` returns them, in place of outputs.
        reduction: As in `kseq.losses.CTC`: "mean_with_sample_weight", "mean", "sum" or "none".
        name: Name of the loss.
        dtype: Dtype of the result; None: float32.

    Call arguments:
        y_true: Float or int `(batch, time)`, of a head with an `event_shape` `(batch, time, *event_shape)`.
        y_pred: Float `(batch, time, head.size)`, what a layer without activation returns.
        sample_weight: Float `(batch,)` or `(batch, time)`.

    Returns:
        A scalar. In a compiled graph it is NaN if the head cannot have the value of a step that counts, such as NaN, or
        a negative count; that step has no gradient.

    Raises:
        ValueError: If an option or a shape is wrong; outside compiled graphs also for such a value.

    Example:
        >>> head = kseq.heads.Normal()
        >>> model = keras.Sequential([kseq.layers.GRU(8, return_sequences=True), keras.layers.Dense(head.size)])
        >>> model.compile("adam", kseq.losses.NegativeLogLikelihood(head))
    """

    reductions: ClassVar[tuple[str, ...]] = (*ReducedLoss.reductions[:-1], "none")

    def __init__(
        self,
        head: Any,
        *,
        missing: str = "refuse",
        stacked: bool = False,
        reduction: str | None = MEAN,
        name: str = "negative_log_likelihood",
        dtype: Any = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        if not hasattr(head, "log_probability"):
            raise ValueError(f"head={head!r}, but it must be a head, such as kseq.heads.Normal().")
        if missing not in MISSING:
            raise ValueError(f"missing={missing!r}, expected one of {MISSING}.")
        self.head, self.missing, self.stacked = head, missing, flag("stacked", stacked)

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> Tensor:
        """Return the weighted mean over real steps, or another reduction."""
        mask, outputs = implicit_mask(y_pred), ops.convert_to_tensor(y_pred)
        known = known_value(y_true)
        values = self._values(y_true, outputs)
        head, axes = self.head, self.head.event_axes
        if self.missing == "mask":
            present = ops.logical_not(ops.any(ops.isnan(values), axis=axes))
            mask = present if mask is None else ops.logical_and(mask, present)
        steps = ops.zeros(ops.shape(outputs)[:-1], "float32")
        weights = token_weights(steps, mask, sample_weight)
        counted = weights != 0
        possible = ops.all(head.supports(values), axis=axes)
        self._check(known, ops.logical_and(counted, ops.logical_not(possible)))
        safe = ops.logical_and(counted, possible)
        places = ops.reshape(safe, (*ops.shape(safe), *[1] * len(axes)))
        values = ops.where(places, values, ops.zeros_like(values))  # 0 is a value of every head
        outputs = ops.where(safe[..., None], outputs, ops.zeros_like(outputs) + float(self.stacked))
        losses = head.loss(self._parameters(outputs), values)
        losses = ops.where(ops.logical_and(counted, ops.logical_not(possible)), np.float32(np.nan), losses)
        return self.reduce(losses, weights, mask)

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Return the loss of every step, float32 `(batch, time)`."""
        return self.head.loss(self._parameters(ops.convert_to_tensor(y_pred)), y_true)

    def _parameters(self, outputs: Tensor) -> Any:
        return self.head.unstack(outputs) if self.stacked else self.head.parameters(outputs)

    def _values(self, y_true: Any, outputs: Tensor) -> Tensor:
        """Return the values as float32, or raise ValueError if they do not fit the predictions."""
        values = ops.cast(ops.convert_to_tensor(y_true), "float32")
        expected = (*tuple(outputs.shape)[:-1], *self.head.event_shape)
        if getattr(values.shape, "rank", 0) is None:  # in a TensorFlow graph
            return ops.reshape(values, (*ops.shape(outputs)[:-1], *self.head.event_shape))
        shape = tuple(values.shape)
        if len(shape) == len(expected) + 1 and shape[-1] == 1:  # of Keras, which adds an axis
            values, shape = values[..., 0], shape[:-1]
        pairs = zip(shape, expected, strict=False)
        if len(shape) != len(expected) or any(a != b for a, b in pairs if None not in (a, b)):
            raise ValueError(
                f"y_true has shape {shape}, but y_pred has shape {tuple(outputs.shape)}: {self.head!r} needs values of "
                f"shape {expected}."
            )
        return values

    def _check(self, known: np.ndarray | None, wrong: Tensor) -> None:
        """Raise ValueError if a known value that counts is not a value of the head."""
        places = known_value(wrong)
        if known is not None and places is not None and places.any():
            place = tuple(int(axis) for axis in np.argwhere(places)[0])
            raise ValueError(
                f"y_true{list(place)} = {known[place]}, but a value of {self.head!r} is {self.head.support}. Repair "
                'it or, if NaN stands for a missing value, give missing="mask".'
            )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        head = keras.saving.serialize_keras_object(self.head)
        return {**super().get_config(), "head": head, "missing": self.missing, "stacked": self.stacked}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "NegativeLogLikelihood":
        """Create a loss from the result of `get_config`."""
        return cls(**{**config, "head": keras.saving.deserialize_keras_object(config["head"])})
