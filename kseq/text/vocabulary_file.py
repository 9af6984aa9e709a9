r"""The file format of vocabularies: UTF-8, one token per line, the line's number being its id.

A line is the token itself, except that a line feed is written `\x0A`, a carriage return `\x0D`, and the backslash of a
token that itself contains `\x0A`, `\x0D` or `\x5C` is written `\x5C`. Any other backslash stays as it is, so `\frac` is
written `\frac`. The functions escape and restore lines both in Python and in the graph.
"""

import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

# The patterns and rewrites are valid in Python's re and TensorFlow's RE2. The order matters: backslashes are escaped
# first and restored last, so that escapes and tokens cannot be confused.
_ESCAPES = (
    (r"\\(x5C|x0A|x0D)", r"\\x5C\1"),
    (r"\n", r"\\x0A"),
    (r"\r", r"\\x0D"),
)
_RESTORES = ((r"\\x0A", "\n"), (r"\\x0D", "\r"), (r"\\x5C", r"\\"))


def needs_escape(token: str) -> bool:
    """Return whether the line of `token` differs from `token`."""
    return escape(token) != token


def escape(token: str) -> str:
    """Return the line that represents `token`."""
    for pattern, rewrite in _ESCAPES:
        token = re.sub(pattern, rewrite, token)
    return token


def restore(line: str) -> str:
    """Return the token that `line` represents."""
    for pattern, rewrite in _RESTORES:
        line = re.sub(pattern, rewrite, line)
    return line


def escape_tensor(tokens: Any) -> Any:
    """Apply `escape` in the graph to a string tensor or ragged tensor of any shape."""
    for pattern, rewrite in _ESCAPES:
        tokens = tf.strings.regex_replace(tokens, pattern, rewrite)
    return tokens


def restore_tensor(lines: Any) -> Any:
    """Apply `restore` in the graph to a string tensor or ragged tensor of any shape."""
    for pattern, rewrite in _RESTORES:
        lines = tf.strings.regex_replace(lines, pattern, rewrite)
    return lines


def encode_tokens(tokens: Iterable[str]) -> bytes:
    """Return the content of the file that represents `tokens`."""
    return "".join(f"{escape(token)}\n" for token in tokens).encode()


def read_tokens(path: str | os.PathLike[str]) -> list[str]:
    """Return the tokens of the file at `path`; line ends may be LF or CR LF, and a byte-order mark is skipped.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not UTF-8, or a line is empty or repeats an earlier one.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no vocabulary file {str(path)!r}. Expected a UTF-8 text file with one token per line; "
            "Vocabulary.save(path) writes one."
        )
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"The vocabulary file {str(path)!r} is not UTF-8: {error}. Convert it to UTF-8.") from error
    # TensorFlow's reader ends lines at LF alone; str.splitlines would also split at U+2028 and the like.
    lines = text.removesuffix("\n").split("\n") if text else []
    tokens = [restore(line.removesuffix("\r")) for line in lines]
    check_tokens(tokens, first=1, place=f"{str(path)!r}, line")
    return tokens


def check_tokens(tokens: Sequence[str], *, first: int, place: str) -> None:
    """Raise an error if a token is empty, not a string, or repeated.

    Args:
        tokens: The tokens to check.
        first: Number of the first token in error messages.
        place: What the number counts, such as a file's lines.

    Raises:
        TypeError: If a token is not a `str`.
        ValueError: If a token is empty or repeats an earlier one.
    """
    seen: dict[str, int] = {}
    for number, token in enumerate(tokens, start=first):
        if not isinstance(token, str):
            raise TypeError(
                f"{place} {number}: expected a token of type str, got {token!r} of type {type(token).__name__}. "
                "Decode bytes with .decode()."
            )
        if not token:
            raise ValueError(f"{place} {number}: the token is empty. Remove it: a token has at least one character.")
        if token in seen:
            raise ValueError(
                f"{place} {number}: the token {token!r} is already at {seen[token]}. "
                "Every token has one id: remove one of the two."
            )
        seen[token] = number
