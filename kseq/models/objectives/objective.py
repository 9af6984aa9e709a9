"""The contract of objectives: losses of `Seq2Seq` besides the one that it is compiled with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import Options
from kseq.ids import Rows
from kseq.losses.reduced_loss import mean_of_sum
from kseq.masking import known_shape, mask_from_lengths, token_weights
from kseq.models.objectives.forward_pass import ForwardPass, attached


class TrainingBatch(NamedTuple):
    """A batch in a training step, as objectives read it.

    Attributes:
        inputs: The model's inputs.
        logits: Float32 `(batch, time, vocabulary)`, the model's logits; time is the target's without its first token.
        source: The sources.
        target: The targets.
        valid: Bool `(batch,)`, False for rows with wrong ids or lengths; None if there are none.
        sample_weight: Float `(batch,)`, `(batch, 1)`, `(batch, time)` or `(batch, time, 1)`, or None.
    """

    inputs: Mapping[str, Tensor]
    logits: Tensor
    source: Rows
    target: Rows
    valid: Tensor | None
    sample_weight: Tensor | None

    @property
    def forward(self) -> ForwardPass:
        """The forward pass of the logits."""
        return attached(self.logits)

    @property
    def mask(self) -> Tensor:
        """The real tokens of valid rows, bool `(batch, time)`."""
        mask = mask_from_lengths(self.target.lengths - 1, ops.shape(self.target.ids)[1] - 1)
        return mask if self.valid is None else ops.logical_and(mask, self.valid[:, None])

    def mean_of_tokens(self, losses: Tensor, counted: Tensor | None = None) -> Tensor:
        """Return the weighted mean over real tokens of `losses`, float32 `(batch, time)`.

        Args:
            losses: The losses; those of other tokens may be NaN.
            counted: Bool `(batch, time)`, the tokens that count; None: all real ones.
        """
        mask = self.mask if counted is None else ops.logical_and(self.mask, counted)
        return _mean(losses, token_weights(losses, mask, self.sample_weight))

    def mean_of_rows(self, losses: Tensor, name: str) -> Tensor:
        """Return the weighted mean over rows with tokens of `losses`, float32 `(batch,)`.

        Args:
            losses: The losses; those of other rows may be NaN.
            name: Name of the objective, for errors.

        Raises:
            ValueError: If there is a sample weight for each token.
        """
        mask, weights = ops.any(self.mask, axis=1), self.sample_weight
        if weights is not None:
            shape = known_shape(weights) or ()
            if len(shape) > 1 and shape[1] not in (1, None):
                raise ValueError(
                    f"sample_weight has shape {shape}, a weight for each token, but {name} has a loss "
                    "for each row. Give a weight for each row, (batch,)."
                )
            weights = ops.reshape(weights, (-1,))
        return _mean(losses, ops.cast(mask, losses.dtype) * (1.0 if weights is None else ops.cast(weights, "float32")))


@dataclass(frozen=True)
class Objective(Options):
    """Base class of objectives: options of `Seq2Seq` that add a loss to the one that the model is compiled with.

    The loss of a training step is `(1 - replaced) * compiled loss + loss(model, batch)`, with the weight of the
    objective in its loss. `evaluate` reports the compiled loss alone, by which models with different objectives can be
    compared.

    Subclasses are frozen dataclasses, registered with Keras.
    """

    @property
    def replaced(self) -> float:
        """The share of the compiled loss that the objective takes the place of."""
        return 0.0

    def check_model(self, model: Any) -> None:
        """Raise ValueError if the model cannot be trained with the objective."""

    def check_inputs(self, inputs: Mapping[str, Any], model: Any) -> None:
        """Raise ValueError if arrays that the objective reads do not fit the model; they may be missing."""

    def check_to_train(self, inputs: Mapping[str, Any], model: Any) -> None:
        """Raise ValueError if the model cannot be trained on the arrays."""

    def loss(self, model: Any, batch: TrainingBatch) -> Tensor:
        """Return the loss of a batch times the objective's weight, a float32 scalar."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(model, batch).")


def check_kind(name: str, value: Any, kind: type) -> None:
    """Raise ValueError unless an option of a model is None or an object of its class."""
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name}={value!r}, but it must be a kseq.training.{kind.__name__}(...), or None.")


def check_share(weight: float) -> None:
    """Raise ValueError if a weight that is a share of the whole loss is not from 0 to 1."""
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight={weight}, but it is a share of the whole loss: a number from 0 to 1.")


def check_weight(weight: float) -> None:
    """Raise ValueError if the weight of an added loss is negative."""
    if weight < 0.0:
        raise ValueError(f"weight={weight}, but the weight of a loss is at least 0.")


def required(inputs: Mapping[str, Any], name: str, objective: str) -> Any:
    """Return an input, or raise ValueError if it is missing."""
    if name not in inputs:
        raise ValueError(
            f"The inputs {sorted(inputs)} lack {name!r}, which training with {objective} needs. Add it to the arrays, "
            "or to each batch of the dataset."
        )
    return inputs[name]


def _mean(losses: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of `losses` by `weights`; losses of weight 0 are ignored, even if they are NaN."""
    return mean_of_sum(ops.sum(ops.where(weights == 0, 0.0, losses) * weights), weights)
