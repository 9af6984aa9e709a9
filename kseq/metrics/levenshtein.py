"""Levenshtein distance between two batches of sequences, in compilable operations."""

from typing import NamedTuple

from keras import ops

from kseq.backend import Tensor, scan

EDIT = 2**15  # cost of an edit; an insertion or deletion costs 1 more, so that among equals the fewest are counted
LONGEST = EDIT - 1  # largest sum of both lengths whose costs stay within int32
UNREACHED = 2**30  # cost of a cell that no path reaches


class EditCounts(NamedTuple):
    """Numbers of edits that turn each reference into its hypothesis, fewest in total; int32 `(batch,)` each.

    Among sequences of equally few edits, one with the fewest insertions and deletions is counted.

    Attributes:
        insertions: Tokens added to the reference.
        deletions: Tokens removed from the reference.
        substitutions: Tokens of the reference replaced by others.
    """

    insertions: Tensor
    deletions: Tensor
    substitutions: Tensor


def edit_counts(
    references: Tensor, hypotheses: Tensor, reference_lengths: Tensor, hypothesis_lengths: Tensor
) -> EditCounts:
    """Count the edits between references and hypotheses.

    Each step of the loop computes one anti-diagonal of the edit table.

    Args:
        references: int32 `(batch, n)`, or `(batch, n, parts)` if a token consists of several numbers.
        hypotheses: int32 `(batch, m)` or `(batch, m, parts)`.
        reference_lengths: int32 `(batch,)`; tokens beyond the length are ignored.
        hypothesis_lengths: int32 `(batch,)`.

    Raises:
        ValueError: If n + m is statically known and above 32,767.

    Reference: V. Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966.
    """
    n, m = references.shape[1], hypotheses.shape[1]
    if n is not None and m is not None and n + m > LONGEST:
        raise ValueError(
            f"References of {n} and hypotheses of {m} tokens have {n + m} together, but at most {LONGEST} can be "
            "compared. Compare them in parts."
        )
    references, hypotheses = _with_parts(references), _with_parts(hypotheses)
    references = ops.pad(references, ((0, 0), (0, 1), (0, 0)))  # at least one column
    batch, columns = ops.shape(references)[0], ops.shape(references)[1] + 1
    # At step d, token d - 2 of the hypotheses faces the first token of the references; outside the range it is 0.
    arriving = ops.concatenate([ops.zeros_like(references[:, :1]), hypotheses, ops.zeros_like(references)], axis=1)
    start = ops.where(ops.arange(columns) == 0, 0, UNREACHED)
    start = ops.broadcast_to(ops.cast(start, "int32"), (batch, columns))
    target = ops.cast(reference_lengths, "int32") + ops.cast(hypothesis_lengths, "int32")  # (batch,)

    def diagonal(carry: tuple, token: Tensor) -> tuple[tuple, tuple]:
        count, before, last, facing, found = carry
        facing = ops.concatenate([token[:, None], facing[:, :-1]], axis=1)  # (batch, columns - 1, parts)
        differs = ops.cast(ops.any(facing != references, axis=-1), "int32")
        moved = ops.minimum(last[:, :-1] + EDIT + 1, before[:, :-1] + EDIT * differs)
        new = ops.minimum(last + EDIT + 1, ops.pad(moved, ((0, 0), (1, 0)), constant_values=UNREACHED))
        new = ops.minimum(new, UNREACHED)
        count = count + 1
        return (count, last, new, facing, ops.where((count == target)[:, None], new, found)), ()

    unreached = ops.full_like(start, UNREACHED)
    carry = (ops.zeros((), dtype="int32"), unreached, start, ops.zeros_like(references), start)
    (*_, found), _ = scan(diagonal, carry, ops.transpose(arriving, (1, 0, 2)), fetch_ahead=True)
    at_end = ops.arange(columns, dtype="int32") == ops.cast(reference_lengths, "int32")[:, None]
    cost = ops.sum(ops.where(at_end, found, 0), axis=1)  # (batch,)
    edits, moves = cost // EDIT, cost % EDIT
    longer = ops.cast(hypothesis_lengths, "int32") - ops.cast(reference_lengths, "int32")
    return EditCounts((moves + longer) // 2, (moves - longer) // 2, edits - moves)


def _with_parts(tokens: Tensor) -> Tensor:
    tokens = ops.cast(tokens, "int32")
    return tokens[..., None] if len(tokens.shape) == 2 else tokens
