"""Distillation: training a model to predict what a teacher predicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.losses.soft_targets import check_temperature, soft_target_loss
from kseq.models.objectives.objective import Objective, TrainingBatch, check_share, required
from kseq.numbers import read_numbers

LOGITS, PROBABILITIES = "teacher_logits", "teacher_probabilities"


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class Distillation(Objective):
    """Distillation (Hinton et al. 2015): the model learns a teacher's predictions beside the labels.

    The loss of a training step is `(1 - weight) * compiled loss + weight * d`, d being the mean over the real tokens of
    `kseq.losses.soft_target_loss`. The inputs need `teacher_logits` or `teacher_probabilities`, float `(batch, target
    time - 1, vocabulary)`: what a teacher with the same vocabulary returns for the same inputs. (Of a `PointerDecoder`
    the vocabulary includes the copied positions.)

    Args:
        weight: The share of the teacher in the whole loss, from 0 to 1.
        temperature: Divisor of both models' logits, above 0.

    Raises:
        ValueError: If an option is out of range. In `fit` and `train_on_batch` with arrays, if the teacher's
            predictions are missing, have another shape, or are no finite numbers or no probabilities. In a compiled
            step a real token with NaN among the teacher's numbers makes the loss NaN, and has no gradient.

    Example:
        >>> student = kseq.models.Seq2Seq(encoder, decoder, distillation=kseq.training.Distillation(0.7, 2.0))
        >>> student.compile("adam")
        >>> student.fit(batches.map(lambda batch: {**batch, "teacher_logits": teacher(batch)}))

    Reference: G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.
    """

    weight: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        read_numbers(self)
        check_share(self.weight)
        check_temperature(self.temperature)

    @property
    def replaced(self) -> float:
        """The share of the compiled loss that the teacher takes."""
        return self.weight

    def loss(self, model: Any, batch: TrainingBatch) -> Tensor:
        """Return the weighted mean divergence from the teacher."""
        if PROBABILITIES in batch.inputs:
            _refuse_both(batch.inputs)
            probabilities = ops.cast(batch.inputs[PROBABILITIES], "float32")
            teacher = ops.log(ops.where(probabilities > 0, probabilities, 1e-30))
            teacher = ops.where(probabilities >= 0, teacher, np.nan)
        else:
            teacher = required(batch.inputs, LOGITS, "a Distillation")
        losses = soft_target_loss(teacher, batch.logits, temperature=self.temperature)
        return self.weight * batch.mean_of_tokens(losses)

    def check_to_train(self, inputs: Mapping[str, Any], model: Any) -> None:
        """Raise ValueError if there are no predictions of a teacher."""
        if PROBABILITIES not in inputs:
            required(inputs, LOGITS, "a Distillation")

    def check_inputs(self, inputs: Mapping[str, Any], model: Any) -> None:
        """Raise ValueError if the teacher's predictions do not fit the targets."""
        _refuse_both(inputs)
        for name in (LOGITS, PROBABILITIES):
            if name not in inputs:
                continue
            values = np.asarray(inputs[name])
            rows, time = np.shape(inputs["target"])
            expected = rows, time - 1, model.num_target_ids
            if values.dtype.kind != "f" and values.dtype.name != "bfloat16":
                raise ValueError(f"{name} has dtype {values.dtype}, but expected floats.")
            if values.shape != expected:
                raise ValueError(
                    f"{name} has shape {values.shape}, but expected (batch, target time - 1, vocabulary) = {expected}: "
                    "a prediction for each token of the target after the first."
                )
            _check_values(values.astype("float32"), np.asarray(inputs["target_lengths"]), name)


def _refuse_both(inputs: Mapping[str, Any]) -> None:
    if LOGITS in inputs and PROBABILITIES in inputs:
        raise ValueError(f"The inputs have both {LOGITS!r} and {PROBABILITIES!r}. Give one of them.")


def _check_values(values: np.ndarray, lengths: np.ndarray, name: str) -> None:
    """Raise ValueError if a real token has a wrong number."""
    real = np.arange(values.shape[1]) < lengths[:, None] - 1
    if name == LOGITS:
        wrong, what = ~(values < np.inf).all(axis=2), "NaN or infinity among its logits"
    else:
        sums = values.sum(axis=2, dtype="float64")
        wrong = ~((values >= 0).all(axis=2) & (np.abs(sums - 1) < 0.01))
        what = "no probabilities: they are at least 0 and sum to 1"
    if (wrong & real).any():
        row, step = (int(axis) for axis in np.argwhere(wrong & real)[0])
        raise ValueError(f"{name}[{row}, {step}] has {what}. Its sum is {values[row, step].sum()}.")
