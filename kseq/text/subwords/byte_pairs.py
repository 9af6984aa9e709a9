"""The tokenizer of byte pairs."""

import json
import os
from collections.abc import Iterable
from typing import Any, Literal, Self

import keras
import tensorflow as tf

from kseq.numbers import flag
from kseq.text.files import file_bytes
from kseq.text.normalization import TextNormalizer, replace_invalid_utf8
from kseq.text.offsets import Offsets
from kseq.text.ragged import ragged_rows
from kseq.text.special_tokens import SpecialTokens
from kseq.text.subwords.byte_pair_merges import (
    byte_alphabet,
    checked_merges,
    checked_pairs,
    sentence_piece_model,
    token_bytes,
)
from kseq.text.subwords.byte_pair_words import CUT, WORD_PATTERNS
from kseq.text.subwords.sentence_piece_op import SentencePieceOp
from kseq.text.subwords.subword_tokenizer import SubwordTokenizer
from kseq.text.subwords.tokenizer_json import read_json, read_tokenizer, refuse_options, special_tokens_of, tokens_by_id
from kseq.text.subwords.training_texts import TrainingTexts, check_options, count, trainer
from kseq.text.vocabulary import Vocabulary


@keras.saving.register_keras_serializable(package="kseq")
class BytePairTokenizer(SubwordTokenizer):
    r"""Splits a text into byte pairs: pieces that single bytes are merged to, in the order in which training did it.

    Words are by default those of GPT-2: letters, digits or other marks with the space before them, English endings such
    as "'s", and white space. The ids are those of the library `tokenizers`. Words are merged by SentencePiece's
    operation of tensorflow-text. `train` makes a vocabulary and `from_file` reads one.

    It is lossless: `detokenize(tokenize(text))` is `normalize(text)`, and no text has unknown tokens. But with
    `add_prefix_space`, a text that begins with a space loses it: "a" and " a" have the same ids.

    Args:
        vocabulary: A `Vocabulary`, or the tokens without special tokens, as `tokenizers` spells them: a character for a
            byte, "\u0120" for the space.
        merges: The pairs of tokens that are merged, in this order; or strings of two tokens with a space between them.
        special_tokens: See `Tokenizer`.
        add_prefix_space: Whether a space is put before a text that does not begin with one; `detokenize` removes the
            first space, as the ids do not tell whether it was put there.
        word_pattern: How a text is cut into words, which are merged apart: "gpt2"; "llama3", whose words begin with any
            mark, have at most three digits, and keep the ends of lines together; or "qwen2", which differs from it in
            that each digit is a word.
        **kwargs: Other arguments of `Tokenizer`.

    Call arguments are those of `Tokenizer`.

    Raises:
        ValueError: If a byte has no token, `word_pattern` is none of these, or merges are not those of a training: each
            makes another token, of two tokens that the merges before it make, and none has the byte 0xFF, which no text
            in UTF-8 has.
        ImportError: If tensorflow-text cannot be imported.

    Example:
        >>> tokenizer = BytePairTokenizer.train(texts, 8000, add_bos=True, add_eos=True)
        >>> ids, lengths = tokenizer(["a cat"])

    Reference:
        R. Sennrich, B. Haddow, A. Birch, "Neural machine translation of rare words with subword units", 2016; A.
        Radford et al., "Language models are unsupervised multitask learners", 2019.
    """

    spells_special_tokens = False

    def __init__(
        self,
        vocabulary: Vocabulary | Iterable[str],
        merges: Iterable[str] | Iterable[tuple[str, str]],
        *,
        special_tokens: SpecialTokens | None = None,
        add_prefix_space: bool = False,
        word_pattern: Literal["gpt2", "llama3", "qwen2"] = "gpt2",
        **kwargs: Any,
    ) -> None:
        super().__init__(vocabulary, special_tokens=special_tokens, **kwargs)
        self._merges = checked_pairs(merges)
        self._add_prefix_space = flag("add_prefix_space", add_prefix_space)
        if word_pattern not in WORD_PATTERNS:
            raise ValueError(f"word_pattern={word_pattern!r}, but it must be one of {[*WORD_PATTERNS]}.")
        self._word_pattern = word_pattern
        strings, special = self.vocabulary.strings, self.special_tokens
        ordinary = set(strings) - set(special.strings)
        if missing := [byte for byte, spelt in enumerate(byte_alphabet()) if spelt not in ordinary]:
            raise ValueError(
                f"The vocabulary has no token for the byte {missing[0]}, {byte_alphabet()[missing[0]]!r}. Byte pairs "
                "begin with 256 tokens, one for each byte."
            )
        checked_merges(ordinary, self._merges)
        self._cut_id = strings.index(byte_alphabet()[CUT[0]])
        made = {left + right for left, right in self._merges} | set(byte_alphabet())
        spelt = [token_bytes(string) if string in made else None for string in strings]
        with tf.init_scope():
            self.surfaces = tf.constant([each or string.encode() for each, string in zip(spelt, strings, strict=True)])
        self._op = SentencePieceOp(sentence_piece_model(strings, self._merges, special))

    @classmethod
    def train(
        cls,
        texts: Any,
        vocabulary_size: int,
        *,
        min_count: int = 2,
        normalizer: Any = None,
        special_tokens: SpecialTokens | None = None,
        progress: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Return a tokenizer whose merges `tokenizers` trains on `texts`.

        Args:
            texts: As in `Tokenizer.adapt`: a list, iterable or dataset of texts, or paths of files.
            vocabulary_size: The largest number of ids, special tokens and 256 bytes included; there are fewer if no
                pair is left.
            min_count: Smallest count of a pair that is merged.
            normalizer: As in `Tokenizer`.
            special_tokens: The strings of the special tokens; their ids must be 0 to 3.
            progress: Whether to show progress bars, while texts are read and pairs are merged.
            **kwargs: Other arguments of the constructor.

        Raises:
            ImportError: If `tokenizers` is not installed.
            TypeError: If `texts` are none of these, or the constructor has no such argument.
            ValueError: If all texts are empty, or `vocabulary_size` leaves nothing to merge.
        """
        library, special = trainer("tokenizers"), special_tokens or SpecialTokens()
        check_options(cls, kwargs, ("vocabulary", "merges"))
        size, bytes_ = count("vocabulary_size", vocabulary_size), 256 + len(special)
        if size <= bytes_:
            raise ValueError(f"vocabulary_size must be more than {bytes_}: special tokens and bytes; but it is {size}.")
        if special.ids != SpecialTokens().ids:
            raise ValueError(f"Trained special tokens have the ids 0, 1, 2, 3, but special_tokens has {special.ids}.")
        reader = TrainingTexts(texts, normalizer, progress=flag("progress", progress))
        model = library.Tokenizer(library.models.BPE())
        prefix = flag("add_prefix_space", kwargs.get("add_prefix_space", False))
        model.pre_tokenizer = _splitter(library, kwargs.get("word_pattern", "gpt2"), prefix)
        options = {"min_frequency": count("min_count", min_count), "show_progress": progress}
        found = library.trainers.BpeTrainer(
            vocab_size=size, special_tokens=list(special.strings), initial_alphabet=byte_alphabet(), **options
        )
        model.train_from_iterator(iter(reader), found)
        reader.check()
        return cls(*_parts(model.to_str(), special), special_tokens=special, normalizer=normalizer, **kwargs)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        merges: str | os.PathLike[str] | None = None,
        *,
        pad: str | None = None,
        unknown: str | None = None,
        begin: str | None = None,
        end: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Return a tokenizer with the vocabulary of a `tokenizer.json`, or of `vocab.json` and `merges.txt`.

        The file's normalizer and prefix space are taken, unless given here; tokens that the file would put around a
        text are those of `add_bos` and `add_eos`. Its truncation and padding are not applied, and a warning says so.

        Args:
            path: The `tokenizer.json`, or with `merges` the `vocab.json`.
            merges: The `merges.txt`.
            pad: String of the padding. None: "<pad>" or another usual one. If the file lacks it, it gets a new id.
            unknown: String of the unknown token, in the same way.
            begin: String of the begin token, in the same way.
            end: String of the end token, in the same way.
            **kwargs: Other arguments of the constructor.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If a file is of another kind, or needs what kseq does not do; the message says what.
        """
        names = {"pad": pad, "unknown": unknown, "begin": begin, "end": end}
        if merges is not None:
            tokens = tokens_by_id(path, read_json(path, "vocab.json"), [])
            pairs: list[Any] = _merges_file(merges)
            content: dict[str, Any] = {}
        else:
            content = read_tokenizer(path, "BPE")
            tokens = tokens_by_id(path, content["model"].get("vocab"), content.get("added_tokens") or [])
            pairs = content["model"].get("merges") or []
            if not isinstance(pairs, list):
                raise ValueError(f"{str(path)!r}: merges is {pairs!r}, but expected a list of pairs of tokens.")
            kwargs = {**_options(path, content), **kwargs}
        ordinary, special = special_tokens_of(tokens, names)
        if content.get("model", {}).get("ignore_merges"):
            added = {each["content"] for each in content.get("added_tokens") or []}
            _refuse_unmerged(path, [token for token in ordinary if token not in added], pairs)
        return cls(Vocabulary(ordinary, special_tokens=special), pairs, **kwargs)

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the ids, ragged int32 `(batch, (tokens))`, of `text`, string `(batch,)`, already normalised."""
        if self._add_prefix_space:
            text = tf.strings.regex_replace(text, r"\A([^ ])", r" \1")
        words = WORD_PATTERNS[self._word_pattern].cut(text)
        # Read as Latin-1, each byte is a character, as in the pieces of the model.
        characters = tf.strings.unicode_transcode(words, "ISO-8859-1", "UTF-8")
        return _without(self._op(characters), self._cut_id)

    def encode_with_places(self, text: tf.Tensor) -> tuple[tf.RaggedTensor, Offsets]:
        """Return the ids of `text`, already normalised, and their places in it, in bytes."""
        ids = self.encode(text)
        lengths = tf.gather(tf.strings.length(self.surfaces), ids.flat_values)
        ends = tf.cumsum(lengths)  # in bytes of all texts
        first = tf.gather(tf.concat([[0], ends], axis=0), ids.row_starts())
        ends -= tf.gather(first, ids.value_rowids())
        starts = ends - lengths
        if self._add_prefix_space:
            added = tf.cast(~tf.strings.regex_full_match(text, r"(?s)( .*)?"), tf.int32)
            added = tf.gather(added, ids.value_rowids())
            starts, ends = tf.maximum(starts - added, 0), ends - added
        return ids, Offsets(ids.with_flat_values(starts), ids.with_flat_values(ends))

    def finish(self, text: tf.Tensor) -> tf.Tensor:
        """Return joined tokens as valid UTF-8, without the space of `add_prefix_space`."""
        text = replace_invalid_utf8(text)
        return tf.strings.regex_replace(text, r"\A ", "") if self._add_prefix_space else text

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the vocabulary included."""
        merges = [" ".join(pair) for pair in self._merges]
        options = {"add_prefix_space": self._add_prefix_space, "word_pattern": self._word_pattern}
        return {**super().get_config(), "merges": merges, **options}


def _merges_file(path: str | os.PathLike[str]) -> list[str]:
    try:
        lines = file_bytes(path, "merges.txt").decode().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is not UTF-8: {error}. Expected a merges.txt.") from error
    lines = [line.removesuffix("\r") for line in lines]
    return [line for place, line in enumerate(lines) if line and not (place == 0 and line.startswith("#version"))]


def _options(path: Any, content: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a `tokenizer.json` gives, or raise ValueError if it needs what kseq does not do."""
    refuse_options(
        path,
        "model",
        content["model"],
        {
            "dropout": (None, 0.0),
            "continuing_subword_prefix": (None, ""),
            "end_of_word_suffix": (None, ""),
            "byte_fallback": (False,),
        },
    )
    normalizer = content.get("normalizer") or {"type": None}
    refuse_options(path, "normalizer", normalizer, {"type": (None, "NFC", "NFD", "NFKC", "NFKD")})
    options = _words_of(path, content.get("pre_tokenizer") or {"type": None})
    if (form := normalizer.get("type")) is not None:
        options["normalizer"] = TextNormalizer(form=form, collapse_whitespace=False, strip=False)
    return options


def _words_of(path: Any, splitter: dict[str, Any]) -> dict[str, Any]:
    """Return the word pattern and the prefix space of a `tokenizer.json`; raise ValueError if they are of another kind.

    The pattern is that of GPT-2 in "ByteLevel" itself, or one of `WORD_PATTERNS` in a "Split" before it.
    """
    if splitter.get("type") != "Sequence":
        refuse_options(path, "pre_tokenizer", splitter, {"type": ("ByteLevel",), "use_regex": (True,)})
        return {"add_prefix_space": splitter.get("add_prefix_space", True)}
    steps = list(splitter.get("pretokenizers") or [])
    if [step.get("type") for step in steps] != ["Split", "ByteLevel"]:
        raise ValueError(
            f"{str(path)!r}: pre_tokenizer is a sequence of {[step.get('type') for step in steps]}, but only Split and "
            "ByteLevel, or ByteLevel alone, is supported."
        )
    split, bytes_ = steps
    refuse_options(path, "Split", split, {"behavior": ("Isolated",), "invert": (False,)})
    refuse_options(path, "ByteLevel", bytes_, {"use_regex": (False,), "add_prefix_space": (False,)})
    pattern = split.get("pattern")
    written = pattern.get("Regex") if isinstance(pattern, dict) else None
    for name, known in WORD_PATTERNS.items():
        if written == known.published:
            return {"word_pattern": name}
    raise ValueError(
        f"{str(path)!r}: pre_tokenizer splits by {pattern!r}, but only the patterns of {[*WORD_PATTERNS]} "
        "are supported: exported graphs have no look-ahead, so each pattern needs a form of its own."
    )


def _splitter(library: Any, word_pattern: str, prefix: bool) -> Any:
    """Return the pre-tokenizer of the library with which words are trained."""
    parts = library.pre_tokenizers
    if word_pattern == "gpt2" or word_pattern not in WORD_PATTERNS:  # the constructor refuses the latter
        return parts.ByteLevel(add_prefix_space=prefix)
    pattern = library.Regex(WORD_PATTERNS[word_pattern].published)
    bytes_ = parts.ByteLevel(add_prefix_space=prefix, use_regex=False)
    return parts.Sequence([parts.Split(pattern, "isolated"), bytes_])


def _refuse_unmerged(path: Any, ordinary: list[str], pairs: list[Any]) -> None:
    """Raise ValueError if a token is not made by merges; a file with `ignore_merges` would take it as a whole word.

    All others are what the merges make of their own characters, so that it makes no difference whether they are merged.
    """
    made = {left + right for left, right in checked_pairs(pairs)}
    if alone := [
        token for token in ordinary if token not in made and len(token) > 1 and token_bytes(token) is not None
    ]:
        raise ValueError(
            f"{str(path)!r}: the model has ignore_merges=True, and {len(alone)} tokens that no merge makes, such as "
            f"{alone[:3]}. Such tokens are not supported."
        )


def _without(rows: tf.RaggedTensor, unwanted: int) -> tf.RaggedTensor:
    """Return ragged rows of ids without the id `unwanted`."""
    wanted = rows.flat_values != unwanted
    before = tf.concat([[0], tf.cumsum(tf.cast(wanted, rows.row_splits.dtype))], axis=0)
    splits = tf.gather(before, rows.row_splits)
    return ragged_rows(tf.boolean_mask(rows.flat_values, wanted), splits)


def _parts(content: str, special: SpecialTokens) -> tuple[list[str], list[Any]]:
    """Return the tokens after the special ones, and the merges, of a `tokenizer.json` that was trained here."""
    model = json.loads(content)["model"]
    ids = model["vocab"]
    return sorted(ids, key=lambda token: ids[token])[len(special) :], model["merges"]
