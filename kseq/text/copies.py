"""Copies, pickles and digests of objects that hold tables of the graph, made from their configuration."""

import hashlib
import json
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


def digest(cls: type, config: dict[str, Any]) -> str:
    """Return 16 hexadecimal digits that differ between objects of other classes or configurations.

    Names of modules do not count, because classes may move.
    """
    content = [keras.saving.get_registered_name(cls), _without_modules(config)]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _without_modules(config: Any) -> Any:
    if isinstance(config, dict):
        return {name: _without_modules(value) for name, value in config.items() if name != "module"}
    return [_without_modules(value) for value in config] if isinstance(config, list | tuple) else config
