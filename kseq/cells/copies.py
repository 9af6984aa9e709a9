"""Copies of cells through their configurations, and the errors for cells that cannot be copied or saved."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state  # where Keras records shared objects


def check_step(cell: Any, owner: str) -> None:
    """Raise unless `cell` takes one step of a recurrence: a kseq cell, a Keras cell or an object like them.

    Args:
        cell: What was given as a cell.
        owner: Name of the class or layer that was given it.

    Raises:
        ValueError: With what to give instead.
    """
    way_out = "Give a cell, such as kseq.cells.LSTMCell(16)."
    if isinstance(cell, type):
        problem, way_out = f"the class {cell.__name__}", f"Make a cell of it: {cell.__name__}(...)."
    elif hasattr(cell, "return_sequences"):
        inner = getattr(cell, "cell", None)
        problem = f"the layer {type(cell).__name__}, which takes all steps of a sequence"
        way_out = way_out if inner is None else f"Give its cell: kseq.cells.{type(inner).__name__}(...)."
    elif not callable(getattr(cell, "call", None)):
        problem = repr(cell)
    elif not hasattr(cell, "state_size"):
        problem = f"a {type(cell).__name__} without the attribute state_size"
        way_out = (
            "Set state_size in its constructor: the units of its state, or a list of the units of each state tensor."
        )
    else:
        return
    raise ValueError(f"{owner} takes a cell, which computes one step of a recurrence, but got {problem}. {way_out}")


def check_config(cell: Any) -> None:
    """Raise unless a cell of the user's, or one inside this one, can be made again from its `get_config`.

    Raises:
        ValueError: If `get_config` lacks an argument with which the cell was made, or returns one that the constructor
            does not take. Keras would save such a cell and fail to load it, or load another one.
    """
    for layer in _layers(cell):
        if hasattr(layer, "state_size") and not _is_built_in(_owner(type(layer), "from_config"), type(layer)):
            _check_arguments(layer)


def _check_arguments(cell: keras.layers.Layer) -> None:
    name = type(cell).__name__
    parameters = dict(inspect.signature(type(cell).__init__).parameters)
    parameters.pop("self", None)
    try:
        config = cell.get_config()
    except NotImplementedError as error:
        raise ValueError(
            f"{name} cannot be saved or copied. Define get_config(self), which returns the constructor's arguments: "
            "{**super().get_config(), ...}."
        ) from error
    # Keras records the arguments, the defaults too, if all of them are plain numbers, strings or None.
    recorded = getattr(getattr(cell, "_auto_config", None), "config", vars(cell))
    named = {key: p for key, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    lost = [
        key for key, parameter in named.items() if key not in config and _differs(parameter.default, recorded.get(key))
    ]
    if lost:
        raise ValueError(
            f"{name} cannot be saved or copied: its constructor takes {', '.join(lost)}, which get_config does not "
            f"return. Define get_config(self): return {{**super().get_config(), {lost[0]!r}: ...}}."
        )
    unknown = [] if len(named) < len(parameters) else [key for key in config if key not in named]
    if unknown:
        raise ValueError(
            f"{name} cannot be saved or copied: get_config returns {', '.join(unknown)}, which its constructor does "
            "not take. Define __init__(self, ..., **kwargs), and pass kwargs to super().__init__."
        )


def _differs(default: Any, value: Any) -> bool:
    """Return whether an argument has no default, or may have another value; None if it is not known."""
    plain = default is None or isinstance(default, bool | int | float | str)
    return default is inspect.Parameter.empty or (value is not None and plain and value != default)


def _owner(cell_class: type, name: str) -> type:
    """Return the class that defines the attribute `name`."""
    return next(base for base in cell_class.__mro__ if name in vars(base))


def _is_built_in(owner: type, cell_class: type) -> bool:
    """Return whether there is nothing to check: the class is kseq's or Keras's, or makes itself by its own method."""
    return _is_ours(cell_class) or not _is_ours(owner)


def _is_ours(some_class: type) -> bool:
    return some_class.__module__.split(".")[0] in ("kseq", "keras")


def config_of(cell: Any) -> dict[str, Any]:
    """Return the configuration of a cell, without its weights and their shapes.

    Raises:
        ValueError: If it is not a cell, or cannot be made again from its `get_config`.
    """
    check_step(cell, "A recurrent layer")
    check_config(cell)
    with nothing_shared():
        config = keras.saving.serialize_keras_object(cell)
    return {key: value for key, value in config.items() if key != "build_config"}


def copy_of(cell: Any, dtype: Any) -> Any:
    """Return a new cell with the configuration of `cell`, weights of its own, and the dtype policy `dtype`."""
    config = config_of(cell)
    config["config"] = {**config["config"], "dtype": keras.saving.serialize_keras_object(dtype)}
    with classes_known(cell):
        return keras.saving.deserialize_keras_object(config)


def in_precision(layer: Any, policy: Any) -> Any:
    """Return a cell or another part of a layer in the precision of that layer: a copy, or the part itself.

    The part itself is returned if it has the dtype policy `policy`, another one than Keras's default, which was then
    chosen for it, or weights already.
    """
    own = getattr(layer, "dtype_policy", policy)
    if own == policy or own != keras.config.dtype_policy() or layer.built:
        return layer
    check_config(layer)
    with nothing_shared():
        config = keras.saving.serialize_keras_object(layer)
    config.pop("build_config", None)
    config["config"] = {**config["config"], "dtype": keras.saving.serialize_keras_object(policy)}
    with classes_known(layer):
        return keras.saving.deserialize_keras_object(config)


@contextlib.contextmanager
def classes_known(layer: Any) -> Iterator[None]:
    """Let Keras find the classes of a layer and of those in it within this context, registered or not."""
    classes = {keras.saving.get_registered_name(type(each)): type(each) for each in _layers(layer)}
    with keras.saving.custom_object_scope(classes):
        yield


def _layers(layer: Any) -> list:
    """Return a layer and all layers in it; of another object itself."""
    return list(layer._flatten_layers()) if isinstance(layer, keras.layers.Layer) else [layer]


@contextlib.contextmanager
def nothing_shared() -> Iterator[None]:
    """Make Keras create a new object from every configuration within this context.

    While a model is saved or loaded, Keras gives an identifier to each object that it serialises twice, and creates one
    object for all configurations with the same identifier. The identifier is a memory address, which a new cell may
    have after a deleted one: unrelated layers would then share weights.
    """
    names = ("shared_objects/id_to_obj_map", "shared_objects/id_to_config_map")
    seen = {name: global_state.get_global_attribute(name) for name in names}
    for name in names:
        global_state.set_global_attribute(name, None)
    try:
        yield
    finally:
        for name, value in seen.items():
            global_state.set_global_attribute(name, value)
