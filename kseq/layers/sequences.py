"""Checks and conversions of a recurrent layer's sequences: one tensor `(batch, time, ...)`, or any nest of such."""

import functools
from typing import Any

import keras
from keras import ops, tree

from kseq.backend import Tensor
from kseq.masking import align_mask, check_mask, implicit_mask, refuse_ragged, zero_padding


def symbolic_sequences(shapes: Any, dtype: str) -> Any:
    """Return KerasTensors of the given shapes. Sequences without features, `(batch, time)`, are taken to be ids."""
    return tree.map_shape_structure(
        lambda shape: keras.KerasTensor(shape, "int32" if len(shape) == 2 else dtype), shapes
    )


def check_sequences(sequences: Any, owner: str, *, features: bool = False) -> None:
    """Raise if the sequences given to the layer `owner` are ragged, differ in batch or time, or have no steps.

    With `features`, raise also if they have no axis of features.
    """
    first, *others = leaves = tree.flatten(sequences)
    for leaf in leaves:
        refuse_ragged(leaf, owner)
    if len(first.shape) < 2 + features:
        raise ValueError(
            f"A sequence has shape {tuple(first.shape)}, but a recurrent layer takes (batch, time, features). Add the "
            "missing axis: x[:, :, None] for one feature per step, or an Embedding layer for ids."
        )
    if first.shape[1] == 0:
        raise ValueError(
            f"A sequence has shape {tuple(first.shape)}, which has no time steps. Give at least one; a row without any "
            "real step has False at all steps of its mask."
        )
    for other in others:
        if any(a != b and None not in (a, b) for a, b in zip(first.shape[:2], other.shape[:2], strict=True)):
            raise ValueError(
                "All sequences of one call need the same batch and time, but their shapes are "
                f"{[tuple(leaf.shape) for leaf in leaves]}. Pad them to one length."
            )


def check_shape(name: str, tensor: Any, expected: tuple) -> None:
    """Raise if a tensor's static shape contradicts the expected one, in which sizes may be unknown."""
    shape = tuple(tensor.shape)
    fits = len(shape) == len(expected) and all(
        a == b for a, b in zip(shape, expected, strict=True) if isinstance(a, int) and isinstance(b, int)
    )
    if not fits:
        said = ", ".join(str(size) if isinstance(size, int) else "batch" for size in expected)
        raise ValueError(f"{name} has shape {shape}, but the cell and the sequences need ({said}).")


def joint_mask(mask: Any, sequences: Any) -> Tensor | None:
    """Return the mask `(batch, time)` of the steps at which all sequences are real."""
    if mask is None:  # Keras does not pass implicit masks if there are initial states
        mask = tree.map_structure(implicit_mask, sequences)
    if any(isinstance(leaf, bool | int) for leaf in tree.flatten(mask)):  # one mask, given as Python lists
        mask = ops.convert_to_tensor(mask)
    first = tree.flatten(sequences)[0]
    given = [check_mask(m, first) for m in tree.flatten(mask) if m is not None]
    return functools.reduce(ops.logical_and, given) if given else None


def is_float(tensor: Any) -> bool:
    """Return whether the tensor has a float dtype."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def cast_floats(nest: Any, dtype: str) -> Any:
    """Return the nest with its float tensors in the precision `dtype`."""
    return tree.map_structure(lambda x: ops.cast(x, dtype) if is_float(x) else ops.convert_to_tensor(x), nest)


def swap_time(values: Tensor) -> Tensor:
    """Return `(batch, time, ...)` as `(time, batch, ...)`, or the reverse."""
    return ops.transpose(values, (1, 0, *range(2, len(values.shape))))


def hold_outputs(output: Any, mask: Tensor, before: Any, *, zero_output_for_mask: bool, return_sequences: bool) -> Any:
    """Return the output of a run with zeros, or `before`, at steps before a row's first real step.

    Args:
        output: Nest of tensors `(batch, time, ...)`, in the order in which steps ran, or of the last ones
            `(batch, ...)`.
        mask: Bool `(batch, time)`, in the order in which steps ran.
        before: The last output of the previous call, nest of `(batch, ...)`; None for zeros.
        zero_output_for_mask: Whether outputs are zero at all masked steps.
        return_sequences: Whether `output` has all steps.
    """
    answers = mask if zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0
    if not return_sequences:
        answers = answers[:, -1]
    if before is None or zero_output_for_mask:
        return tree.map_structure(lambda x: zero_padding(x, answers), output)

    def choose(values: Tensor, held: Tensor) -> Tensor:
        held = ops.cast(held, values.dtype)
        return ops.where(align_mask(answers, values), values, held[:, None] if return_sequences else held)

    return tree.map_structure(choose, output, before)
