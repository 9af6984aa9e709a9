"""The base class of tokenizers."""

import abc
import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf

from kseq.text.copies import custom_objects, digest, rebuilt
from kseq.text.corpus import as_batch, text_batches
from kseq.text.ids import as_ids
from kseq.text.normalization import checked_normalizer, normalized, replace_invalid_utf8
from kseq.text.offsets import Offsets
from kseq.text.row_format import RowFormat, Truncation
from kseq.text.shaping.rows import one_hot_rows
from kseq.text.special_tokens import SpecialTokens, checked_special_tokens
from kseq.text.vocabulary import Vocabulary
from kseq.whole_files import write_whole


class Tokenizer(tf.Module, abc.ABC):
    """Converts text to padded ids and back, in the graph.

    `ids, lengths = tokenizer(text)`, and `tokenizer.detokenize(ids)` is the normalised text again, if the vocabulary
    contains its tokens. A tokenizer is a `tf.Module`, not a Keras layer: it works in `tf.data` and in an exported model
    on every Keras backend, and `keras.export.ExportArchive.track(tokenizer)` saves its vocabulary as an asset.

    A subclass defines `split` and `separator`, and is registered with `keras.saving.register_keras_serializable`. A
    subclass of subwords or bytes, whose ids are not looked up by token, also overrides `encode` and `spell`.

    Args:
        vocabulary: A `Vocabulary`, or the tokens without special tokens. None: `adapt` builds it.
        normalizer: Function applied to every text before it is split, usually a `TextNormalizer` or a
            `NormalizerSequence`; it must be serialisable by Keras. None: no normalisation. In both cases bytes that are
            not UTF-8 become U+FFFD first.
        special_tokens: The strings and ids of the special tokens. None: those of `vocabulary`, or the default.
        add_bos: Whether to begin every row with `bos_id`.
        add_eos: Whether to end every row with `eos_id`.
        max_length: Largest number of ids in a row, those of `add_bos` and `add_eos` included. None: no limit.
        truncation: Treatment of longer texts: "end" drops the last tokens, "start" the first ones (begin and end ids
            stay), "error" makes the call, or the request to a server, fail with `InvalidArgumentError`.
        pad_to_multiple_of: Pad the batch to a multiple of this length, at least to this length. If `max_length` is not
            larger, the length is fixed. None: pad to the longest row.

    Call arguments:
        text: string `(batch,)`; also a list of str or bytes. An empty text gives no tokens.

    Returns:
        `(ids, lengths)`: int32 `(batch, time)`, padded with `pad_id` at the end, and int32 `(batch,)`.

    Raises:
        ValueError: If an option is out of range, or `special_tokens` are not those of `vocabulary`.
        RuntimeError: If the tokenizer is called without a vocabulary.
    """

    separator: ClassVar[str]
    """The string that `detokenize` writes between tokens."""
    spells_special_tokens: bool = True
    """Whether `encode` may return the id of a special token for a text that contains its string."""
    prefix: ClassVar[str] = ""
    """The string that `detokenize` writes before each replacement of an unknown token."""

    def __init__(
        self,
        vocabulary: Vocabulary | Iterable[str] | None = None,
        *,
        normalizer: Callable[[Any], tf.Tensor] | None = None,
        special_tokens: SpecialTokens | None = None,
        add_bos: bool = False,
        add_eos: bool = False,
        max_length: int | None = None,
        truncation: Truncation = "end",
        pad_to_multiple_of: int | None = None,
    ) -> None:
        super().__init__()
        special_tokens = checked_special_tokens(special_tokens)
        if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
            vocabulary = Vocabulary(vocabulary, special_tokens=special_tokens)
        self._vocabulary = vocabulary
        self._special_tokens = special_tokens or (SpecialTokens() if vocabulary is None else vocabulary.special_tokens)
        self._normalizer = checked_normalizer(normalizer)
        self._row_format = RowFormat(
            add_bos=add_bos,
            add_eos=add_eos,
            max_length=max_length,
            truncation=truncation,
            pad_to_multiple_of=pad_to_multiple_of,
        )
        if self._vocabulary is not None and self._vocabulary.special_tokens != self._special_tokens:
            raise ValueError(
                f"special_tokens {self._special_tokens.strings} are not those of the vocabulary, "
                f"{self._vocabulary.special_tokens.strings}. Leave special_tokens out, or give them to the vocabulary."
            )

    @abc.abstractmethod
    def split(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the tokens, ragged string `(batch, (tokens))`, of `text`, string `(batch,)`, already normalised."""

    def adapt(self, texts: Any, *, min_count: int = 1, max_size: int | None = None) -> Self:
        """Build the vocabulary from `texts`, and return the tokenizer.

        A function traced before this call keeps the earlier vocabulary.

        Args:
            texts: A list, array, tensor or iterable of str or bytes, or a `tf.data.Dataset` of strings, batched or not.
                A `pathlib.Path`, alone or in the list, stands for the lines of that file, which may be gzipped.
            min_count: Smallest count of a token; rarer tokens are left out.
            max_size: Largest `vocabulary_size`; the rarest tokens are left out. None: no limit.

        Raises:
            TypeError: If `texts` is none of these.
            ValueError: If no token is found, or an option is out of range.
        """
        counts: collections.Counter[bytes] = collections.Counter()
        for batch in text_batches(texts):
            counts.update(self.split(self.normalize(batch)).flat_values.numpy().tolist())
        decoded = {token.decode(): count for token, count in counts.items()}
        self._vocabulary = Vocabulary.from_counts(
            decoded, min_count=min_count, max_size=max_size, special_tokens=self._special_tokens
        )
        return self

    def normalize(self, text: Any) -> tf.Tensor:
        """Return `text`, string `(batch,)`, as valid UTF-8 and normalised, ready to be split."""
        return normalized(text, self._normalizer)

    def tokenize(self, text: Any) -> tf.RaggedTensor:
        """Return the ids of the tokens of `text`, string `(batch,)`: ragged int32 `(batch, (tokens))`.

        These are the tokens alone: without the ids of `add_bos` and `add_eos`, however long, and without padding. The
        rows that a model is trained on and asked with are those of `tokenizer(text)`.

        A token spelled like a special token becomes an unknown token, so a text cannot end or pad a sequence.
        """
        ids = self.encode(self.normalize(text))
        if not self.spells_special_tokens:
            return ids
        values = ids.flat_values
        return ids.with_flat_values(tf.where(self._is_special(values), self.unk_id, values))

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the ids, ragged int32 `(batch, (tokens))`, of `text`, string `(batch,)`, already normalised."""
        return self.vocabulary.lookup(self.split(text))

    def __call__(self, text: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `(ids, lengths)`, int32 `(batch, time)` and `(batch,)`, of `text`, string `(batch,)`.

        With the ids of `add_bos` and `add_eos`, cut to `max_length` and padded; `tokenize` returns the tokens alone.
        """
        return self._row_format(self.tokenize(text), self._special_tokens)

    def strings(self, text: Any, *, normalized: bool = True) -> tf.Tensor:
        """Return the tokens of `text` as strings `(batch, time)`, at the positions of their ids in `tokenizer(text)`.

        Tokens outside the vocabulary are included. Begin, end and padding are empty.

        Args:
            text: string `(batch,)`.
            normalized: Whether the tokens are spelled as in the normalised text, or as in `text` itself. The positions
                of the latter are right if the normalizer does not change the number of tokens.
        """
        tokens = self.split(self.normalize(text) if normalized else replace_invalid_utf8(as_batch(text)))
        return self._in_rows(tokens)

    def _in_rows(self, values: tf.RaggedTensor) -> tf.Tensor:
        """Return the tokens' `values` where their ids are, `(batch, time)`; begin, end and padding have "" or 0."""
        zero: Any = tf.zeros([], values.dtype)
        padded = tf.pad(values.to_tensor(zero), [[0, 0], [1, 0]], constant_values=zero)
        return tf.gather(padded, self._positions(values), axis=1, batch_dims=1)

    def _positions(self, tokens: tf.RaggedTensor) -> tf.Tensor:
        """Return the places of `tokens`, from 1 on, in rows of this format, `(batch, time)`; begin, end, padding: 0."""
        special = SpecialTokens()  # ids 0 to 3, which are no positions
        positions = tf.ragged.range(tf.cast(tokens.row_lengths(), tf.int32)) + len(special)
        return tf.maximum(self._row_format(positions, special)[0] - (len(special) - 1), 0)

    def offsets(self, text: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Return where the tokens are in `text` as it is written, in bytes, at the positions of `tokenizer(text)`.

        They are right if the normalizer does not change the number of tokens. Begin, end and padding have the place 0.

        Args:
            text: string `(batch,)`, which may contain bytes that are not UTF-8.

        Returns:
            `(starts, ends)`, int32 `(batch, time)` each: the place of a token's first byte, and that after its last.

        Raises:
            NotImplementedError: If the class does not tell places, see `locate`.

        Example:
            >>> WordTokenizer(["a"]).offsets(["a  b\u00e9"])[1].numpy()
            array([[1, 6]], dtype=int32)
        """
        places = self.locate(as_batch(text))
        return self._in_rows(places.starts), self._in_rows(places.ends)

    @property
    def tells_places(self) -> bool:
        """Whether `offsets` is defined for this class."""
        return type(self).locate is not Tokenizer.locate

    def locate(self, text: tf.Tensor) -> Offsets:
        """Return the places of the tokens that `split` returns, of `text`, string `(batch,)`, not normalised.

        A subclass may define it; all tokenizers of `kseq.text` do.
        """
        raise NotImplementedError(
            f"A {type(self).__name__} does not tell where its tokens are in a text. Use a tokenizer of kseq.text, or "
            "define locate(text) in the class."
        )

    def one_hot(self, text: Any, *, dtype: str = "float32") -> tuple[tf.Tensor, tf.Tensor]:
        """Return `(one_hot, lengths)` of `text`, string `(batch,)`.

        `one_hot` is `(batch, time, vocabulary_size)` of `dtype`, zero in the padding; `lengths` is int32 `(batch,)`.
        """
        ids, lengths = self(text)
        return one_hot_rows(ids, lengths, self.vocabulary_size, dtype=dtype), lengths

    def detokenize(self, ids: Any, *, keep_unknown: bool = True, replacements: Any = None) -> tf.Tensor:
        """Return the texts, string `(...)`, of `ids`, integer `(..., time)` or ragged `(batch, (time))`.

        A text ends before the row's first `eos_id`; `pad_id`, `bos_id` and negative ids, the padding of CTC decoders,
        are left out. Ids beyond the vocabulary count as unknown tokens.

        Args:
            ids: Token ids, such as the n-best `(batch, n, time)` of a beam search, or a list of lists of any lengths.
            keep_unknown: Whether to write unknown tokens; if False they are left out.
            replacements: string `(..., time)`, the text for each unknown token; where it is empty, the unknown token's
                own string is written. See `kseq.text.replace_unknown`.

        Raises:
            ValueError: If `ids` are not integers or have no axis, `replacements` have another shape, or come with
                `keep_unknown=False`.

        Example:
            >>> CharacterTokenizer(["a", "b"]).detokenize([[2, 4, 5, 3, 4], [5, 99, 0, 0, 0]]).numpy()
            array([b'ab', b'b<unk>'], dtype=object)
        """
        ids = as_ids(ids, self.pad_id)
        if replacements is not None:
            replacements = self._checked_replacements(replacements, ids, keep_unknown)
        shape = tf.shape(ids)
        # The number of rows is explicit, because -1 is ambiguous if there are no time steps.
        rows = tf.reshape(ids, [tf.reduce_prod(shape[:-1]), shape[-1]])  # (rows, time)
        strings = self.spell(rows)
        if replacements is not None:
            given = tf.reshape(replacements, tf.shape(rows))
            replaced = self._is_unknown(rows) & (given != "")
            strings = tf.where(replaced, tf.strings.join([tf.constant(self.prefix), given]), strings)
        tokens = tf.ragged.boolean_mask(strings, self._is_text(rows, keep_unknown))
        texts = self.finish(tf.strings.reduce_join(tokens, axis=-1, separator=self.separator))  # (rows,)
        return tf.ensure_shape(tf.reshape(texts, shape[:-1]), ids.shape[:-1])

    def spell(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the string that `detokenize` writes for each of `ids`, int64 of any shape."""
        return self.vocabulary.tokens(ids)

    def finish(self, text: tf.Tensor) -> tf.Tensor:
        """Return joined tokens, string `(rows,)`, as the text that `detokenize` returns."""
        return text

    def _checked_replacements(self, replacements: Any, ids: tf.Tensor, keep_unknown: bool) -> tf.Tensor:
        replacements = tf.convert_to_tensor(replacements, tf.string)
        if not keep_unknown:
            raise ValueError("replacements are the texts of unknown tokens, which keep_unknown=False leaves out.")
        if not replacements.shape.is_compatible_with(ids.shape):
            raise ValueError(
                f"replacements have shape {replacements.shape}, but the ids have {ids.shape}: give one each."
            )
        return replacements

    def _is_text(self, rows: tf.Tensor, keep_unknown: bool) -> tf.Tensor:
        before_end = tf.cumsum(tf.cast(rows == self.eos_id, tf.int32), axis=-1) == 0
        known = tf.logical_not(self._is_special(rows)) & (rows >= 0) & (rows < self.vocabulary_size)
        return before_end & (known | self._is_unknown(rows) if keep_unknown else known)

    def _is_special(self, ids: tf.Tensor) -> tf.Tensor:
        special = self._special_tokens.ids
        if max(special) < len(special):
            return (ids >= 0) & (ids < len(special))
        return tf.reduce_any(tf.expand_dims(ids, -1) == tf.constant(special, ids.dtype), axis=-1)

    def _is_unknown(self, ids: tf.Tensor) -> tf.Tensor:
        return (ids == self.unk_id) | (ids >= self.vocabulary_size)

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary.

        Raises:
            RuntimeError: If the tokenizer has none yet.
        """
        if self._vocabulary is None:
            raise RuntimeError(
                f"This {type(self).__name__} has no vocabulary yet. Build one with adapt(texts), or pass one: "
                f"{type(self).__name__}(vocabulary=Vocabulary.from_file(path))."
            )
        return self._vocabulary

    @property
    def vocabulary_size(self) -> int:
        """The number of ids, special tokens included."""
        return len(self.vocabulary)

    @property
    def special_tokens(self) -> SpecialTokens:
        """The special tokens and their ids."""
        return self._special_tokens

    @property
    def pad_id(self) -> int:
        """The id of padding."""
        return self._special_tokens.pad_id

    @property
    def unk_id(self) -> int:
        """The id of unknown tokens."""
        return self._special_tokens.unk_id

    @property
    def bos_id(self) -> int:
        """The id of the begin token."""
        return self._special_tokens.bos_id

    @property
    def eos_id(self) -> int:
        """The id of the end token."""
        return self._special_tokens.eos_id

    @property
    def fingerprint(self) -> str:
        """A digest of what decides the ids of a text: class, vocabulary and normalizer. The format of rows does not."""
        of_rows = {field.name for field in dataclasses.fields(RowFormat)}
        return digest(type(self), {name: value for name, value in self.get_config().items() if name not in of_rows})

    def __reduce__(self) -> tuple:
        """Pickle and copy the configuration, the vocabulary included: the new object owns its tables and file."""
        parts = getattr(self._normalizer, "parts", [self._normalizer])
        return rebuilt, (type(self), self.get_config(), custom_objects(parts))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the vocabulary included."""
        return {
            "vocabulary": keras.saving.serialize_keras_object(self._vocabulary),
            "special_tokens": keras.saving.serialize_keras_object(self._special_tokens),
            **self._shared_config(),
        }

    def _shared_config(self) -> dict[str, Any]:
        """Return the arguments that tokenizers with a vocabulary of their own kind have, too."""
        return {
            "normalizer": keras.saving.serialize_keras_object(self._normalizer),
            **dataclasses.asdict(self._row_format),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the tokenizer that `config` describes."""
        parts = {key: keras.saving.deserialize_keras_object(config[key]) for key in _SERIALIZED if key in config}
        return cls(**{**config, **parts})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokenizer and its vocabulary to the JSON file `path`; `Tokenizer.load` reads it."""
        config = keras.saving.serialize_keras_object(self)
        write_whole(path, json.dumps(config, ensure_ascii=False, indent=1).encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the tokenizer that `save` wrote to `path`.

        Raises:
            FileNotFoundError: If there is no such file.
            TypeError: If the file contains a tokenizer of another class.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no tokenizer file {str(path)!r}. tokenizer.save(path) writes one.")
        tokenizer = keras.saving.deserialize_keras_object(json.loads(path.read_text(encoding="utf-8")))
        if not isinstance(tokenizer, cls):
            raise TypeError(
                f"{str(path)!r} holds a {type(tokenizer).__name__}, expected a {cls.__name__}. "
                "Tokenizer.load(path) loads any."
            )
        return tokenizer


_SERIALIZED = ("vocabulary", "normalizer", "special_tokens")
