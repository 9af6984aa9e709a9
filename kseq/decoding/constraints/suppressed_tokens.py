"""A constraint that forbids tokens."""

from dataclasses import dataclass

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.constraints.tokens import check_tokens, is_one_of, one_or_several
from kseq.decoding.decoding import LOG_ZERO, Constraint, Nest, Prefix


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class SuppressedTokens(Constraint):
    """Forbids tokens, such as the unknown token or bos.

    Attributes:
        tokens: Their ids, or one id.

    Raises:
        ValueError: When decoding, if a token is outside the vocabulary.

    Example:
        >>> beam_search(step, state, bos_id=1, eos_id=2, max_length=9, constraints=(SuppressedTokens((0, 1, 3)),))
    """

    tokens: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", one_or_several("SuppressedTokens", self.tokens))

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Nest:
        """Check the tokens; there is no state."""
        check_tokens("SuppressedTokens", self.tokens, vocabulary_size)
        return ()

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Nest) -> tuple[Tensor, Nest]:
        """Return the log-probabilities, `LOG_ZERO` at `tokens`."""
        suppressed = is_one_of(self.tokens, log_probabilities.shape[-1])
        return ops.where(ops.convert_to_tensor(suppressed), LOG_ZERO, log_probabilities), state
