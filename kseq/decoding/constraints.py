"""Constraints on what may be written."""

from dataclasses import dataclass

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import LOG_ZERO, Constraint, Nest, Prefix


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class MinimumLength(Constraint):
    """Forbids eos before a hypothesis has `length` tokens, eos included.

    Attributes:
        length: The fewest tokens.

    Example:
        >>> greedy_search(step, state, bos_id=1, eos_id=2, max_length=9, constraints=(MinimumLength(4),)).lengths
        [[4], [5]]
    """

    length: int

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Nest) -> tuple[Tensor, Nest]:
        """Return the log-probabilities, eos's `LOG_ZERO` while it would come too early."""
        is_eos = [token in prefix.eos_ids for token in range(log_probabilities.shape[-1])]  # (vocabulary,)
        too_early = ops.logical_and(ops.convert_to_tensor(is_eos), prefix.length + 1 < self.length)
        return ops.where(too_early, LOG_ZERO, log_probabilities), state


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class SuppressedTokens(Constraint):
    """Forbids tokens: the unknown token, say, or bos.

    Attributes:
        tokens: Their ids.

    Raises:
        ValueError: When decoding, if a token is outside the vocabulary.

    Example:
        >>> beam_search(step, state, bos_id=1, eos_id=2, max_length=9, constraints=(SuppressedTokens((0, 1, 3)),))
    """

    tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(int(token) for token in self.tokens))

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Nest:
        """Check the tokens; there is no state."""
        del batch, max_length
        outside = [token for token in self.tokens if not 0 <= token < vocabulary_size]
        if outside:
            raise ValueError(
                f"SuppressedTokens got tokens={outside}, outside the vocabulary of {vocabulary_size} classes. Token "
                f"ids are between 0 and {vocabulary_size - 1}."
            )
        return ()

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Nest) -> tuple[Tensor, Nest]:
        """Return the log-probabilities, those of `tokens` `LOG_ZERO`."""
        del prefix
        suppressed = [token in self.tokens for token in range(log_probabilities.shape[-1])]  # (vocabulary,)
        return ops.where(ops.convert_to_tensor(suppressed), LOG_ZERO, log_probabilities), state


def with_minimum_length(
    min_length: int, max_length: int, constraints: tuple[Constraint, ...]
) -> tuple[Constraint, ...]:
    """Return `constraints`, after `MinimumLength(min_length)` if that forbids anything."""
    if min_length > max_length:
        raise ValueError(
            f"min_length={min_length} is more than max_length={max_length}. Both count tokens, eos included."
        )
    return (MinimumLength(min_length), *constraints) if min_length > 1 else constraints
