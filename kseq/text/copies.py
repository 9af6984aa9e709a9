"""Copies and pickles of objects that hold tables of the graph, made from their configuration."""

from collections.abc import Iterable
from typing import Any

import keras


def rebuilt(cls: type, config: dict[str, Any], custom_objects: dict[str, Any]) -> Any:
    """Return `cls.from_config(config)`, in whose parts Keras finds the `custom_objects`, by their registered names."""
    with keras.saving.custom_object_scope(custom_objects):
        return cls.from_config(config)


def custom_objects(parts: Iterable[Any]) -> dict[str, Any]:
    """Return the classes and functions of `parts` by the names under which Keras saves them.

    Pickled beside the configuration, they are there in a process that has not registered them.
    """
    found = (part if hasattr(part, "__name__") else type(part) for part in parts if part is not None)
    return {keras.saving.get_registered_name(each): each for each in found}
