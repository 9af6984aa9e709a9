"""The tokenizer of SentencePiece models."""

import base64
import io
import os
import pathlib
from typing import Any, Literal, Self, get_args

import keras
import tensorflow as tf

from kseq.numbers import flag
from kseq.text.files import file_bytes
from kseq.text.normalization import replace_invalid_utf8
from kseq.text.offsets import Offsets
from kseq.text.special_tokens import SpecialTokens
from kseq.text.subwords.sentence_piece_model import BYTE, CONTROL, UNKNOWN, read_model
from kseq.text.subwords.sentence_piece_op import SentencePieceOp
from kseq.text.subwords.subword_tokenizer import SubwordTokenizer
from kseq.text.subwords.tokenizer_json import read_tokenizer
from kseq.text.subwords.training_texts import TrainingTexts, check_options, count, trainer
from kseq.text.subwords.unigram_json import sentence_piece_parts
from kseq.text.vocabulary import Vocabulary
from kseq.whole_files import write_whole

Kind = Literal["unigram", "bpe"]
SPACE = "\u2581"  # how pieces spell a space


@keras.saving.register_keras_serializable(package="kseq")
class SentencePieceTokenizer(SubwordTokenizer):
    r"""Splits a text into the pieces of a SentencePiece model, unigram or byte pairs.

    The ids are those of the library `sentencepiece`, by tensorflow-text's operation. `train` makes a model and
    `from_file` reads one; either becomes a part of the saved tokenizer and of the exported graph.

    A model of `train` with `byte_fallback` is lossless: `detokenize(tokenize(text))` is `normalize(text)`, except that
    U+2581, with which pieces spell a space, is written as a space. A model that normalises texts itself, as most
    published ones do, returns the text as it normalised it.

    A special token that the model lacks, usually the padding, gets an id after the model's own.

    Args:
        model: The content of a `.model` file.
        **kwargs: Other arguments of `Tokenizer`, except `vocabulary` and `special_tokens`, which come from the model.

    Call arguments are those of `Tokenizer`.

    Raises:
        ValueError: If `model` is not a SentencePiece model, or one of its pieces is two of the special tokens.
        ImportError: If tensorflow-text cannot be imported.

    Example:
        >>> tokenizer = SentencePieceTokenizer.train(texts, 8000, normalizer=TextNormalizer(form="NFC"), add_eos=True)
        >>> ids, lengths = tokenizer(["a cat"])

    Reference:
        T. Kudo, J. Richardson, "SentencePiece: A simple and language independent subword tokenizer and detokenizer for
        neural text processing", 2018.
    """

    def __init__(self, model: bytes, **kwargs: Any) -> None:
        if not isinstance(model, bytes):
            raise TypeError(
                f"model must be the content of a .model file, of type bytes, but is of type {type(model).__name__}. "
                "SentencePieceTokenizer.from_file(path) reads a file."
            )
        if own := {"vocabulary", "special_tokens"} & set(kwargs):
            raise TypeError(f"{sorted(own)} of a SentencePieceTokenizer come from its model. Leave them out.")
        parsed = read_model(model, "model")
        super().__init__(_vocabulary(parsed), **kwargs)
        self._model = model
        self._op = SentencePieceOp(model)
        with tf.init_scope():
            self.surfaces = tf.constant(_surfaces(parsed, self.vocabulary))
        spec = parsed.normalizer_spec
        kinds = [piece.type for place, piece in enumerate(parsed.pieces) if place in self.special_tokens.ids]
        self.spells_special_tokens = not set(kinds) <= {CONTROL, UNKNOWN}
        self._byte_fallback = any(piece.type == BYTE for piece in parsed.pieces)
        self._added_spaces = _added_spaces(parsed)
        self._lossless = not (spec.precompiled_charsmap or spec.remove_extra_whitespaces) and self._byte_fallback

    @classmethod
    def train(
        cls,
        texts: Any,
        vocabulary_size: int,
        *,
        kind: Kind = "unigram",
        byte_fallback: bool = True,
        character_coverage: float = 0.9995,
        normalizer: Any = None,
        progress: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Return a tokenizer with a model that `sentencepiece` trains on `texts`.

        The model reads a text as `normalizer` leaves it and normalises nothing itself. Its special tokens have the ids
        0 to 3.

        Args:
            texts: As in `Tokenizer.adapt`: a list, iterable or dataset of texts, or paths of files.
            vocabulary_size: The number of ids, special tokens and the 256 pieces of `byte_fallback` included.
            kind: "unigram", a language model of pieces, or "bpe", merged byte pairs.
            byte_fallback: Whether characters without a piece are split into their UTF-8 bytes, with 256 ids more; if
                False they are unknown tokens.
            character_coverage: The share of the corpus' characters that get pieces, the most frequent first.
            normalizer: As in `Tokenizer`.
            progress: Whether to show a progress bar while texts are read. Training follows without one.
            **kwargs: Other arguments of the constructor.

        Raises:
            ImportError: If `sentencepiece` is not installed.
            TypeError: If `texts` are none of these, or the constructor has no such argument.
            ValueError: If all texts are empty, or `sentencepiece` cannot train so many pieces on them.
        """
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}, but is {kind!r}.")
        library, model, special = trainer("sentencepiece"), io.BytesIO(), SpecialTokens()
        check_options(cls, kwargs, ("model", "vocabulary", "special_tokens"))
        reader = TrainingTexts(texts, normalizer, progress=flag("progress", progress))
        options = {
            "vocab_size": count("vocabulary_size", vocabulary_size),
            "model_type": kind,
            "byte_fallback": flag("byte_fallback", byte_fallback),
            "character_coverage": character_coverage,
            **{"pad_id": special.pad_id, "unk_id": special.unk_id, "bos_id": special.bos_id, "eos_id": special.eos_id},
            # The text comes normalised, and every space of it must come back.
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "max_sentence_length": 2**30,  # the library leaves out longer texts
            "minloglevel": 2,
        }
        try:
            library.SentencePieceTrainer.train(sentence_iterator=iter(reader), model_writer=model, **options)
        except (RuntimeError, OSError) as error:
            reader.check()
            raise ValueError(
                f"sentencepiece could not train vocabulary_size={vocabulary_size} pieces on these texts: {error}"
            ) from error
        reader.check()
        return cls(model.getvalue(), normalizer=normalizer, **kwargs)

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
        """Return a tokenizer with the model in a `.model` file, or with the Unigram model of a `tokenizer.json`.

        The normalizer of a `tokenizer.json` is taken, unless given here; tokens that the file would put around a text
        are those of `add_bos` and `add_eos`. Its truncation and padding are not applied, and a warning says so.

        Args:
            path: The file; `tokenizer.json` if its name ends in `.json`.
            pad: For a `tokenizer.json`, the string of the padding. None: "<pad>" or another usual one. If the file
                lacks it, it gets a new id.
            unknown: Not for a Unigram model, which names its unknown token itself.
            begin: String of the begin token, in the same way as `pad`.
            end: String of the end token, in the same way as `pad`.
            **kwargs: Other arguments of the constructor.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is of another kind, or needs what kseq does not do; the message says what.
        """
        names = {"pad": pad, "begin": begin, "end": end}
        is_json = pathlib.Path(path).suffix == ".json"
        if unknown is not None or (not is_json and any(names.values())):
            given = {name: string for name, string in {**names, "unknown": unknown}.items() if string is not None}
            raise ValueError(f"{given}, but the file {str(path)!r} names these tokens itself. Leave them out.")
        if is_json:
            content, normalizer = sentence_piece_parts(path, read_tokenizer(path, "Unigram"), names)
            kwargs = {"normalizer": normalizer, **kwargs}
        else:
            content = file_bytes(path, "SentencePiece model")
            read_model(content, repr(str(path)))
        return cls(content, **kwargs)

    def save_model(self, path: str | os.PathLike[str]) -> None:
        """Write the model to the `.model` file `path`, which `from_file` and `sentencepiece` read."""
        write_whole(path, self._model)

    @property
    def lossless(self) -> bool:
        """Whether `detokenize(tokenize(text))` is `normalize(text)`, but for U+2581."""
        return self._lossless

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the ids, ragged int32 `(batch, (tokens))`, of `text`, string `(batch,)`, already normalised."""
        return self._op(text)

    def encode_with_places(self, text: tf.Tensor) -> tuple[tf.RaggedTensor, Offsets]:
        """Return the ids of `text`, already normalised, and their places in it, in bytes.

        Of a character that is split into bytes, the last token has the place of the whole, and the others are empty.
        """
        return self._op.with_places(text)

    def finish(self, text: tf.Tensor) -> tf.Tensor:
        """Return joined pieces without the space that the model adds to a text, as valid UTF-8."""
        if self._byte_fallback:
            text = replace_invalid_utf8(text)
        return text if self._added_spaces is None else tf.strings.regex_replace(text, self._added_spaces, "")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, the model as base64."""
        return {"model": base64.b64encode(self._model).decode(), **self._shared_config()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the tokenizer that `config` describes."""
        normalizer = keras.saving.deserialize_keras_object(config["normalizer"])
        return cls(**{**config, "model": base64.b64decode(config["model"]), "normalizer": normalizer})


def _vocabulary(model: Any) -> Vocabulary:
    """Return the pieces of `model` in the order of their ids, and the special tokens that it lacks after them."""
    strings, spec, default = [piece.piece for piece in model.pieces], model.trainer_spec, SpecialTokens()
    unknown = next(place for place, piece in enumerate(model.pieces) if piece.type == UNKNOWN)
    places: dict[str, int] = {}
    for name, string, place in (
        ("unk_id", default.unknown, unknown),
        ("bos_id", default.begin, spec.bos_id),
        ("eos_id", default.end, spec.eos_id),
        ("pad_id", default.pad, spec.pad_id),
    ):
        if not 0 <= place < len(model.pieces):
            place = strings.index(string) if string in strings else len(strings)
        if place == len(strings):
            strings.append(string)
        if place in places.values():
            other = next(each for each in places if places[each] == place)
            raise ValueError(
                f"model: the piece {strings[place]!r} is both {other} and {name} ({place}), but kseq needs different "
                f"ones. Set trainer_spec.{name} = -1 in the model: then kseq gives this special token a new id."
            )
        places[name] = place
    named = (strings[places[f"{name}_id"]] for name in ("pad", "unk", "bos", "eos"))
    special = SpecialTokens(*named, **places)  # pyright: ignore[reportArgumentType]
    return Vocabulary(
        [string for place, string in enumerate(strings) if place not in special.ids], special_tokens=special
    )


def _surfaces(model: Any, vocabulary: Vocabulary) -> list[bytes]:
    def surface(piece: Any) -> bytes:
        if piece.type == BYTE:
            return bytes([int(piece.piece[3:5], 16)])
        return b"" if piece.type == CONTROL else piece.piece.replace(SPACE, " ").encode()

    surfaces = [surface(piece) for piece in model.pieces]
    return surfaces + [string.encode() for string in vocabulary.strings[len(surfaces) :]]


def _added_spaces(model: Any) -> str | None:
    """Return the regular expression of the spaces that the model adds to a text, or None if it adds none."""
    spec = model.normalizer_spec
    if not spec.add_dummy_prefix and not spec.remove_extra_whitespaces:
        return None
    spaces = " +" if spec.remove_extra_whitespaces else " "
    return rf"{spaces}\z" if model.trainer_spec.treat_whitespace_as_suffix else rf"\A{spaces}"
