"""Checks of constructor arguments that cells, attention mechanisms and layers share."""

import numbers
from typing import Any


def positive_int(owner: Any, name: str, value: Any) -> int:
    """Return `value` as an int, or raise if it is not a positive integer. NumPy's integers are taken too.

    Args:
        owner: The object whose argument it is, named in the error.
        name: Name of the argument.
        value: The argument.

    Raises:
        ValueError: If it is not a positive integer.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name}={value!r}, but {type(owner).__name__} needs a positive int.")
    return int(value)


def plain_seed(value: Any) -> Any:
    """Return an integer seed as an int, which Keras requires, and anything else unchanged."""
    return int(value) if isinstance(value, numbers.Integral) else value


def freeze_inner_layers(layer: Any) -> None:
    """Freeze the layers in a layer made with `trainable=False`; Keras's constructor freezes only its own weights."""
    if not layer.trainable:
        for inner in layer._flatten_layers(include_self=False):
            inner.trainable = False


def share(owner: Any, name: str, value: Any) -> float:
    """Return `value` as a float, or raise if it is not at least 0 and below 1: the share of units that is dropped.

    Args:
        owner: The object whose argument it is, named in the error.
        name: Name of the argument.
        value: The argument.

    Raises:
        ValueError: If it is not such a number. Keras takes any number, and then drops none or all.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0.0 <= float(value) < 1.0:
        raise ValueError(
            f"{name}={value!r}, but for {type(owner).__name__} it is the share of units to drop: a number of at least "
            "0 and below 1."
        )
    return float(value)
