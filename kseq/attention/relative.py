"""Scores of relative positions (Shaw et al. 2018)."""

from keras import ops

from kseq.backend import Tensor


def relative_scores(query: Tensor, table: Tensor, time: int | Tensor) -> Tensor:
    """Return the scores of the distance between each query and each key, `(batch, heads, time, time)`.

    The score of query i and key j is `q_i . a_d`, where d = j - i is limited to the distances in the table.

    Args:
        query: `(batch, heads, time, dim)`, the queries at all positions.
        table: `(2 * max_distance + 1, dim)`, the vector of each distance, from the farthest past on.
        time: The number of positions.

    Reference: P. Shaw, J. Uszkoreit, A. Vaswani, "Self-attention with relative position representations", 2018; the
    vectors that it adds to the keys. It adds others to the values, which made no difference in its results.
    """
    batch, heads = ops.shape(query)[:2]
    if isinstance(time, int) and time == 0:
        return ops.zeros((batch, heads, 0, 0), dtype=query.dtype)
    distances = ops.arange(1 - time, time, dtype="int32")
    vectors = ops.take(table, places_of(distances, table), axis=0)  # (2 time - 1, dim)
    scores = ops.matmul(query, ops.transpose(vectors))  # (batch, heads, time, 2 time - 1), by distance
    # One more column moves each query's scores one place on from the last one's, to the distance of its first key.
    wide = ops.reshape(ops.pad(scores, [(0, 0), (0, 0), (0, 0), (0, 1)]), (batch, heads, time * 2 * time))
    by_key = ops.reshape(wide[:, :, time - 1 : time - 1 + time * (2 * time - 1)], (batch, heads, time, 2 * time - 1))
    return by_key[..., :time]


def places_of(distances: Tensor, table: Tensor) -> Tensor:
    """Return the rows of distances in a table of relative positions."""
    most = table.shape[0] // 2
    return ops.clip(distances, -most, most) + most
