"""Vocabulary files of the library `tokenizers`, and their special tokens."""

import json
import os
import reprlib
import warnings
from collections.abc import Mapping
from typing import Any

from kseq.text.files import file_bytes
from kseq.text.special_tokens import SpecialTokens

# What published vocabularies call them; the first one that a vocabulary has is taken.
_USUAL = {
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "unknown": ("<unk>", "[UNK]"),
    "begin": ("<s>", "[CLS]", "<|startoftext|>", "<bos>", "<|begin_of_text|>"),
    "end": ("</s>", "[SEP]", "<|endoftext|>", "<eos>", "<|end_of_text|>"),
}


def read_json(path: str | os.PathLike[str], kind: str) -> dict[str, Any]:
    """Return the object in the JSON file at `path`; `kind` is what it should be.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, or not an object.
    """
    try:
        content = json.loads(file_bytes(path, kind), object_pairs_hook=_without_repetition)
    except RecursionError as error:
        raise ValueError(f"{str(path)!r} is nested too deeply. Expected a {kind}.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not JSON, or it is cut off: {error}. Expected a {kind}.") from error
    except _RepeatedError as error:
        raise ValueError(f"{str(path)!r} has {error} twice. Every token has one id: remove one of the two.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} holds a {type(content).__name__}, but expected a {kind}.")
    return content


class _RepeatedError(Exception):
    """A key that is there twice, of which json would take the last one."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RepeatedError(repr(key))
        found[key] = value
    return found


def read_tokenizer(path: str | os.PathLike[str], model: str) -> dict[str, Any]:
    """Return the content of the `tokenizer.json` at `path`, whose model must be of the kind `model`.

    Its truncation and padding are not applied, and a warning says so: `Tokenizer` has arguments for them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no `tokenizer.json`, has another kind of model, or tokens that come before all others.
    """
    content = read_json(path, "tokenizer.json")
    found = content.get("model", {}).get("type") if isinstance(content.get("model"), dict) else None
    if found != model:
        raise ValueError(
            f"{str(path)!r}: the model of this tokenizer.json is of the kind {found!r}, but {model!r} was expected. "
            "BytePairTokenizer reads 'BPE', WordPieceTokenizer 'WordPiece', and SentencePieceTokenizer 'Unigram'."
        )
    _check_parts(path, content)
    if own := [each["content"] for each in content.get("added_tokens") or [] if not each.get("special")]:
        raise ValueError(
            f"{str(path)!r}: the added tokens {own[:5]} are looked for in texts before all others, which kseq does not "
            "do. Only special added tokens are supported."
        )
    return content


def _check_parts(path: Any, content: dict[str, Any]) -> None:
    """Raise ValueError if a part of a `tokenizer.json` is not of its type; warn of parts that are not applied."""
    lists = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}
    for name in ("normalizer", "pre_tokenizer", "truncation", "padding"):
        part = content.get(name)
        if part is not None and not isinstance(part, dict):
            raise ValueError(f"{str(path)!r}: {name} is {reprlib.repr(part)}, but expected an object or null.")
        steps = (part or {}).get(lists.get(name, ""))
        if steps is not None and not (isinstance(steps, list) and all(isinstance(each, dict) for each in steps)):
            raise ValueError(
                f"{str(path)!r}: {name} has {lists[name]}={reprlib.repr(steps)}, but expected a list of objects."
            )
    added = content.get("added_tokens") or []
    for each in added if isinstance(added, list) else [added]:
        if not isinstance(added, list) or not isinstance(each, dict):
            raise ValueError(f"{str(path)!r}: added_tokens has {reprlib.repr(each)}, but expected a list of objects.")
        if not isinstance(each.get("content"), str) or type(each.get("id")) is not int:
            raise ValueError(
                f"{str(path)!r}: added_tokens has {reprlib.repr(each)}, but expected a content, a string, and an id, a "
                "whole number."
            )
    _warn(path, content)


def _warn(path: Any, content: dict[str, Any]) -> None:
    truncation, padding = content.get("truncation"), content.get("padding")
    if truncation:
        warnings.warn(
            f"{str(path)!r}: its truncation {truncation} is not applied. Give max_length= and truncation=.",
            stacklevel=5,
        )
    if padding and (padding.get("strategy") != "BatchLongest" or padding.get("direction", "Right") != "Right"):
        warnings.warn(
            f"{str(path)!r}: its padding {padding} is not applied. Rows are padded at their ends to the longest one; "
            "pad_to_multiple_of= makes them longer.",
            stacklevel=5,
        )


def refuse_options(path: Any, part: str, options: Mapping[str, Any], expected: Mapping[str, tuple]) -> None:
    """Raise ValueError if an option of a `tokenizer.json` has none of the `expected` values.

    Args:
        path: The file, for the message.
        part: The part of the file that has the options.
        options: The options; one that is absent is not looked at.
        expected: The values that are supported, for each option.
    """
    for name, values in expected.items():
        if name in options and options[name] not in values:
            raise ValueError(
                f"{str(path)!r}: {part} has {name}={options[name]!r}, but only {' or '.join(map(repr, values))} is "
                "supported."
            )


def tokens_by_id(path: Any, vocabulary: Any, added: list[dict[str, Any]]) -> list[str]:
    """Return the tokens in the order of their ids, of a mapping from tokens to ids and the added tokens.

    Raises:
        ValueError: If it is no such mapping, or an id is missing or there twice.
    """
    if not isinstance(vocabulary, dict) or not all(type(place) is int for place in vocabulary.values()):
        raise ValueError(f"{str(path)!r}: the vocabulary must be a mapping from tokens to ids.")
    ids = {**vocabulary, **{each["content"]: each["id"] for each in added}}
    tokens = sorted(ids, key=lambda token: ids[token])
    for place, token in enumerate(tokens):
        if ids[token] != place:
            fault = "is missing" if ids[token] > place else f"is that of {tokens[place - 1]!r} and {token!r}"
            raise ValueError(f"{str(path)!r}: the id {min(place, ids[token])} {fault}. Ids go from 0 on, one a token.")
    return tokens


def special_tokens_of(tokens: list[str], names: Mapping[str, str | None]) -> tuple[list[str], SpecialTokens]:
    """Return the tokens without special ones, and the special tokens with their ids.

    Args:
        tokens: All tokens in the order of their ids.
        names: The strings of "pad", "unknown", "begin" and "end", or None: the first usual one that the tokens have. A
            token that they lack gets an id after theirs.
    """
    places = {token: place for place, token in enumerate(tokens)}
    strings, ids, following = [], [], len(tokens)
    for role, usual in _USUAL.items():
        string = names.get(role) or next((each for each in usual if each in places), usual[0])
        strings.append(string)
        ids.append(places.get(string, following))
        following += string not in places
    special = SpecialTokens(*strings, *ids)
    return [token for place, token in enumerate(tokens) if place not in ids], special
