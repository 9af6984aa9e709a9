"""Checks of what front ends are given."""

from collections.abc import Sequence
from typing import Any

import keras

from kseq.backend import Tensor

MIX_DOWN = "Mix its channels to one, such as by signal.mean(axis=-1, keepdims=True), or give each as a row of its own."


def check_input(layer: keras.layers.Layer, values: Tensor, lengths: Tensor) -> None:
    """Raise ValueError unless `values` are `(batch, time, features)` and `lengths` whole numbers `(batch,)`."""
    check_shape(layer, values.shape)
    dtype = keras.backend.standardize_dtype(lengths.dtype)
    if "int" not in dtype or len(lengths.shape) != 1:
        raise ValueError(
            f"The lengths given to {layer.name} must be whole numbers (batch,), the real frames of each row, but are "
            f"{dtype} of shape {tuple(lengths.shape)}."
        )


def check_shape(layer: keras.layers.Layer, shape: Sequence) -> None:
    """Raise ValueError unless a shape is that of `(batch, time, features)`."""
    if len(shape) != 3:
        raise ValueError(
            f"{layer.name} takes values of shape (batch, time, features), but got shape {tuple(shape)}. Add an axis: "
            "values[..., None] for one feature, values[None] for one row."
        )


def check_signal_shape(layer: keras.layers.Layer, shape: Sequence) -> None:
    """Raise ValueError unless a shape is that of a signal with one channel, `(batch, samples[, 1])`."""
    if len(shape) not in (2, 3):
        raise ValueError(
            f"{layer.name} takes a signal of shape (batch, samples) or (batch, samples, 1), but got shape "
            f"{tuple(shape)}. For one signal alone give signal[None]."
        )
    if len(shape) == 3 and shape[2] != 1:
        raise ValueError(
            f"{layer.name} takes a signal of one channel, (batch, samples) or (batch, samples, 1), but got shape "
            f"{tuple(shape)}, which is {shape[2]} channels. {MIX_DOWN}"
        )


def check_front_ends(layers: Sequence[Any]) -> None:
    """Raise TypeError unless each of `layers` is a front end."""
    for layer in layers:
        if isinstance(layer, type) or not (hasattr(layer, "frames") and hasattr(layer, "subsampling")):
            name = layer.__name__ if isinstance(layer, type) else type(layer).__name__
            raise TypeError(
                f"A front end has the methods call(values, lengths), frames(lengths) and the property subsampling, but "
                f"{name} has not. Give objects such as kseq.frontends.FrameStacking(3); other layers belong into the "
                "encoder."
            )
