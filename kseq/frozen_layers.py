"""Layers inside a layer that is made with `trainable=False`."""

from typing import Any


def freeze_inner_layers(layer: Any) -> None:
    """Freeze the layers in a layer made with `trainable=False`; Keras's constructor freezes only its own weights."""
    if not layer.trainable:
        for inner in layer._flatten_layers(include_self=False):
            inner.trainable = False
