"""What a hypothesis begins with."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.constraints.tokens import check_tokens, only
from kseq.decoding.decoding import Constraint, Nest, Prefix


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class FirstToken(Constraint):
    """Allows one first token, such as that of the target's language, or one of several.

    It keeps its own log-probability, which counts in the score; a prompt is free unless it is scored.

    Args:
        tokens: The token, or those of which one must come first.

    Raises:
        ValueError: If there is none; when decoding, if one is outside the vocabulary.

    Example:
        >>> greedy_search(step, state, bos_id=1, eos_id=2, max_length=9, constraints=(FirstToken(7),)).tokens[:, 0, 0]
        [7, 7]
    """

    tokens: tuple[int, ...]

    def __init__(self, tokens: int | Sequence[int]):
        made = tuple(int(token) for token in tokens) if isinstance(tokens, Sequence) else (int(tokens),)
        if not made:
            raise ValueError("FirstToken needs a token or several, but got none, so that nothing could be written.")
        object.__setattr__(self, "tokens", made)

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Nest:
        """Check the tokens; there is no state."""
        del batch, max_length
        check_tokens("FirstToken", self.tokens, vocabulary_size)
        return ()

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Nest) -> tuple[Tensor, Nest]:
        """Return the log-probabilities, at first `LOG_ZERO` for other tokens."""
        return ops.where(prefix.length == 0, only(self.tokens, log_probabilities), log_probabilities), state
