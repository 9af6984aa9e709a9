"""The tokenizer of word pieces."""

import os
import pathlib
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import keras
import tensorflow as tf

from kseq.numbers import flag, positive_int
from kseq.text.offsets import Offsets
from kseq.text.replacements import replace_matches
from kseq.text.special_tokens import SpecialTokens
from kseq.text.subwords.bert_normalization import BertNormalizer
from kseq.text.subwords.subword_tokenizer import SubwordTokenizer
from kseq.text.subwords.tokenizer_json import read_tokenizer, refuse_options, special_tokens_of, tokens_by_id
from kseq.text.subwords.training_texts import TrainingTexts, check_options, count, trainer
from kseq.text.text_ops import text_ops
from kseq.text.vocabulary import Vocabulary
from kseq.text.vocabulary_file import read_tokens


@keras.saving.register_keras_serializable(package="kseq")
class WordPieceTokenizer(SubwordTokenizer):
    """Splits each word into the longest pieces of the vocabulary, from its beginning on, as BERT does.

    Words end at white space; each punctuation mark and each Chinese character is a word of its own. The ids are those
    of the library `tokenizers`, by tensorflow-text's operation. `train` makes a vocabulary and `from_file` reads one.

    A word of which a character is in no piece, or that is too long, is one unknown token. `detokenize` writes one space
    between words, so it is not lossless: the text `"don't"` becomes `"don ' t"`.

    Args:
        vocabulary: A `Vocabulary`, or the tokens without special tokens.
        special_tokens: See `Tokenizer`.
        suffix: The beginning of pieces that do not begin a word.
        max_bytes_per_word: A word of more bytes in UTF-8 is unknown. None: as many as `max_characters_per_word` allows.
        max_characters_per_word: A word of more characters is unknown, as in `tokenizers`.
        **kwargs: Other arguments of `Tokenizer`.

    Call arguments are those of `Tokenizer`.

    Raises:
        ImportError: If tensorflow-text cannot be imported.

    Example:
        >>> tokenizer = WordPieceTokenizer(["play", "##ing", "a", "game"])
        >>> tokenizer(["playing a game"])[0].numpy()
        array([[4, 5, 6, 7]], dtype=int32)

    Reference:
        X. Song, A. Salcianu, Y. Song, D. Dopson, D. Zhou, "Fast WordPiece tokenization", 2021.
    """

    prefix: ClassVar[str] = " "

    def __init__(
        self,
        vocabulary: Vocabulary | Iterable[str],
        *,
        special_tokens: SpecialTokens | None = None,
        suffix: str = "##",
        max_bytes_per_word: int | None = None,
        max_characters_per_word: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocabulary, special_tokens=special_tokens, **kwargs)
        if not isinstance(suffix, str) or not suffix:
            raise ValueError(f"suffix must be a string with at least one character, but is {suffix!r}.")
        self._suffix = suffix
        self._max_characters = positive_int(self, "max_characters_per_word", max_characters_per_word)
        self._max_bytes = max_bytes_per_word
        if max_bytes_per_word is not None:
            self._max_bytes = positive_int(self, "max_bytes_per_word", max_bytes_per_word)
        strings = self.vocabulary.strings
        if suffix in strings:
            raise ValueError(
                f"The token {suffix!r} is the beginning of other pieces, with nothing after it. Remove it."
            )
        special = self.special_tokens
        beginnings = {string[:1] for string in strings}
        self._foreign = next(each for each in _FOREIGN if each not in beginnings)
        inside = [string.startswith(suffix) and string not in special.strings for string in strings]
        written = [
            text[len(suffix) :] if suffixed else f" {text}" for text, suffixed in zip(strings, inside, strict=True)
        ]
        build = text_ops().build_fast_wordpiece_model
        with tf.init_scope():
            self.surfaces = tf.constant(written)
            most = self._max_bytes or 4 * self._max_characters  # a character has up to four bytes
            model = build(list(strings), most, suffix, special.unknown, False, False)
            # A tensor of bytes: the class makes one from a list, which takes seconds for a large vocabulary.
            buffer = tf.io.decode_raw(tf.constant(bytes(model)), tf.uint8)
            self._op = text_ops().FastWordpieceTokenizer(model_buffer=buffer, token_out_type=tf.int32)

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
        """Return a tokenizer whose pieces `tokenizers` trains on `texts`.

        Args:
            texts: As in `Tokenizer.adapt`: a list, iterable or dataset of texts, or paths of files.
            vocabulary_size: The largest number of ids, special tokens included.
            min_count: Smallest count of a pair of pieces that is merged to a piece.
            normalizer: As in `Tokenizer`.
            special_tokens: The strings of the special tokens; their ids must be 0 to 3.
            progress: Whether to show progress bars, while texts are read and pairs are merged.
            **kwargs: Other arguments of the constructor.

        Raises:
            ImportError: If `tokenizers` is not installed.
            TypeError: If `texts` are none of these, or the constructor has no such argument.
            ValueError: If all texts are empty, or `vocabulary_size` is smaller than the number of characters.
        """
        library, special = trainer("tokenizers"), special_tokens or SpecialTokens()
        if special.ids != SpecialTokens().ids:
            raise ValueError(f"Trained special tokens have the ids 0, 1, 2, 3, but special_tokens has {special.ids}.")
        check_options(cls, kwargs, ("vocabulary",))
        size = count("vocabulary_size", vocabulary_size)
        reader = TrainingTexts(texts, normalizer, progress=flag("progress", progress))
        model = library.Tokenizer(library.models.WordPiece(unk_token=special.unknown))
        model.normalizer = library.normalizers.BertNormalizer(  # Chinese characters apart, and nothing else
            clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
        )
        model.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()
        found = library.trainers.WordPieceTrainer(
            vocab_size=size,
            min_frequency=count("min_count", min_count),
            special_tokens=list(special.strings),
            continuing_subword_prefix=kwargs.get("suffix", "##"),
            show_progress=progress,
        )
        model.train_from_iterator(iter(reader), found)
        reader.check()
        ids = model.get_vocab()
        if len(ids) > size:
            raise ValueError(
                f"vocabulary_size={size} is too small for the characters of these texts, which need {len(ids)} ids."
            )
        tokens = sorted(ids, key=lambda token: ids[token])[len(special) :]
        return cls(tokens, special_tokens=special, normalizer=normalizer, **kwargs)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        pad: str | None = None,
        unknown: str | None = None,
        begin: str | None = None,
        end: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """Return a tokenizer with the vocabulary of a `vocab.txt`, one token per line, or a `tokenizer.json`.

        The normalizer of a `tokenizer.json` is taken, unless given here. A `vocab.txt` has none: give
        `normalizer=BertNormalizer()` for "uncased" vocabularies, and `BertNormalizer(lowercase=False)` for others.
        Tokens that the file would put around a text are those of `add_bos` and `add_eos`. Truncation and padding of a
        `tokenizer.json` are not applied, and a warning says so.

        Args:
            path: The file; `tokenizer.json` if its name ends in `.json`.
            pad: String of the padding. None: "[PAD]" or another usual one. If the file lacks it, it gets a new id.
            unknown: String of the unknown token, in the same way.
            begin: String of the begin token, in the same way.
            end: String of the end token, in the same way.
            **kwargs: Other arguments of the constructor.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is of another kind, has a token twice, or needs what kseq does not do; the message says
                what.
        """
        names = {"pad": pad, "unknown": unknown, "begin": begin, "end": end}
        if pathlib.Path(path).suffix == ".json":
            content = read_tokenizer(path, "WordPiece")
            tokens = tokens_by_id(path, content["model"].get("vocab"), content.get("added_tokens") or [])
            names["unknown"] = unknown or content["model"].get("unk_token")
            kwargs = {**_options(path, content), **kwargs}
        else:
            tokens = read_tokens(path)
        ordinary, special = special_tokens_of(tokens, names)
        return cls(Vocabulary(ordinary, special_tokens=special), **kwargs)

    def encode_with_places(self, text: tf.Tensor) -> tuple[tf.RaggedTensor, Offsets]:
        """Return the ids of `text`, already normalised, and their places in it, in bytes."""
        text = self._without_long_words(tf.ensure_shape(text, [None]))
        ids, starts, ends = self._op.tokenize_with_offsets(text)
        return ids, Offsets(tf.cast(starts, tf.int32), tf.cast(ends, tf.int32))

    def _without_long_words(self, text: tf.Tensor) -> tf.Tensor:
        """Return `text` with a word that no piece begins, of as many bytes, for each word of too many characters."""
        most = self._max_characters
        is_long = tf.strings.regex_full_match(text, rf"(?s)(?:.*\s)?\S{{{min(most + 1, _MOST_REPEATED)}}}.*")
        places = tf.where(is_long)  # few texts, mostly none

        def replaced(words: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
            unknown = tf.strings.regex_replace(words, r"(?s)\C", self._foreign)
            return tf.where(tf.strings.length(words, unit="UTF8_CHAR") > most, unknown, words)

        return tf.tensor_scatter_nd_update(text, places, replace_matches(tf.gather_nd(text, places), _LONG, replaced))

    def finish(self, text: tf.Tensor) -> tf.Tensor:
        """Return joined tokens without the space before the first word."""
        return tf.strings.regex_replace(text, r"\A ", "")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the vocabulary included."""
        most = {"max_bytes_per_word": self._max_bytes, "max_characters_per_word": self._max_characters}
        return {**super().get_config(), "suffix": self._suffix, **most}


# Words as the operation of tensorflow-text splits them: without white space, punctuation and Chinese characters.
_LONG = r"[^\s\p{Z}\p{P}!-/:-@\[-`{-~\p{Han}]+"
_MOST_REPEATED = 1000  # RE2 repeats an expression at most so often
_FOREIGN = "".join(map(chr, (*range(0x01, 0x09), *range(0x0E, 0x20), 0x7F)))
_NORMALIZER = ("clean_text", "strip_accents", "lowercase")


def _options(path: Any, content: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that a `tokenizer.json` gives, or raise ValueError if it needs what kseq does not do."""
    splitter, normalizer = content.get("pre_tokenizer") or {}, content.get("normalizer") or {"type": None}
    refuse_options(path, "pre_tokenizer", {"type": None, **splitter}, {"type": ("BertPreTokenizer",)})
    refuse_options(path, "normalizer", normalizer, {"type": ("BertNormalizer",), "handle_chinese_chars": (True,)})
    found: dict[str, Any] = {name: normalizer[name] for name in _NORMALIZER if name in normalizer}
    return {
        "suffix": content["model"].get("continuing_subword_prefix", "##"),
        "max_characters_per_word": content["model"].get("max_input_chars_per_word", 100),
        "normalizer": BertNormalizer(**found),
    }
