"""Checks of arrays of numbers that a model reads, one of a fixed shape for each row."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, known_value, require_shape
from kseq.ids import Rows
from kseq.masking import known_shape

LARGEST = float(np.finfo("float32").max)


def read_arrays(values: Any, shape: tuple[int, ...]) -> Rows:
    """Return arrays `(batch, *shape)` as float32, with zeros in rows that have NaN or infinity.

    Raises:
        ValueError: If shape or dtype is wrong; outside compiled graphs also if a value is NaN or infinite.
    """
    known = None if isinstance(values, keras.KerasTensor) else known_value(values)
    if known is not None:
        check_arrays(known, shape)
        return Rows(ops.convert_to_tensor(known.astype("float32")), None, None)
    dtype = keras.backend.standardize_dtype(values.dtype)
    if not dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
        raise ValueError(f"The values of source have dtype {dtype}, but they must be numbers.")
    values = ops.cast(with_shape(values, shape, "source"), "float32")
    finite = ops.isfinite(values)
    valid = ops.all(finite, axis=tuple(range(1, len(shape) + 1)))
    return Rows(ops.where(finite, values, 0.0), None, valid)


def with_shape(values: Tensor, shape: tuple[int | None, ...], name: str) -> Tensor:
    """Return `values` with the static shape `(batch, *shape)`, in which None is an axis of any size.

    A graph that does not know the shape of `values` fails when it runs if they have another one: Keras's training step
    knows no sizes any more once it has got batches of two shapes. Its message has both shapes.

    Raises:
        ValueError: If the shape is known and another one.
    """
    static = known_shape(values)
    if static is not None:
        check_shape(static, shape, name)
        if isinstance(values, keras.KerasTensor) or None not in static[1:]:
            return values
    return require_shape(values, (None, *shape), f"{name}_has_another_shape_than_the_model_reads")


def check_arrays(values: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `values` are finite numbers `(batch, *shape)`."""
    if values.dtype.kind not in "iufb" and values.dtype.name != "bfloat16":
        raise ValueError(f"The values of source have dtype {values.dtype}, but they must be numbers.")
    check_shape(values.shape, shape, "source")
    if values.dtype.kind in "iub":
        return
    fits = np.abs(values) <= LARGEST if values.dtype == np.float64 else np.isfinite(values)
    if not fits.all():
        place = tuple(int(axis) for axis in np.argwhere(~fits)[0])
        raise ValueError(
            f"source{list(place)} = {values[place]}, but expected a finite number. Repair the row or drop it."
        )


def stacked(arrays: Sequence[Any], shape: tuple[int, ...]) -> np.ndarray:
    """Return a list of arrays, each of `shape`, as one; raise ValueError if one has another shape."""
    each = [np.asarray(array) for array in arrays]
    for row, array in enumerate(each):
        if array.shape != shape:
            raise ValueError(
                f"source[{row}] has shape {array.shape}, but this model reads arrays of shape {shape}. Resize it."
            )
    return np.stack(each) if each else np.zeros((0, *shape), "float32")


def check_shape(given: Sequence[int | None], shape: tuple[int | None, ...], name: str) -> None:
    """Raise ValueError unless `given` is `(batch, *shape)`; None in either is an axis of any size."""
    fits = len(given) == len(shape) + 1
    if fits and all(size == own or None in (size, own) for size, own in zip(given[1:], shape, strict=True)):
        return
    if None in shape:
        kind = ", ".join("time" if size is None else str(size) for size in ("batch", *shape))
        raise ValueError(f"{name} has shape {tuple(given)}, but this model reads ({kind}) of it.")
    raise ValueError(
        f"{name} has shape {tuple(given)}, but this model reads one array of shape {shape} for each row: "
        f"{('batch', *shape)}. Resize the arrays, or make a model for theirs."
    )
