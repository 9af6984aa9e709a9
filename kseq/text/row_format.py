"""The format of rows of token ids: truncation, begin and end tokens, padding."""

import dataclasses
from typing import Any, Literal, get_args

import tensorflow as tf

from kseq.numbers import read_numbers
from kseq.text.special_tokens import SpecialTokens

Truncation = Literal["end", "start", "error"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RowFormat:
    """Turns ragged rows of ids into padded `(ids, lengths)`; the options are those of `kseq.text.Tokenizer`.

    Raises:
        ValueError: If an option is out of range.
    """

    add_bos: bool = False
    add_eos: bool = False
    max_length: int | None = None
    truncation: Truncation = "end"
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        read_numbers(self)
        shortest = max(1, self.add_bos + self.add_eos)
        if self.max_length is not None and self.max_length < shortest:
            raise ValueError(
                f"max_length must be at least {shortest}, as it counts the ids of add_bos={self.add_bos} and "
                f"add_eos={self.add_eos}, but is {self.max_length}. Use None for no limit."
            )
        if self.truncation not in get_args(Truncation):
            raise ValueError(f"truncation must be one of {get_args(Truncation)}, but is {self.truncation!r}.")
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of < 1:
            raise ValueError(
                f"pad_to_multiple_of must be at least 1, but is {self.pad_to_multiple_of}. "
                "Use None to pad to the longest row."
            )

    def __call__(self, rows: tf.RaggedTensor, special_tokens: SpecialTokens) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `(ids (batch, time), lengths (batch,))`, int32, of `rows`, ragged int32 `(batch, (tokens))`."""
        rows = self._add_ends(self._truncate(rows), special_tokens)
        lengths = tf.cast(rows.row_lengths(), tf.int32)
        return self._pad(rows.to_tensor(special_tokens.pad_id), special_tokens.pad_id), lengths

    def _truncate(self, rows: tf.RaggedTensor) -> tf.RaggedTensor:
        if self.max_length is None:
            return rows
        room = self.max_length - self.add_bos - self.add_eos
        if self.truncation == "error":
            return _check_lengths(rows, room)
        if self.truncation == "start" and room > 0:
            return rows[:, -room:]
        return rows[:, :room]

    def _add_ends(self, rows: tf.RaggedTensor, special_tokens: SpecialTokens) -> Any:
        parts: list[Any] = [rows]
        if self.add_bos:
            parts.insert(0, tf.fill([rows.nrows(), 1], special_tokens.bos_id))
        if self.add_eos:
            parts.append(tf.fill([rows.nrows(), 1], special_tokens.eos_id))
        return tf.concat(parts, axis=1)

    def _pad(self, ids: tf.Tensor, pad_id: int) -> tf.Tensor:
        multiple = self.pad_to_multiple_of
        if multiple is None:
            return ids
        time = tf.shape(ids)[1]
        padded_time = tf.maximum((time + multiple - 1) // multiple, 1) * multiple
        paddings = tf.stack([[0, 0], [0, padded_time - time]])
        ids = tf.pad(ids, paddings, constant_values=pad_id)
        fixed = self.max_length is not None and self.max_length <= multiple
        return tf.ensure_shape(ids, (None, multiple if fixed else None))


def _check_lengths(rows: tf.RaggedTensor, room: int) -> tf.RaggedTensor:
    message = (
        f"A text has more tokens than the {room} that max_length leaves. Shorten the text, increase max_length, or cut "
        'it with truncation="end" or "start".'
    )
    check = tf.debugging.assert_less_equal(rows.row_lengths(), tf.constant(room, tf.int64), message)
    # In eager execution the check has raised by now and returns None; a TensorFlow 1 graph needs the dependency.
    with tf.control_dependencies([] if check is None else [check]):
        return rows.with_flat_values(tf.identity(rows.flat_values))
