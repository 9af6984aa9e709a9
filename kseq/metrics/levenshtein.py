"""Levenshtein's distance of two batches of sequences, in operations that compile."""

from typing import NamedTuple

from keras import ops

from kseq.backend import Tensor, scan

EDIT = 2**15  # An edit's cost; an insertion or a deletion costs one more, so that of equals the fewest are taken.
LONGEST = EDIT - 1  # The most that both sequences may have together, for costs to stay within int32.
UNREACHED = 2**30


class EditCounts(NamedTuple):
    """The fewest edits that make of each reference its hypothesis; int32 `(batch,)` each.

    Where there are several ways, one with the fewest insertions and deletions is counted.

    Attributes:
        insertions: Tokens of the hypothesis that the reference does not have.
        deletions: Tokens of the reference that the hypothesis does not have.
        substitutions: Tokens in place of others.
    """

    insertions: Tensor
    deletions: Tensor
    substitutions: Tensor


def edit_counts(
    references: Tensor, hypotheses: Tensor, reference_lengths: Tensor, hypothesis_lengths: Tensor
) -> EditCounts:
    """Count the edits between references and hypotheses.

    All cells of the table whose places add up to the same, a diagonal, are computed at once.

    Args:
        references: int32 `(batch, n)`, or `(batch, n, parts)` for tokens of several numbers each.
        hypotheses: int32 `(batch, m)` or `(batch, m, parts)`.
        reference_lengths: int32 `(batch,)`; what comes after changes nothing.
        hypothesis_lengths: int32 `(batch,)`.

    Raises:
        ValueError: If n + m is known and above 32,767.

    Reference: V. Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966.
    """
    n, m = references.shape[1], hypotheses.shape[1]
    if n is not None and m is not None and n + m > LONGEST:
        raise ValueError(
            f"References of {n} tokens and hypotheses of {m} have {n + m} together, and at most {LONGEST} can be "
            "compared. Compare them in parts."
        )
    references, hypotheses = _with_parts(references), _with_parts(hypotheses)
    references = ops.pad(references, ((0, 0), (0, 1), (0, 0)))  # one at least
    batch, columns = ops.shape(references)[0], ops.shape(references)[1] + 1
    # At step d the token d - 2 of the hypotheses meets the references' first; before and after there is none.
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
