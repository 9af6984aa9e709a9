"""Prompts: the first tokens of the hypotheses of each row."""

from dataclasses import dataclass

import numpy as np
from keras import ops

from kseq.backend import Tensor, known_value
from kseq.decoding.checks import shapes_fit
from kseq.decoding.decoding import LOG_ZERO
from kseq.numbers import check_whole_tensor

NEVER = 2 * LOG_ZERO  # below any token's log-probability, that of an impossible token of a prompt included


@dataclass(frozen=True)
class Prompt:
    """The first tokens of hypotheses, with a length for each row.

    At a position inside its row's prompt a hypothesis has one continuation, the prompt's token. So a row may still be
    in its prompt while others write freely, and its answer does not depend on theirs.

    Attributes:
        tokens: int32 `(batch, max_prompt)`; tokens beyond `lengths` change nothing.
        lengths: int32 `(batch,)`.
        scored: Whether the tokens' own log-probabilities count; if not, they count zero, and length penalties leave
            them out.
    """

    tokens: Tensor
    lengths: Tensor
    scored: bool

    @classmethod
    def of(cls, tokens: Tensor | None, lengths: Tensor | None, scored: bool) -> "Prompt | None":
        """Return the prompt, or None if there is none; without `lengths` all tokens are real."""
        if tokens is None:
            if lengths is not None:
                raise ValueError("prompt_lengths were given without a prompt. Give prompt=, int32 (batch, max_prompt).")
            return None
        tokens = _whole("prompt", tokens, "Pad shorter prompts at the end, and give prompt_lengths.")
        if len(tokens.shape) != 2:
            raise ValueError(f"prompt must be int32 (batch, max_prompt), but has shape {tuple(tokens.shape)}.")
        if lengths is None:
            lengths = ops.full((ops.shape(tokens)[0],), ops.shape(tokens)[1], dtype="int32")
        lengths = _whole("prompt_lengths", lengths, "Give the number of tokens of each row.")
        if len(lengths.shape) != 1:
            raise ValueError(f"prompt_lengths must be int32 (batch,), but have shape {tuple(lengths.shape)}.")
        return cls(tokens, lengths, scored)

    def check(self, batch: int | Tensor, vocabulary_size: int) -> None:
        """Raise if the prompt does not fit the model, as far as its values are known before the graph runs."""
        for name, value in (("prompt", self.tokens), ("prompt_lengths", self.lengths)):
            if not shapes_fit(value.shape[:1], (batch,)):
                raise ValueError(f"{name} has {value.shape[0]} rows, but the state has {batch}. Give one for each row.")
        tokens, lengths = known_value(self.tokens), known_value(self.lengths)
        if tokens is None or lengths is None:
            return
        if ((lengths < 0) | (lengths > tokens.shape[1])).any():
            raise ValueError(
                f"prompt_lengths must be between 0 and the prompt's {tokens.shape[1]} columns, but are "
                f"{lengths.tolist()}."
            )
        real = tokens[np.arange(tokens.shape[1]) < lengths[:, None]]
        outside = sorted({int(token) for token in real if not 0 <= token < vocabulary_size})
        if outside:
            raise ValueError(
                f"prompt has tokens {outside}, outside the vocabulary of {vocabulary_size} classes. Token ids are "
                f"between 0 and {vocabulary_size - 1}."
            )

    def force(self, log_probabilities: Tensor, own: Tensor, position: Tensor) -> Tensor:
        """Return `log_probabilities` `(rows, vocabulary)`; inside a prompt only its token is possible.

        Args:
            log_probabilities: The constrained log-probabilities.
            own: The model's own, before constraints.
            position: int32 scalar, the number of tokens so far.
        """
        rows, vocabulary = ops.shape(log_probabilities)
        here = ops.arange(ops.shape(self.tokens)[1], dtype="int32") == position  # (max_prompt,)
        token = ops.sum(ops.where(here, self.tokens, 0), axis=1)  # (batch,)
        token, inside = self._rows(token, rows), self._rows(position < self._within, rows)
        is_token = ops.arange(vocabulary, dtype="int32") == token[:, None]  # (rows, vocabulary)
        forced = ops.where(is_token, own if self.scored else 0.0, NEVER)
        return ops.where(inside[:, None], forced, log_probabilities)

    def counted(self, length: Tensor | int) -> Tensor | int:
        """Return how many of the first `length` tokens are scored, at least one: int32 `(batch,)`, or the scalar."""
        return length if self.scored else ops.maximum(length - self._within, 1)

    @property
    def _within(self) -> Tensor:
        """The lengths, cut at the prompt's: in a compiled call they are not checked."""
        return ops.minimum(self.lengths, ops.shape(self.tokens)[1])

    def _rows(self, values: Tensor, rows: int | Tensor) -> Tensor:
        """Return `(batch,)` as `(rows,)`, each value repeated for the hypotheses of its row."""
        batch = ops.shape(values)[0]
        # An empty batch has no hypotheses.
        hypotheses = rows // (max(batch, 1) if isinstance(batch, int) else ops.maximum(batch, 1))
        return ops.reshape(ops.broadcast_to(values[:, None], (batch, hypotheses)), (rows,))


def _whole(name: str, values: Tensor, way_out: str) -> Tensor:
    """Return whole numbers as an int32 tensor, or raise if they are none."""
    try:
        tensor = ops.convert_to_tensor(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be made a tensor of whole numbers: {error} {way_out}") from error
    check_whole_tensor(name, tensor)
    return ops.cast(tensor, "int32")
