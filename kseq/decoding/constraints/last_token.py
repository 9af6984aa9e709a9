"""A constraint on the end of a hypothesis."""

from dataclasses import dataclass

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.constraints.tokens import check_tokens, is_one_of, only
from kseq.decoding.decoding import LOG_ZERO, Constraint, Nest, Prefix
from kseq.numbers import read_numbers


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class LastToken(Constraint):
    """Makes every hypothesis end by `max_length`, and, if given, after a certain token, such as a full stop.

    The last of `max_length` tokens must be an end token, so no hypothesis is cut there. With `token`, an end may only
    follow that token, so the last token but one of `max_length` must be `token` or an end.

    Attributes:
        token: The token that must come before the end; None for any.

    Raises:
        ValueError: When decoding, if the token is outside the vocabulary, or there is no room for it and the end.

    Example:
        >>> greedy_search(step, state, bos_id=1, eos_id=2, max_length=4, constraints=(LastToken(9),)).tokens
        [[[5, 7, 9, 2]]]
    """

    token: int | None = None

    def __post_init__(self) -> None:
        read_numbers(self)

    @property
    def reserved_places(self) -> int:
        """One place for an end token, and with `token` another one for it."""
        return 1 if self.token is None else 2

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Nest:
        """Check the token; there is no state."""
        if self.token is not None:
            check_tokens("LastToken", [self.token], vocabulary_size)
            if max_length < 2:
                raise ValueError(
                    f"LastToken(token={self.token}) needs room for the token and the end after it, but "
                    f"max_length={max_length}."
                )
        return ()

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Nest) -> tuple[Tensor, Nest]:
        """Return the log-probabilities, `LOG_ZERO` at ends that come too early and other tokens that come too late."""
        left = prefix.tokens.shape[-1] - prefix.length
        values = log_probabilities
        if self.token is not None:
            is_end = ops.convert_to_tensor(is_one_of(prefix.eos_ids, values.shape[-1]))
            may_end = ops.logical_and(prefix.last == self.token, prefix.length > 0)[:, None]  # (rows, 1)
            values = ops.where(ops.logical_and(is_end, ops.logical_not(may_end)), LOG_ZERO, values)
            values = ops.where(left == 2, only([self.token, *prefix.eos_ids], values), values)
        return ops.where(left == 1, only(prefix.eos_ids, values), values), state
