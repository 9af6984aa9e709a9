"""A minimum length of hypotheses."""

from dataclasses import dataclass

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.constraints.tokens import is_one_of
from kseq.decoding.decoding import LOG_ZERO, Constraint, Nest, Prefix
from kseq.numbers import read_numbers


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class MinimumLength(Constraint):
    """Forbids eos before a hypothesis has `length` tokens, eos included.

    Attributes:
        length: The minimum number of tokens.

    Raises:
        ValueError: If it is negative; when decoding, if it is more than `max_length`.

    Example:
        >>> greedy_search(step, state, bos_id=1, eos_id=2, max_length=9, constraints=(MinimumLength(4),)).lengths
        [[4], [5]]
    """

    length: int

    def __post_init__(self) -> None:
        read_numbers(self)
        if self.length < 0:
            raise ValueError(f"length must be 0 or more, but got length={self.length}.")

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Nest:
        """Check the length; there is no state."""
        if self.length > max_length:
            raise ValueError(
                f"MinimumLength(length={self.length}) is more than max_length={max_length}. Both count tokens, eos "
                "included."
            )
        return ()

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Nest) -> tuple[Tensor, Nest]:
        """Return the log-probabilities, `LOG_ZERO` at eos while the hypothesis is too short."""
        is_eos = ops.convert_to_tensor(is_one_of(prefix.eos_ids, log_probabilities.shape[-1]))
        too_early = ops.logical_and(is_eos, prefix.length + 1 < self.length)
        return ops.where(too_early, LOG_ZERO, log_probabilities), state


def with_minimum_length(
    min_length: int, max_length: int, constraints: tuple[Constraint, ...]
) -> tuple[Constraint, ...]:
    """Return `constraints`, preceded by `MinimumLength(min_length)` if that forbids anything."""
    if min_length > max_length:
        raise ValueError(
            f"min_length={min_length} is more than max_length={max_length}. Both count tokens, eos included."
        )
    return (MinimumLength(min_length), *constraints) if min_length > 1 else constraints
