"""Positions of the steps of a call, counted from an offset."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.masking import refuse_ragged
from kseq.numbers import whole


def check_offset(owner: str, offset: Any) -> Any:
    """Return an offset as an int, or as an int32 tensor `()` or `(batch,)`.

    Raises:
        ValueError: If it is none of these, or a negative int.
    """
    if not hasattr(offset, "shape"):
        offset = whole("offset", offset)
        if offset < 0:
            raise ValueError(f"{owner} counts positions from 0, but got offset={offset}.")
        return offset
    dtype = keras.backend.standardize_dtype(offset.dtype)
    if "int" not in dtype or len(offset.shape) > 1:
        raise ValueError(
            f"{owner} takes an int offset or an int tensor of shape () or (batch,), but got {dtype} of shape "
            f"{tuple(offset.shape)}."
        )
    return ops.cast(offset, "int32")


def positions_of(values: Tensor, offset: Any) -> Tensor:
    """Return the positions of the steps, int32 `(time,)`, or `(batch, time)` for an offset of each row.

    Args:
        values: `(batch, time, dim)`.
        offset: A checked offset.
    """
    steps = ops.arange(ops.shape(values)[1], dtype="int32")
    return steps + (offset[:, None] if len(getattr(offset, "shape", ())) == 1 else offset)


def check_values(owner: str, values: Tensor) -> None:
    """Raise ValueError unless values are dense, of shape `(batch, dim)` or `(batch, time, dim)` with a static dim."""
    refuse_ragged(values, owner)
    if len(values.shape) not in (2, 3) or values.shape[-1] is None:
        raise ValueError(
            f"{owner} needs values of shape (batch, time, dim), or (batch, dim) for one step, with a static dim, but "
            f"got {tuple(values.shape)}."
        )
