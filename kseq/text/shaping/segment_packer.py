"""Packing of one text or several into a row, with begin token, separators and end token."""

import dataclasses
from typing import Any, NamedTuple, Self

import keras
import tensorflow as tf

from kseq.numbers import LARGEST_ID, whole
from kseq.text.row_format import RowFormat
from kseq.text.shaping.truncation import Side, Strategy, as_segments, check_strategy, truncated
from kseq.text.special_tokens import SpecialTokens, checked_special_tokens


class PackedSegments(NamedTuple):
    """Rows of several texts.

    Attributes:
        ids: int32 `(batch, time)`, padded at the end.
        segment_ids: int32 `(batch, time)`, the place of a token's text in the row: 0 for the first text and the begin
            token, 1 for the second text and so on; a separator belongs to the text before it. Padding has 0.
        mask: bool `(batch, time)`, True at tokens, False in the padding.
        lengths: int32 `(batch,)`.
    """

    ids: tf.Tensor
    segment_ids: tf.Tensor
    mask: tf.Tensor
    lengths: tf.Tensor


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentPacker:
    """Packs texts as BERT reads them: `[CLS] a [SEP]` for one, `[CLS] a [SEP] b [SEP]` for two, and so on.

    `[CLS]` is the begin token and `[SEP]` the end token of `special_tokens`, which are those of BERT if the tokenizer
    was read by `WordPieceTokenizer.from_file`. It works in `tf.data`, in exported graphs, and on Python lists.

    Args:
        special_tokens: The special tokens of the tokenizer, `tokenizer.special_tokens`. None: the default.
        max_length: Largest number of ids in a row, special tokens included. None: no limit.
        strategy: How longer rows are cut, see `kseq.text.truncate_segments`.
        side: Whether the "end" (default) or the "start" of a text is dropped.
        separator_id: The id between two texts. None: the end token.
        separators: How many of them there are between two texts: 1 (default) in BERT, 2 in RoBERTa.
        add_bos: Whether a row begins with the begin token.
        add_eos: Whether a row ends with the end token.
        pad_to_multiple_of: See `Tokenizer`.

    Call arguments:
        *segments: The ids of the first texts, those of the second texts, and so on: each ragged integers
            `(batch, (tokens))`, such as `tokenizer.tokenize(text)`, or lists of lists of integers.

    Returns:
        A `PackedSegments`.

    Raises:
        ValueError: If an option is out of range; in a call, if `max_length` is smaller than the number of special
            tokens, or the segments have different numbers of rows.
        tf.errors.InvalidArgumentError: In a call, if a strategy other than "longest_first" leaves a row too long.

    Example:
        >>> packed = SegmentPacker(max_length=8)([[11, 12]], [[21, 22, 23, 24]])
        >>> packed.ids.numpy().tolist(), packed.segment_ids.numpy().tolist()
        ([[2, 11, 12, 3, 21, 22, 23, 3]], [[0, 0, 0, 0, 1, 1, 1, 1]])
    """

    special_tokens: SpecialTokens | None = None
    max_length: int | None = None
    strategy: Strategy = "longest_first"
    side: Side = "end"
    separator_id: int | None = None
    separators: int = 1
    add_bos: bool = True
    add_eos: bool = True
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "special_tokens", checked_special_tokens(self.special_tokens) or SpecialTokens())
        check_strategy(self.strategy, self.side)
        object.__setattr__(self, "separators", whole("separators", self.separators))
        if self.separators < 0:
            raise ValueError(f"separators must be at least 0, but is {self.separators}.")
        if self.separator_id is not None:
            object.__setattr__(self, "separator_id", whole("separator_id", self.separator_id))
            if not 0 <= self.separator_id <= LARGEST_ID:
                raise ValueError(f"separator_id must be an id from 0 to {LARGEST_ID}, but is {self.separator_id}.")
        for name, value in dataclasses.asdict(self._row_format()).items():  # read and checked
            if hasattr(self, name):
                object.__setattr__(self, name, value)

    def __call__(self, *segments: Any) -> PackedSegments:
        """Return the packed rows of `segments`."""
        rows = as_segments(segments)
        if self.max_length is not None:
            rows = truncated(rows, self.max_length - self._special_count(len(rows)), self.strategy, self.side)
        special: Any = self.special_tokens
        separator = special.eos_id if self.separator_id is None else self.separator_id
        parts: list[Any] = []
        ends = []
        end = tf.fill([rows[0].nrows()], int(self.add_bos))
        for place, row in enumerate(rows):
            separators = self.separators if place + 1 < len(rows) else 0
            parts += [row, tf.fill([row.nrows(), separators], separator)]
            end += tf.cast(row.row_lengths(), tf.int32) + separators
            ends.append(end)
        joined: Any = tf.concat(parts, axis=1)
        ids, lengths = self._row_format()(joined, special)
        mask = tf.sequence_mask(lengths, tf.shape(ids)[1])
        place = tf.range(tf.shape(ids)[1])[None, :, None]
        passed = tf.cast(place >= tf.stack(ends, axis=1)[:, None, :-1], tf.int32)  # (batch, time, segments - 1)
        return PackedSegments(ids, tf.where(mask, tf.reduce_sum(passed, axis=-1), 0), mask, lengths)

    def _row_format(self) -> RowFormat:
        return RowFormat(
            add_bos=self.add_bos,
            add_eos=self.add_eos,
            max_length=self.max_length,
            pad_to_multiple_of=self.pad_to_multiple_of,
        )

    def _special_count(self, segments: int) -> int:
        """Return the number of special tokens of a row, or raise ValueError if `max_length` is smaller."""
        between = self.separators * (segments - 1)
        count = int(self.add_bos) + between + int(self.add_eos)
        if self.max_length is not None and count > self.max_length:
            raise ValueError(
                f"max_length={self.max_length} is too small: a row of {segments} texts has {count} special tokens "
                f"(begin {int(self.add_bos)}, separators {between}, end {int(self.add_eos)}). Increase max_length."
            )
        return count

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**config, "special_tokens": keras.saving.serialize_keras_object(self.special_tokens)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `config` describes."""
        special = keras.saving.deserialize_keras_object(config["special_tokens"])
        return cls(**{**config, "special_tokens": special})
