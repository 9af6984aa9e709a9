"""A constraint on the first token."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.constraints.tokens import check_tokens, one_or_several, only
from kseq.decoding.decoding import Constraint, Nest, Prefix


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class FirstToken(Constraint):
    """Allows one first token, such as that of the target's language, or one of several.

    The token's own log-probability counts in the score, other than that of a prompt, which counts only if it is scored.

    Args:
        tokens: The token, or several of which one must be the first.

    Raises:
        ValueError: If there is none; when decoding, if one is outside the vocabulary.

    Example:
        >>> greedy_search(step, state, bos_id=1, eos_id=2, max_length=9, constraints=(FirstToken(7),)).tokens[:, 0, 0]
        [7, 7]
    """

    tokens: tuple[int, ...]

    def __init__(self, tokens: int | Sequence[int]):
        made = one_or_several("FirstToken", tokens)
        if not made:
            raise ValueError("FirstToken needs a token or several, but got none, so that nothing could be written.")
        object.__setattr__(self, "tokens", made)

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Nest:
        """Check the tokens; there is no state."""
        check_tokens("FirstToken", self.tokens, vocabulary_size)
        return ()

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Nest) -> tuple[Tensor, Nest]:
        """Return the log-probabilities, at the first position `LOG_ZERO` at other tokens."""
        return ops.where(prefix.length == 0, only(self.tokens, log_probabilities), log_probabilities), state
