"""Schemes of tags that mark spans of tokens, such as BIO: which tags may follow each other, and where spans lie.

A tag is a prefix and a type, such as "B-Disease", or "O" for a token outside of spans. A prefix alone, such as "B", has
the type "_". The prefixes of each scheme:

    BIO     B begins a span, I continues it (also called IOB2)
    BIOES   as BIO, and E ends a span of several tokens, S is a span of one token
    BILOU   as BIOES, with L in place of E and U in place of S
    IOB1    I is any token of a span; B begins a span right after another one of the same type
    IO      I is any token of a span; neighbouring spans of one type are one span

Reference: L. Ratinov, D. Roth, "Design challenges and misconceptions in named entity recognition", 2009.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor

SCHEMES = {"BIO": "BI", "BIOES": "BIES", "BILOU": "BILU", "IOB1": "BI", "IO": "I"}  # prefixes beside O
OUTSIDE, NO_TYPE = "O", "_"
MODES = (None, "strict")
_SAME = {"L": "E", "U": "S"}  # prefixes of BILOU -> those of BIOES


class AllowedTransitions(NamedTuple):
    """Which sequences of tags a scheme allows.

    Attributes:
        transitions: bool `(tags, tags)`, whether the second tag may follow the first one.
        start: bool `(tags,)`, whether a sequence may start with the tag.
        end: bool `(tags,)`, whether a sequence may end with the tag.
    """

    transitions: np.ndarray
    start: np.ndarray
    end: np.ndarray


class SpanRules(NamedTuple):
    """Where the spans of a sequence of tags lie: a token that does not continue a span starts a new piece.

    A piece is a span if its first tag may start a span, and its last tag may end one.

    Attributes:
        continues: bool `(tags, tags)`, whether the second tag, after the first one, continues its piece.
        starts: bool `(tags,)`, whether a span may start with the tag.
        ends: bool `(tags,)`, whether a span may end with the tag.
        types: int32 `(tags,)`, the index of the tag's type; -1 for "O".
        type_names: The names of the types, in alphabetic order.
    """

    continues: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    types: np.ndarray
    type_names: tuple[str, ...]


class Spans(NamedTuple):
    """The spans of rows of tags, and the pieces of which `SpanRules` tells.

    Attributes:
        first: bool `(batch, time)`, whether a token is the first one of a span.
        last: bool `(batch, time)`, whether a token is the last one of a span.
        inside: bool `(batch, time)`, whether a token is in a span.
        types: int32 `(batch, time)`, the index of a span's type; -1 outside of spans.
        pieces: int32 `(batch, time)`, the number of a token's piece in its row, from 0.
    """

    first: Tensor
    last: Tensor
    inside: Tensor
    types: Tensor
    pieces: Tensor


def allowed_transitions(names: Sequence[str], scheme: str) -> AllowedTransitions:
    """Return which sequences of the tags `names` a scheme allows.

    Args:
        names: The names of the tags, in the order of their ids.
        scheme: "BIO", "BIOES", "BILOU", "IOB1" or "IO".

    Raises:
        ValueError: If the scheme is another one, a name does not follow it, or a tag is in no allowed sequence, such as
            "I-X" where "B-X" is not among the names.

    Example:
        >>> allowed_transitions(["O", "B-X", "I-X"], "BIO").transitions
        array([[ True,  True, False],
               [ True,  True,  True],
               [ True,  True,  True]])
    """
    prefixes, types = _parsed(names, scheme)
    same = types[:, None] == types[None]
    before, after = prefixes[:, None], prefixes[None]
    if scheme in ("BIOES", "BILOU"):
        inside = same & np.isin(before, ["B", "I"]) & np.isin(after, ["I", "E"])
        begins, closes = np.isin(prefixes, ["O", "B", "S"]), np.isin(prefixes, ["O", "E", "S"])
        allowed = inside | (closes[:, None] & begins[None])
    elif scheme == "BIO":
        begins, closes = prefixes != "I", np.ones(len(prefixes), bool)
        allowed = begins[None] | (same & (before != "O"))
    elif scheme == "IOB1":
        begins, closes = prefixes != "B", np.ones(len(prefixes), bool)
        allowed = begins[None] | (same & (before != "O"))
    else:
        begins = closes = np.ones(len(prefixes), bool)
        allowed = np.ones((len(prefixes),) * 2, bool)
    _check_reachable(names, scheme, AllowedTransitions(allowed, begins, closes))
    return AllowedTransitions(allowed, begins, closes)


def span_rules(names: Sequence[str], scheme: str, mode: str | None = None) -> SpanRules:
    """Return where the spans of sequences of the tags `names` lie, also of sequences that the scheme does not allow.

    Args:
        names: The names of the tags, in the order of their ids.
        scheme: "BIO", "BIOES", "BILOU", "IOB1" or "IO".
        mode: None: a span starts at each tag that cannot continue the one before, such as I after O, as in the script
            `conlleval.pl`. "strict": only what the scheme allows is a span: one of "BIO" starts with B, one of "BIOES"
            is S alone, or starts with B and ends with E.

    Raises:
        ValueError: If the scheme or mode is another one, a name does not follow the scheme, or the scheme has no
            strict mode.
    """
    prefixes, types = _parsed(names, scheme)
    if mode not in MODES:
        raise ValueError(f'mode={mode!r}, but there are the modes None, as in conlleval.pl, and "strict".')
    if mode == "strict" and scheme in ("IOB1", "IO"):
        raise ValueError(f'mode="strict", but {scheme} has no strict mode. Leave it out, or use another scheme.')
    type_names = tuple(sorted({each for each, prefix in zip(types.tolist(), prefixes, strict=True) if prefix != "O"}))
    before, after = prefixes[:, None], prefixes[None]
    same = types[:, None] == types[None]
    continues = same & np.isin(before, ["B", "I"]) & np.isin(after, ["I", "E"])
    starts = ends = prefixes != "O"
    if mode == "strict":
        starts = np.isin(prefixes, ["B", "S"])
        ends = starts | (prefixes == "I") if scheme == "BIO" else np.isin(prefixes, ["E", "S"])
    numbers = [-1 if prefix == "O" else type_names.index(of) for prefix, of in zip(prefixes, types, strict=True)]
    return SpanRules(continues, starts, ends, np.array(numbers, "int32"), type_names)


def find_spans(tags: Tensor, mask: Tensor | None, rules: SpanRules) -> Spans:
    """Return the spans of rows of tags, in compilable operations.

    Args:
        tags: int32 `(batch, time)`; an id that is no tag is in no span.
        mask: bool `(batch, time)`, True for the real tokens, which come before the padding; None: all are real.
        rules: The rules of the scheme.
    """
    size, time = len(rules.types), ops.shape(tags)[1]
    tags = ops.cast(tags, "int32")
    real = ops.logical_and(tags >= 0, tags < size)
    real = real if mask is None else ops.logical_and(real, mask)
    tags = ops.where(real, tags, size)  # the padding has a tag of its own, which is in no span
    continues = np.pad(rules.continues, ((0, 1), (0, 1))).reshape(-1)
    breaks = ops.logical_not(ops.take(continues, tags[:, :-1] * (size + 1) + tags[:, 1:]))  # (batch, time - 1)
    first = ops.pad(breaks, ((0, 0), (1, 0)), constant_values=True)[:, :time]  # an empty row has no first token
    last = ops.pad(breaks, ((0, 0), (0, 1)), constant_values=True)[:, :time]
    pieces = ops.cumsum(ops.cast(first, "int32"), axis=1) - 1
    may_start, may_end = (ops.take(np.pad(flags, (0, 1)), tags) for flags in (rules.starts, rules.ends))
    limits = ops.cast(ops.logical_and(first, may_start), "int32") + ops.cast(ops.logical_and(last, may_end), "int32")
    inside = sum_of_pieces(limits, pieces) == 2
    types = ops.where(inside, ops.take(np.pad(rules.types, (0, 1)), tags), -1)
    return Spans(ops.logical_and(first, inside), ops.logical_and(last, inside), inside, types, pieces)


def sum_of_pieces(values: Tensor, pieces: Tensor) -> Tensor:
    """Return for each token the sum of `values`, int32 `(batch, time)`, over the tokens of its piece."""
    batch, time = ops.shape(values)
    places = ops.reshape(pieces + time * ops.arange(batch, dtype="int32")[:, None], (-1,))
    sums = ops.segment_sum(ops.reshape(values, (-1,)), places, num_segments=batch * time)
    return ops.reshape(ops.take(sums, places), (batch, time))


def _parsed(names: Sequence[str], scheme: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the prefix, by the letters of BIOES, and the type of each name.

    Raises:
        ValueError: If the scheme is another one, there is no name, or a name does not follow the scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme={scheme!r}, but the schemes are {sorted(SCHEMES)}.")
    if isinstance(names, str) or not len(names):
        raise ValueError(f"names={names!r}, but a scheme needs a list with the name of each tag.")
    parsed = []
    for index, name in enumerate(names):
        prefix, dash, of = str(name).partition("-")
        if name == OUTSIDE:
            parsed.append(("O", ""))
        elif prefix not in SCHEMES[scheme] or len(prefix) != 1 or (dash and not of):
            examples = ", ".join(repr(f"{each}-TYPE") for each in SCHEMES[scheme])
            raise ValueError(f"names[{index}] is {name!r}, but the tags of {scheme} are 'O' and {examples}.")
        else:
            parsed.append((_SAME.get(prefix, prefix) if scheme == "BILOU" else prefix, of or NO_TYPE))
    return np.array([prefix for prefix, _ in parsed]), np.array([of for _, of in parsed])


def _check_reachable(names: Sequence[str], scheme: str, allowed: AllowedTransitions) -> None:
    """Raise ValueError if a tag is in no allowed sequence."""
    after, before = allowed.start, allowed.end  # tags that a start leads to, and tags that lead to an end
    for _ in names:
        after = after | (after[:, None] & allowed.transitions).any(axis=0)
        before = before | (before[None] & allowed.transitions).any(axis=1)
    dead = np.flatnonzero(~(after & before))
    if len(dead):
        name = names[int(dead[0])]
        raise ValueError(
            f"names[{dead[0]}] is {name!r}, but no sequence of these names that {scheme} allows contains it: {scheme} "
            f"starts and ends the spans of a type with other tags, which are not among the names {list(names)}. Add "
            "them, or choose the scheme that the names follow."
        )
