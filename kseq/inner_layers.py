"""Options of a layer that apply to the layers in it: `trainable` and the precision."""

from typing import Any


def freeze_inner_layers(layer: Any) -> None:
    """Freeze the layers in a layer made with `trainable=False`; Keras's constructor freezes only its own weights.

    Every constructor that makes or takes layers calls it, after the last of them.
    """
    if not layer.trainable:
        for inner in layer._flatten_layers(include_self=False):
            inner.trainable = False


def hand_down_precision(inner: Any, outer: Any) -> None:
    """Set the precision of a layer and of the layers in it to that of the outer layer.

    Raises:
        ValueError: If a layer already has weights of another precision.
    """
    for layer in inner._flatten_layers():
        if layer.dtype_policy != outer.dtype_policy:
            if layer.weights:
                raise ValueError(
                    f"{type(outer).__name__} computes in {outer.dtype_policy.name}, but the weights of "
                    f"{layer.name} were created in {layer.dtype_policy.name}. Give both the same dtype."
                )
            layer.dtype_policy = outer.dtype_policy
