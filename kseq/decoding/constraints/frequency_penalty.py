"""A penalty on tokens that grows with their number of occurrences."""

from dataclasses import dataclass

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.constraints.tokens import just_written
from kseq.decoding.decoding import LOG_ZERO, Constraint, Nest, Prefix
from kseq.numbers import read_numbers


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class FrequencyPenalty(Constraint):
    """Lowers a token's log-probability by `frequency * count + presence * (count > 0)`, in nats.

    `count` is the number of times that the hypothesis has already written the token.

    Attributes:
        frequency: The cost of each occurrence, 0 or more; to forbid written tokens use `NoRepeatedNGram(1)`.
        presence: The cost of one or more occurrences, 0 or more.

    Raises:
        ValueError: If one of them is negative, or not finite.

    Example:
        >>> sample(step, state, bos_id=1, eos_id=2, max_length=9, constraints=(FrequencyPenalty(0.5, presence=0.2),))
    """

    frequency: float = 0.5
    presence: float = 0.0

    def __post_init__(self) -> None:
        read_numbers(self, hint="NoRepeatedNGram(1) forbids written tokens.")
        if self.frequency < 0 or self.presence < 0:
            raise ValueError(
                f"frequency={self.frequency} and presence={self.presence} must be 0 or more: a constraint "
                "may not raise log-probabilities. NoRepeatedNGram(1) forbids written tokens."
            )

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Tensor:
        """Return the number of occurrences of each token, int32 `(batch, vocabulary)`: 0."""
        return ops.zeros((batch, vocabulary_size), dtype="int32")

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Tensor) -> tuple[Tensor, Nest]:
        """Return the lowered log-probabilities."""
        counts = state + ops.cast(just_written(prefix, log_probabilities.shape[-1]), "int32")
        cost = self.frequency * ops.cast(counts, "float32") + ops.where(counts > 0, self.presence, 0.0)
        return ops.maximum(log_probabilities - cost, LOG_ZERO), counts
