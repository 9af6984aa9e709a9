"""A penalty on tokens that a hypothesis has already written."""

from dataclasses import dataclass

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.constraints.tokens import just_written
from kseq.decoding.decoding import LOG_ZERO, Constraint, Nest, Prefix
from kseq.numbers import read_numbers


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class RepetitionPenalty(Constraint):
    """Multiplies the log-probability of a token that the hypothesis has already written: `penalty * log p`.

    The paper divides logits by the penalty before the softmax. That raises the other tokens, and the effect on a
    penalised token depends on a constant offset of the logits. Log-probabilities have a fixed zero.

    Attributes:
        penalty: The factor of the log-probability, 1 (no penalty) or more. The paper uses 1.2.

    Raises:
        ValueError: If the penalty is below 1, or not finite.

    Example:
        >>> sample(step, state, bos_id=1, eos_id=2, max_length=9, constraints=(RepetitionPenalty(1.2),))

    Reference: N. Keskar, B. McCann, L. Varshney, C. Xiong, R. Socher, "CTRL: a conditional transformer language model
    for controllable generation", 2019.
    """

    penalty: float = 1.2

    def __post_init__(self) -> None:
        read_numbers(self, hint="NoRepeatedNGram(1) forbids written tokens.")
        if self.penalty < 1:
            raise ValueError(
                f"penalty={self.penalty} must be 1 or more: below 1 it would raise log-probabilities of "
                "repeated tokens. NoRepeatedNGram(1) forbids them."
            )

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Tensor:
        """Return a mask of the written tokens, bool `(batch, vocabulary)`: none."""
        return ops.zeros((batch, vocabulary_size), dtype="bool")

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Tensor) -> tuple[Tensor, Nest]:
        """Return the log-probabilities, those of written tokens multiplied."""
        written = ops.logical_or(state, just_written(prefix, log_probabilities.shape[-1]))
        penalised = ops.maximum(self.penalty * log_probabilities, LOG_ZERO)
        return ops.where(written, penalised, log_probabilities), written
