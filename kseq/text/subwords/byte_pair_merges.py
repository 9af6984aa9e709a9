"""Merges of byte pairs as a SentencePiece model, which merges them in one operation of the graph.

The library `tokenizers` merges the pair of neighbours whose merge comes first in a list. SentencePiece merges the pair
of neighbours which together are the piece with the highest score. If each merge of the list is the last step when its
result alone is split, as in every list that was trained, both do the same, and the score is the merge's negative place.
"""

import itertools
from collections.abc import Collection, Iterable, Sequence, Set
from typing import Any

from kseq.text.special_tokens import SpecialTokens
from kseq.text.subwords.sentence_piece_model import CONTROL, NORMAL, UNKNOWN, byte_pair_model

_FIRST_OTHER = "\u4e00"  # pieces that no text has begin with it: the bytes of texts are the characters up to U+00FF


def byte_alphabet() -> list[str]:
    """Return the character with which the library `tokenizers` spells each of the 256 bytes.

    Printable characters of Latin-1 stand for themselves; the others are the characters from U+0100 on.
    """
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


_BYTES = {character: byte for byte, character in enumerate(byte_alphabet())}


def token_bytes(token: str) -> bytes | None:
    """Return the bytes that `token` spells, or None if a character of it is not in the alphabet of bytes."""
    try:
        return bytes([_BYTES[character] for character in token])
    except KeyError:
        return None


def checked_pairs(merges: Any) -> list[tuple[str, str]]:
    """Return merges as pairs of tokens.

    Raises:
        ValueError: If they are no list of pairs, or of strings of two tokens with a space between them.
    """
    if isinstance(merges, str | bytes | Set) or not isinstance(merges, Iterable):
        raise ValueError(f"merges must be a list of pairs of tokens in the order of their training, but is {merges!r}.")
    pairs = []
    for place, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        is_pair = isinstance(parts, list | tuple) and len(parts) == 2
        if not is_pair or not all(isinstance(part, str) and part for part in parts):
            raise ValueError(
                f"Merge {place} is {merge!r}, but expected two tokens, as a pair or with a space between them."
            )
        pairs.append((parts[0], parts[1]))
    return pairs


def checked_merges(tokens: Collection[str], merges: Sequence[tuple[str, str]]) -> None:
    """Raise ValueError unless the merges make each of their tokens once, and by their own last step.

    Args:
        tokens: All tokens, without special ones.
        merges: The pairs, in the order in which they are merged.
    """
    ranks: dict[str, int] = {}
    last = byte_alphabet()[0xFF]
    for place, (left, right) in enumerate(merges):
        if last in left + right:
            raise ValueError(
                f"Merge {place}, {left!r} {right!r}: {last!r} spells the byte 0xFF, which no text in UTF-8 has, and "
                "which ends words here. Leave out this merge."
            )
        if missing := [each for each in (left, right, left + right) if each not in tokens]:
            raise ValueError(f"Merge {place}, {left!r} {right!r}: the token {missing[0]!r} is not in the vocabulary.")
        if ranks.setdefault(left + right, place) != place:
            raise ValueError(
                f"Merge {place}, {left!r} {right!r}: the merge {ranks[left + right]} makes the same token. "
                "Merges of which each makes another token are supported, as they are trained."
            )
    for place, pair in enumerate(merges):
        if (found := _merged("".join(pair), ranks, place)) != list(pair):
            raise ValueError(
                f"Merge {place}, {pair[0]!r} {pair[1]!r}: the merges before it make {found} of these characters. Only "
                "merges in the order of their training are supported."
            )


def _merged(text: str, ranks: dict[str, int], end: int) -> list[str]:
    """Return the parts of `text` after all merges before the merge `end`."""
    parts = list(text)
    while len(parts) > 1:
        found = [ranks.get(left + right, end) for left, right in itertools.pairwise(parts)]
        best = min(found)
        if best >= end:
            break
        place = found.index(best)
        parts[place : place + 2] = ["".join(parts[place : place + 2])]
    return parts


def sentence_piece_model(strings: Sequence[str], merges: Sequence[tuple[str, str]], special: SpecialTokens) -> bytes:
    """Return the SentencePiece model of merges, for texts in which the characters up to U+00FF stand for bytes.

    Args:
        strings: All tokens in the order of their ids, special tokens included.
        merges: The pairs, in the order in which they are merged.
        special: The special tokens.
    """
    ranks = {left + right: place for place, (left, right) in enumerate(merges)}
    pieces = []
    for place, string in enumerate(strings):
        spelt = token_bytes(string)
        if place not in special.ids and spelt is not None and (string in ranks or len(string) == 1):
            pieces.append((spelt.decode("latin-1"), -float(ranks.get(string, 0)), NORMAL))
        else:
            pieces.append((f"{_FIRST_OTHER}{place}", 0.0, UNKNOWN if place == special.unk_id else CONTROL))
    return byte_pair_model(pieces)
