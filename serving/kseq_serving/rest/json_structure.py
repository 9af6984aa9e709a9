"""Brackets, commas and colons of JSON documents, which NumPy finds in the part that a scanner written in C has passed.

So the check of a malformed document begins near its error, instead of taking Python's steps from the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

_PIECE = 1 << 20  # bytes that are looked at together
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_IS_STRUCTURE = np.isin(np.arange(256), np.frombuffer(b"[]{},:", np.uint8))
_STEPS = np.zeros(256, np.int64)
_STEPS[[ord("["), ord("{")]] = 1
_STEPS[[ord("]"), ord("}")]] = -1


def count(document: bytes, max_depth: int) -> int:
    """Return the number of brackets, commas and colons outside strings before one that is nested too deep.

    Args:
        document: Start of a valid document.
        max_depth: Largest number of brackets that may be open.
    """
    number, depth = 0, 0
    for _, characters in _pieces(document):
        depths = np.cumsum(_STEPS[characters]) + depth
        if (depths > max_depth).any():
            return number + int(np.argmax(depths > max_depth))
        number += len(characters)
        depth = depths[-1] if len(depths) else depth
    return number


def follow(document: bytes, known: int) -> tuple[bytes, int]:
    """Follow a document that is valid up to one of its brackets, commas and colons.

    Args:
        document: The document.
        known: Number of brackets, commas and colons up to that one.

    Returns:
        The brackets that are open behind it, and the offset there; none and 0 if the number is 0.
    """
    opened, behind = bytearray(), 0
    for offsets, characters in _pieces(document):
        offsets, characters = offsets[:known], characters[:known]
        if len(offsets):
            depths = np.cumsum(_STEPS[characters]) + len(opened)
            del opened[int(depths.min()) :]
            # A bracket stays open if the depth never falls below its own again.
            lowest = np.minimum.accumulate(depths[::-1])[::-1]
            opened += characters[(_STEPS[characters] > 0) & (lowest == depths)].tobytes()
            behind = int(offsets[-1]) + 1
            known -= len(offsets)
        if not known:
            break
    return bytes(opened), behind


def _pieces(document: bytes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, piece by piece, the offsets of the brackets, commas and colons outside strings, and these characters."""
    plain = _ESCAPED.sub(b"__", document)  # valid documents have backslashes in strings alone
    in_string = np.uint8(0)
    for start in range(0, len(plain), _PIECE):
        piece = np.frombuffer(plain, np.uint8, min(_PIECE, len(plain) - start), start)
        in_strings = np.cumsum(piece == ord('"'), dtype=np.uint8) & 1 ^ in_string
        offsets = np.flatnonzero(_IS_STRUCTURE[piece] & (in_strings == 0))
        in_string = in_strings[-1]
        yield offsets + start, piece[offsets]
