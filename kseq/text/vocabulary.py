"""The vocabulary: tables between tokens and ids, saved as an asset of the exported model."""

import collections
import hashlib
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Self

import keras
import tensorflow as tf

from kseq.numbers import whole
from kseq.text.copies import rebuilt
from kseq.text.special_tokens import SpecialTokens, checked_special_tokens
from kseq.text.vocabulary_file import (
    check_tokens,
    encode_tokens,
    escape,
    escape_tensor,
    needs_escape,
    read_tokens,
    restore_tensor,
)
from kseq.whole_files import write_whole


@keras.saving.register_keras_serializable(package="kseq")
class Vocabulary(tf.Module):
    r"""Maps tokens to ids and ids to tokens, in the graph.

    The special tokens have the ids that `special_tokens` says, by default 0 to 3; the other tokens fill the other ids
    in order. Both directions are hash tables over one text
    file, see `kseq.text.vocabulary_file` for its format. If an object with a vocabulary as an attribute is tracked on
    export, the file becomes an asset of the model, `vocabulary-DIGEST.txt`. While a vocabulary object exists, it keeps
    a copy of its file in a temporary folder, so the file that it was read from is no longer needed.

    Args:
        tokens: The tokens in the order of their ids, without the special ones.
        special_tokens: The special tokens and their ids.

    Raises:
        TypeError: If a token is not a `str`.
        ValueError: If a token is empty, repeated, or one of the special tokens, or there are too few tokens for the id
            of a special token.

    Example:
        >>> vocabulary = Vocabulary(["a", "b", "\n"])
        >>> vocabulary.lookup(tf.constant(["b", "?"])).numpy()
        array([5, 1], dtype=int32)
        >>> vocabulary.tokens(tf.constant([6, 99])).numpy()
        array([b'\n', b'<unk>'], dtype=object)
    """

    def __init__(self, tokens: Iterable[str], *, special_tokens: SpecialTokens | None = None) -> None:
        super().__init__()
        if isinstance(tokens, (str, bytes)) or not isinstance(tokens, Iterable):
            raise TypeError(
                f"Vocabulary takes a list of tokens, got {tokens!r} of type {type(tokens).__name__}. "
                "For a file use Vocabulary.from_file(path); for the characters of a text use list(text)."
            )
        self._special_tokens = checked_special_tokens(special_tokens) or SpecialTokens()
        self._strings = _in_order_of_ids(tokens, self._special_tokens)
        check_tokens(self._strings, first=0, place="Vocabulary, id")
        # If no token needs escaping, both directions skip the rewriting.
        self._escaped = any(map(needs_escape, self._strings))

        folder = tempfile.mkdtemp(prefix="kseq-vocabulary-")
        weakref.finalize(self, _remove_folder, folder, os.getpid())
        path = _write_asset(folder, self._strings)
        line = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE)
        number = (tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
        self._ids = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(path, *line, *number), self._special_tokens.unk_id
        )
        self._lines = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(path, *number, *line), escape(self._special_tokens.unknown)
        )

    @classmethod
    def from_corpus(
        cls,
        corpus: Iterable[Iterable[str]],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        special_tokens: SpecialTokens | None = None,
    ) -> Self:
        """Return the vocabulary of `corpus`, an iterable of lists of tokens; options as in `from_counts`.

        Example:
            >>> Vocabulary.from_corpus([["b", "a"], ["a", "c"]], min_count=1).strings[4:]
            ('a', 'b', 'c')
        """
        counts = collections.Counter(token for tokens in corpus for token in tokens)
        return cls.from_counts(counts, min_count=min_count, max_size=max_size, special_tokens=special_tokens)

    @classmethod
    def from_counts(
        cls,
        counts: Mapping[str, int],
        *,
        min_count: int = 1,
        max_size: int | None = None,
        special_tokens: SpecialTokens | None = None,
    ) -> Self:
        """Return the vocabulary of the counted tokens, most frequent first, ties in order of code points.

        Args:
            counts: How often each token occurs. Tokens spelt like a special token are left out.
            min_count: Smallest count of a token; rarer tokens are left out.
            max_size: Largest size, special tokens included; the rarest tokens are left out. None: no limit.
            special_tokens: The special tokens and their ids.

        Raises:
            ValueError: If `min_count` or `max_size` is too small, or no token is left.
        """
        special_tokens = checked_special_tokens(special_tokens) or SpecialTokens()
        min_count, max_size = whole("min_count", min_count), None if max_size is None else whole("max_size", max_size)
        if min_count < 1:
            raise ValueError(f"min_count must be at least 1 (keep every token), but is {min_count}.")
        if max_size is not None and max_size <= len(special_tokens):
            raise ValueError(
                f"max_size must be more than {len(special_tokens)}, the number of special tokens that it includes, "
                f"but is {max_size}."
            )
        ranked = sorted((-count, token) for token, count in counts.items() if count >= min_count)
        tokens = [token for _, token in ranked if token not in special_tokens.strings]
        if not tokens:
            raise ValueError(
                f"No token is left of {len(counts)} different ones with min_count={min_count}. "
                "Give texts that are not empty, or a smaller min_count."
            )
        limit = None if max_size is None else max_size - len(special_tokens)
        return cls(tokens[:limit], special_tokens=special_tokens)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, special_tokens: SpecialTokens | None = None) -> Self:
        """Return the vocabulary in a UTF-8 file with one token per line.

        The special tokens are either in the lines of their ids, by default the first four, as `save` writes them, or
        absent; then they are added there.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not UTF-8, a line is empty or repeated, or a special token is in another line.
        """
        special_tokens = checked_special_tokens(special_tokens) or SpecialTokens()
        tokens = read_tokens(path)
        named = dict(zip(special_tokens.ids, special_tokens.strings, strict=True))
        if all(place < len(tokens) and tokens[place] == token for place, token in named.items()):
            tokens = [token for place, token in enumerate(tokens) if place not in named]
        for line, token in enumerate(tokens, start=1):
            if token in special_tokens.strings:
                lines = tuple(1 + place for place in special_tokens.ids)
                raise ValueError(
                    f"{str(pathlib.Path(path))!r}, line {line}: the special token {token!r} is out of place. Expected "
                    f"{special_tokens.strings} in the lines {lines}, or none "
                    "of them in the file. Reorder the file, or pass the special_tokens that it was written with."
                )
        return cls(tokens, special_tokens=special_tokens)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tokens to `path`, one per line, in the order of their ids; `from_file` reads the file."""
        write_whole(path, encode_tokens(self._strings))

    @property
    def special_tokens(self) -> SpecialTokens:
        """The special tokens and their ids."""
        return self._special_tokens

    @property
    def strings(self) -> tuple[str, ...]:
        """All tokens in the order of their ids, special tokens included."""
        return self._strings

    def __len__(self) -> int:
        return len(self._strings)

    def lookup(self, tokens: Any) -> Any:
        """Return the ids, int32, of `tokens`, a string tensor or ragged tensor of any shape.

        Tokens outside the vocabulary get the id of the unknown token. The string of a special token gets its id;
        tokenizers replace that id if the string comes from a text.
        """
        if not isinstance(tokens, tf.RaggedTensor):
            tokens = tf.convert_to_tensor(tokens, tf.string)
        lines = escape_tensor(tokens) if self._escaped else tokens
        return tf.cast(self._ids.lookup(lines), tf.int32)

    def tokens(self, ids: Any) -> Any:
        """Return the tokens, string, of `ids`, an integer tensor or ragged tensor of any shape.

        An id outside the vocabulary gives the unknown token's string.

        Raises:
            ValueError: If `ids` are not integers.
        """
        ids = ids if isinstance(ids, tf.RaggedTensor) else tf.convert_to_tensor(ids)
        if not ids.dtype.is_integer:
            raise ValueError(f"Expected integer ids, got {ids.dtype.name}.")
        lines = self._lines.lookup(tf.cast(ids, tf.int64))
        return restore_tensor(lines) if self._escaped else lines

    def __reduce__(self) -> tuple:
        """Pickle and copy the tokens: the tables and their file are made anew, and belong to the new object."""
        return rebuilt, (type(self), self.get_config(), {})

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the tokens included."""
        return {
            "tokens": [token for place, token in enumerate(self._strings) if place not in self._special_tokens.ids],
            "special_tokens": self._special_tokens.get_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `config` describes."""
        return cls(config["tokens"], special_tokens=SpecialTokens.from_config(config["special_tokens"]))


def _in_order_of_ids(tokens: Iterable[str], special_tokens: SpecialTokens) -> tuple[str, ...]:
    strings = list(tokens)
    for place, string in sorted(zip(special_tokens.ids, special_tokens.strings, strict=True)):
        if place > len(strings):
            raise ValueError(
                f"The special token {string!r} has the id {place}, but with {len(strings)} tokens before it the next "
                f"id is {len(strings)}. Give it that id, or more tokens."
            )
        strings.insert(place, string)
    return tuple(strings)


def _write_asset(folder: str, tokens: Iterable[str]) -> str:
    # The name depends on the content, so equal vocabularies of a model share one asset.
    content = encode_tokens(tokens)
    path = os.path.join(folder, f"vocabulary-{hashlib.sha256(content).hexdigest()[:12]}.txt")
    pathlib.Path(path).write_bytes(content)
    return path


def _remove_folder(folder: str, owner: int) -> None:
    # A forked process must not remove its parent's files when it ends.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
