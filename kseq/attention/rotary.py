"""Rotary position embeddings (Su et al. 2021)."""

from keras import ops

from kseq.backend import Tensor

BASE = 10_000.0  # the longest wave has 2 pi times as many steps


def rotate(values: Tensor, positions: Tensor) -> Tensor:
    """Return queries or keys rotated by their positions, so that their products depend on differences of positions.

    The pair of dimensions i and i + dim / 2 is rotated by the angle `position * 10000 ** (-2 i / dim)`. (The paper
    pairs adjacent dimensions, which is the same up to the order of the dimensions.)

    Args:
        values: `(batch, heads, time, dim)`, of an even dim.
        positions: int `(time,)`, or `(1,)` if all steps have one position.

    Reference: J. Su et al., "RoFormer: enhanced Transformer with rotary position embedding", 2021.
    """
    half = values.shape[-1] // 2
    frequencies = BASE ** (-ops.arange(half, dtype="float32") / half)
    angles = ops.cast(positions, "float32")[:, None] * frequencies  # (time, dim / 2)
    cos, sin = (ops.cast(wave(angles), values.dtype) for wave in (ops.cos, ops.sin))
    first, second = values[..., :half], values[..., half:]
    return ops.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
