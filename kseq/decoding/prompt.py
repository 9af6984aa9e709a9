"""Prompts: the first tokens of the hypotheses of each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor, known_value
from kseq.decoding.checks import shapes_fit
from kseq.decoding.decoding import LOG_ZERO
from kseq.ids import known_integers
from kseq.masking import mask_from_lengths
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
    def of(cls, tokens: Any, lengths: Any, scored: bool) -> "Prompt | None":
        """Return the prompt, or None if there is none; without `lengths` all tokens are real.

        Args:
            tokens: int `(batch, max_prompt)`, a list of rows of any lengths, a RaggedTensor, or None.
            lengths: int `(batch,)`, or None.
            scored: As the attribute.

        Raises:
            ValueError: If the tokens are no whole numbers, or a shape is wrong.
        """
        if tokens is None:
            if lengths is not None:
                raise ValueError("prompt_lengths were given without a prompt. Give prompt=, int32 (batch, max_prompt).")
            return None
        tokens, own = _padded(tokens)
        tokens = _whole("prompt", tokens, "Give int (batch, max_prompt), or a list of rows of ids.")
        if len(tokens.shape) != 2:
            raise ValueError(
                f"prompt must be int32 (batch, max_prompt), but has shape {tuple(tokens.shape)}. A single prompt is a "
                "batch of one row: [[...]]."
            )
        if lengths is None:
            lengths = ops.full((ops.shape(tokens)[0],), ops.shape(tokens)[1], dtype="int32") if own is None else own
        lengths = _whole("prompt_lengths", lengths, "Give the number of tokens of each row.")
        if len(lengths.shape) != 1:
            raise ValueError(f"prompt_lengths must be int32 (batch,), but have shape {tuple(lengths.shape)}.")
        if own is not None:
            _check_given(known_value(lengths), known_value(own))
        return cls(tokens, lengths, scored)

    def check(self, batch: int | Tensor, vocabulary_size: int, ends: Sequence[int]) -> None:
        """Raise if the prompt does not fit the model, as far as its values are known before the graph runs.

        Args:
            batch: Number of rows of the state.
            vocabulary_size: Number of token ids.
            ends: The tokens that end a hypothesis.
        """
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
        is_real = np.arange(tokens.shape[1]) < lengths[:, None]
        outside = sorted({int(token) for token in tokens[is_real] if not 0 <= token < vocabulary_size})
        if outside:
            raise ValueError(
                f"prompt has tokens {outside}, outside the vocabulary of {vocabulary_size} classes. Token ids are "
                f"between 0 and {vocabulary_size - 1}."
            )
        ended = is_real & np.isin(tokens, ends)
        if ended.any() and not self.scored:
            row, place = (int(axis) for axis in np.argwhere(ended)[0])
            raise ValueError(
                f"prompt[{row}, {place}] is {tokens[row, place]}, which ends a hypothesis (eos): nothing would be "
                "written after this prompt. Tokenize prompts without add_eos, or leave the token out. To score whole "
                "outputs, use kseq.decoding.token_log_probabilities, or score_prompt=True."
            )

    def valid(self, vocabulary_size: int, ends: Sequence[int]) -> Tensor | None:
        """Return which rows pass `check`, bool `(batch,)`; None if it knows, outside compiled calls, that all do."""
        if known_value(self.tokens) is not None and known_value(self.lengths) is not None:
            return None
        time = ops.shape(self.tokens)[1]
        wrong = ops.logical_or(self.tokens < 0, self.tokens >= vocabulary_size)
        for end in () if self.scored else ends:
            wrong = ops.logical_or(wrong, self.tokens == end)
        wrong = ops.any(ops.logical_and(wrong, mask_from_lengths(self.lengths, time)), axis=1)
        return ops.logical_and(ops.logical_not(wrong), ops.logical_and(self.lengths >= 0, self.lengths <= time))

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


def _padded(tokens: Any) -> tuple[Any, Any]:
    """Return the rows of a list or RaggedTensor, padded, and their lengths; of anything else the lengths are None."""
    if hasattr(tokens, "nested_row_splits"):
        if tokens.ragged_rank != 1 or len(tokens.shape) != 2:
            raise ValueError(
                f"prompt must have one row of ids for each row of the state, but is ragged of shape "
                f"{tuple(tokens.shape)}."
            )
        return tokens.to_tensor(), tokens.row_lengths()
    if isinstance(tokens, str | bytes):
        known_integers(np.asarray(tokens), "prompt")  # raises an error that tells how to tokenize
    if not isinstance(tokens, list | tuple) or not any(isinstance(row, list | tuple | np.ndarray) for row in tokens):
        if isinstance(tokens, list | tuple) and any(isinstance(row, str | bytes | None) for row in tokens):
            known_integers(np.asarray(tokens, object), "prompt")
        return tokens, None
    if None in [row if row is None else 0 for row in tokens]:
        raise ValueError("A row of prompt is None. A row without a prompt is an empty list.")
    known = [known_integers(row, f"prompt[{index}]") for index, row in enumerate(tokens)]
    rows = [row for row in known if row is not None and row.ndim == 1]
    if len(rows) < len(known):
        return tokens, None
    lengths = np.array([len(row) for row in rows], "int32")
    padded = np.zeros((len(rows), lengths.max(initial=0)), "int64")
    for index, row in enumerate(rows):
        padded[index, : len(row)] = row
    return padded, lengths


def _check_given(given: np.ndarray | None, own: np.ndarray | None) -> None:
    """Raise ValueError if a given length is larger than that of its row in a list or RaggedTensor."""
    if given is None or own is None or given.shape != own.shape or not (given > own).any():
        return
    row = int(np.argmax(given > own))
    raise ValueError(
        f"prompt_lengths[{row}] = {given[row]}, but prompt[{row}] has {own[row]} tokens. Leave prompt_lengths out: the "
        "rows have lengths of their own."
    )


def _whole(name: str, values: Tensor, way_out: str) -> Tensor:
    """Return whole numbers as an int32 tensor, or raise if they are none."""
    try:
        tensor = ops.convert_to_tensor(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be made a tensor of whole numbers: {error} {way_out}") from error
    check_whole_tensor(name, tensor)
    return ops.cast(tensor, "int32")
