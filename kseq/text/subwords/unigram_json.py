"""Unigram models of `tokenizer.json` files as SentencePiece models.

The ids are those of `tokenizers`, with these exceptions: a text of one space has no tokens; the character U+2581, with
which pieces spell a space, always counts as a space; and with a "Precompiled" normalizer, characters are mapped as
SentencePiece does, while `tokenizers` drops combining marks after some of them, and white space that the map leaves,
such as U+0085, does not end a word.
"""

import base64
import binascii
import dataclasses
from typing import Any, Self

import keras
import tensorflow as tf

from kseq.text.normalization import TextNormalizer
from kseq.text.subwords.sentence_piece_model import BYTE, CONTROL, NORMAL, UNKNOWN, unigram_model
from kseq.text.subwords.tokenizer_json import refuse_options, special_tokens_of

SPACE = "\u2581"  # how pieces spell a space
_FORMS = ("NFC", "NFD", "NFKC", "NFKD")


@keras.saving.register_keras_serializable(package="kseq")
@dataclasses.dataclass(frozen=True, kw_only=True)
class MetaspaceNormalizer:
    """Normalises texts for pieces that begin with a space: the space at the start is that which the first piece has.

    Args:
        form: Unicode's normal form, "NFC", "NFD", "NFKC" or "NFKD". None: none.
        collapse_whitespace: Whether each run of white space becomes one space, and none stays at the ends.

    Call arguments:
        text: string, any shape.

    Returns:
        string, the shape of `text`.
    """

    form: str | None = None
    collapse_whitespace: bool = False

    def __call__(self, text: Any) -> tf.Tensor:
        """Return `text`, string of any shape, normalised."""
        form: Any = self.form
        text = TextNormalizer(form=form, collapse_whitespace=False, strip=False)(text)
        if self.collapse_whitespace:
            text = tf.strings.regex_replace(text, r"[\p{Z}\t-\r\x{85}]+", " ")
            text = tf.strings.regex_replace(text, r"\A | \z", "")
        return tf.strings.regex_replace(text, rf"\A[ {SPACE}]", "")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return the object that `config` describes."""
        return cls(**config)


def sentence_piece_parts(path: Any, content: dict[str, Any], names: dict[str, str | None]) -> tuple[bytes, Any]:
    """Return the SentencePiece model and the normalizer of a `tokenizer.json` with a Unigram model.

    Args:
        path: The file, for messages.
        content: What it holds.
        names: The strings of "pad", "unknown", "begin" and "end", or None: the first usual one that the file has.

    Raises:
        ValueError: If the file needs what kseq does not do; the message says what.
    """
    model, added = content["model"], content.get("added_tokens") or []
    pieces, unknown = _pieces(path, model.get("vocab")), model.get("unk_id")
    if type(unknown) is not int or not 0 <= unknown < len(pieces):
        raise ValueError(f"{str(path)!r}: model has unk_id={unknown!r}, but it must be the id of a piece.")
    for token in sorted(added, key=lambda each: each["id"]):
        if token["id"] == len(pieces):
            pieces.append((token["content"], 0.0))
        elif token["id"] > len(pieces) or pieces[token["id"]][0] != token["content"]:
            raise ValueError(f"{str(path)!r}: the added token {token['content']!r} has the wrong id {token['id']}.")
    control = {token["content"] for token in added}
    strings = [string for string, _ in pieces]
    if inner := [each for each in strings if SPACE in each[1:] and each not in control]:
        raise ValueError(f"{str(path)!r}: pieces such as {inner[:3]} have a space inside, which is not supported.")
    bytes_ = {f"<0x{byte:02X}>" for byte in range(256)} if model.get("byte_fallback") else set()
    kinds = [
        UNKNOWN if place == unknown else CONTROL if string in control else BYTE if string in bytes_ else NORMAL
        for place, string in enumerate(strings)
    ]
    collapse, charsmap, normalizer = _normalization(path, content)
    _, special = special_tokens_of(strings, {**names, "unknown": strings[unknown]})
    return unigram_model(
        [(string, score, kind) for (string, score), kind in zip(pieces, kinds, strict=True)],
        charsmap=charsmap,
        collapse=collapse,
        ids={"unk_id": unknown, "bos_id": special.bos_id, "eos_id": special.eos_id, "pad_id": special.pad_id},
    ), normalizer


def _pieces(path: Any, vocabulary: Any) -> list[tuple[str, float]]:
    is_pair = isinstance(vocabulary, list) and all(
        isinstance(each, list) and len(each) == 2 and isinstance(each[0], str) and isinstance(each[1], int | float)
        for each in vocabulary
    )
    if not is_pair or not vocabulary:
        raise ValueError(f"{str(path)!r}: the vocabulary of a Unigram model must be pairs of a piece and its score.")
    return [(string, float(score)) for string, score in vocabulary]


def _normalization(path: Any, content: dict[str, Any]) -> tuple[bool, bytes, Any]:
    """Return whether runs of spaces become one, the precompiled map of characters, and the normalizer before it."""
    steps = _steps(content.get("normalizer"), "normalizers")
    parts = _steps(content.get("pre_tokenizer"), "pretokenizers")
    kinds, of_text = [part.get("type") for part in parts], [step.get("type") for step in steps]
    if kinds not in (["Metaspace"], ["WhitespaceSplit", "Metaspace"]):
        raise ValueError(
            f"{str(path)!r}: pre_tokenizer is {kinds}, but for a Unigram model only Metaspace, or WhitespaceSplit and "
            "Metaspace, is supported."
        )
    metaspace = {"add_prefix_space": True, "prepend_scheme": "always", **parts[-1]}
    expected = {"replacement": (SPACE,), "prepend_scheme": ("always", "first"), "add_prefix_space": (True,)}
    refuse_options(path, "Metaspace", metaspace, {**expected, "split": (True,)})
    split = len(parts) == 2
    if split and not steps:
        return True, b"", MetaspaceNormalizer(collapse_whitespace=True)
    if not split and len(steps) <= 1 and (not steps or of_text[0] in _FORMS):
        return False, b"", MetaspaceNormalizer(form=of_text[0] if steps else None)
    if of_text[:1] == ["Precompiled"] and ((split and len(steps) == 1) or (not split and _collapses(steps[1:]))):
        return True, _charsmap(path, steps[0]), None
    raise ValueError(
        f"{str(path)!r}: normalizer is {of_text} with the pre_tokenizer {kinds}. Supported are, with WhitespaceSplit "
        f"and Metaspace, none or Precompiled; with Metaspace, none, {' '.join(_FORMS)}, or Precompiled, Strip at the "
        "right and Replace of runs of spaces, as models of SentencePiece are converted."
    )


def _steps(part: Any, name: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return list(part.get(name) or []) if part.get("type") == "Sequence" else [part]


def _collapses(steps: list[dict[str, Any]]) -> bool:
    """Return whether steps remove white space at the right, and make one space of runs of them."""
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    runs = [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": space} for space in (SPACE, " ")]
    return len(steps) == 2 and steps[0] == strip and steps[1] in runs


def _charsmap(path: Any, step: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(step["precompiled_charsmap"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise ValueError(f"{str(path)!r}: the precompiled_charsmap of normalizer cannot be read: {error!r}.") from error
