"""The weights of parts of a model."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras

Part = str | keras.layers.Layer


def weights_of_part(model: keras.Model, part: Part) -> list[keras.Variable]:
    """Return the trainable weights of a part of a model.

    Args:
        model: A built model.
        part: A layer; or its place in the model, attributes or names of layers with dots between them, such as
            "encoder" or "decoder.embedding".

    Raises:
        ValueError: If there is no such part, or it has no trainable weights of the model.
    """
    found: Any = model
    for name in part.split(".") if isinstance(part, str) else ():
        inner = _layers_of(found)
        if name not in inner:
            raise ValueError(f"{part!r} is no part of the model: {_described(found)} has no {name!r}, but {[*inner]}.")
        found = inner[name]
    found = found if isinstance(part, str) else part
    if not isinstance(found, keras.layers.Layer):
        raise ValueError(f"{part!r} is a {type(part).__name__}, but a part of a model is a name or a layer.")
    of_model = {id(each) for each in model.trainable_variables}
    weights = [each for each in found.trainable_variables if id(each) in of_model]
    if not weights:
        raise ValueError(
            f"The part {_described(found)} has no trainable weights in the model: it is frozen, has none, or belongs "
            "to another model."
        )
    return weights


def check_parts(parts: Any, name: str) -> None:
    """Raise ValueError unless `parts` are names or layers, at least one."""
    listed = [*parts] if isinstance(parts, Iterable) and not isinstance(parts, str) else []
    if not listed or any(not isinstance(each, str | keras.layers.Layer) for each in listed):
        raise ValueError(f"{name}={parts!r} must name parts of a model, by attributes such as 'encoder', or be layers.")


def by_smallest_part(model: keras.Model, values: Mapping[Part, Any]) -> dict[int, Any]:
    """Return the value of each weight that is in a part, by its `id`: that of the smallest part that contains it.

    Raises:
        ValueError: If two parts share weights and none is inside of the other, or if a part cannot be found.
    """
    weights = {part: {id(each) for each in weights_of_part(model, part)} for part in values}
    ordered = sorted(weights, key=lambda part: len(weights[part]), reverse=True)
    for place, part in enumerate(ordered):
        for larger in ordered[:place]:
            shared = weights[part] & weights[larger]
            if shared and (weights[part] == weights[larger] or not weights[part] < weights[larger]):
                raise ValueError(
                    f"{part!r} and {larger!r} share {len(shared)} weights, and none is a part of the other, so it is "
                    "open which applies to these. Name one of them, or smaller parts."
                )
    return {weight: values[part] for part in ordered for weight in weights[part]}


def _layers_of(layer: Any) -> dict[str, keras.layers.Layer]:
    """Return the layers inside of a layer, by attribute, and by name."""
    named = {each.name: each for each in layer._flatten_layers(include_self=False, recursive=False)}
    own = {name: each for name, each in vars(layer).items() if isinstance(each, keras.layers.Layer) and name[0] != "_"}
    return {**named, **own}


def _described(layer: Any) -> str:
    return f"{layer.name} ({type(layer).__name__})"
