"""The conversion of Keras models to kseq's recurrent layers."""

from typing import Any

import keras

from kseq.cells.copies import classes_known

LAYERS = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional")
CELLS = {
    "LSTMCell": "LSTMCell",
    "GRUCell": "GRUCell",
    "SimpleRNNCell": "SimpleRNNCell",
    "StackedRNNCells": "StackedCells",
}


def from_keras(model: keras.Model, *, verbose: bool = True) -> keras.Model:
    """Return a copy of a Keras model whose recurrent layers are kseq's, with the same weights, names and results.

    `LSTM`, `GRU`, `SimpleRNN`, `RNN` and `Bidirectional` become the layers of `kseq.layers` with the same names, and
    Keras's cells inside `RNN` those of `kseq.cells`, wherever they are: in nested models, in `Bidirectional` and
    `TimeDistributed`, in `StackedRNNCells`. All other layers are copied. The model that was given does not change.

    The copy is compiled as the model was, with the state of its optimizer, unless the loss or a metric is a function
    that Keras cannot find by its name; then it is not compiled. The states of stateful layers are not copied: the copy
    starts from its initial states. With a `StackedRNNCells`, the final states that `return_state` returns are a flat
    list, in the same order. Keras ignores the implicit mask of the inputs of a layer that is given an `initial_state`;
    kseq's layers use it. From Keras 3.16 on, Keras's recurrent layers lose the mask; kseq's pass it on. There the
    results differ for rows with padding.

    Loading a file with `custom_objects={"LSTM": kseq.layers.LSTM}` does not have this effect: Keras looks up its own
    classes without asking `custom_objects`. Load the model, then convert it.

    Args:
        model: A functional or `Sequential` model.
        verbose: Whether to print a line for each layer that was replaced, and for each recurrent layer of Keras or
            subclass of one that was not, such as `ConvLSTM2D`.

    Returns:
        The new model.

    Raises:
        ValueError: If the model is a subclass with layers in its own code, which cannot be replaced from outside; if
            nested models, or layers with cells, share a layer, which Keras's configurations do not express; or if Keras
            cannot make a part of the model again from its configuration.

    Example:
        >>> model = keras.Sequential([keras.Input((None, 8)), keras.layers.LSTM(16)])
        >>> kseq.layers.from_keras(model).layers
        lstm: keras.layers.LSTM -> kseq.layers.LSTM
        [<LSTM name=lstm, built=True>]
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"from_keras takes a Keras model, but got {model!r}. A layer is replaced in the model's code.")
    lines: list[str] = []
    config = keras.saving.serialize_keras_object(model) if _has_graph(model) else {}
    if not isinstance(config.get("config", {}).get("layers"), list):
        raise ValueError(
            f"from_keras takes a functional or Sequential model, but {type(model).__name__} is a subclass whose layers "
            "its own code makes. Use kseq.layers instead of keras.layers in that code, and copy the weights: "
            "new.set_weights(old.get_weights())."
        )
    config = {key: value for key, value in config.items() if key != "compile_config"}
    config["config"] = _replace(config["config"], "", lines)
    try:
        with classes_known(model):
            new = keras.saving.deserialize_keras_object(config, safe_mode=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{model.name} cannot be copied through its configuration. Register its functions and classes by "
            "keras.saving.register_keras_serializable, and use no lambdas as activations. The reason is: "
            + str(error).splitlines()[-1]
        ) from error
    if model.built and not new.built:
        new.build_from_config(model.get_build_config())
    if len(new.weights) != len(model.weights):
        raise ValueError(
            f"{model.name} has {len(model.weights)} weights, but its copy {len(new.weights)}: a layer or cell is in "
            "two nested models or layers, which Keras's configurations do not express. Make it one of kseq.layers in "
            "your code, and copy the weights: new.set_weights(old.get_weights())."
        )
    new.set_weights(model.get_weights())
    _freeze_alike(new, model)
    lines += _left(new)
    if model.compiled:
        lines += _compile_alike(new, model)
    if verbose:
        print("\n".join(lines) or f"{model.name} has no recurrent layers of Keras.")
    return new


def _has_graph(model: Any) -> bool:
    """Return whether the model's configuration contains its layers."""
    return isinstance(model, keras.Sequential) or hasattr(model, "operations")


def _replace(node: Any, path: str, lines: list[str]) -> Any:
    """Return a part of a configuration in which kseq's classes stand for Keras's, and add a line for each.

    Args:
        node: A dict, list or value of the configuration.
        path: Names of the layers around it, each followed by a slash.
        lines: The lines so far.
    """
    if isinstance(node, list | tuple):
        return type(node)(_replace(each, path, lines) for each in node)
    if not isinstance(node, dict):
        return node
    inner = node.get("config")
    if not ("class_name" in node and isinstance(inner, dict)):
        return {key: _replace(value, path, lines) for key, value in node.items()}
    name = f"{path}{inner.get('name', node['class_name'])}"
    before = len(lines)
    node = {key: _replace(value, f"{name}/", lines) for key, value in node.items()}
    package, new_name = _counterpart(node)
    if new_name is None:
        return node
    lines.insert(before, f"{name}: keras.layers.{node['class_name']} -> {package}.{new_name}")
    kept = {key: value for key, value in node.items() if key != "build_config"}
    return {**kept, "module": package, "class_name": new_name, "registered_name": f"kseq>{new_name}"}


def _counterpart(node: dict[str, Any]) -> tuple[str, str | None]:
    """Return the package and the name of kseq's class for a configuration, or None if Keras's class stays."""
    name, inner = node["class_name"], node["config"]
    if node.get("module") != "keras.layers":
        return "", None
    if name == "Bidirectional" and not _is_kseq(inner.get("layer")):
        return "", None  # around a layer of another kind
    if name == "StackedRNNCells" and not all(_is_kseq(cell) for cell in inner["cells"]):
        return "", None  # with a cell of the user's
    if name in LAYERS:
        return "kseq.layers", name
    return "kseq.cells", CELLS.get(name)


def _is_kseq(node: Any) -> bool:
    return isinstance(node, dict) and str(node.get("registered_name")).startswith("kseq>")


def _freeze_alike(new: Any, model: Any) -> None:
    """Freeze what is frozen in the old model; configurations lack it for models, and for cells in layers like LSTM."""
    for own, layer in [(new, model), *((new.get_layer(layer.name), layer) for layer in model.layers)]:
        if own.trainable != layer.trainable:  # setting it sets that of all layers inside
            own.trainable = layer.trainable
        if layer is not model and _has_graph(layer):
            _freeze_alike(own, layer)
    for old, weight in zip(model.weights, new.weights, strict=True):
        weight.trainable = old.trainable


def _left(model: keras.Model) -> list[str]:
    """Return a line for each recurrent layer in the model that is not kseq's."""
    kinds = (keras.layers.RNN, keras.layers.Bidirectional)
    left = [layer for layer in model._flatten_layers() if isinstance(layer, kinds)]
    left = [layer for layer in left if not any(base.__module__.startswith("kseq.") for base in type(layer).__mro__)]
    return [f"{layer.path}: {type(layer).__name__} stays, {_why_it_stays(layer)}" for layer in left]


def _why_it_stays(layer: keras.layers.Layer) -> str:
    if not type(layer).__module__.startswith("keras."):
        return "because it is a subclass of Keras's: make it a subclass of kseq's"
    if type(layer).__name__ in LAYERS:
        return "because a layer of yours makes it, or it contains one of yours: use kseq.layers there"
    return "because kseq.layers has no layer of this name"


def _compile_alike(new: keras.Model, model: keras.Model) -> list[str]:
    """Compile the new model as the old one, with its optimizer's state; return a line with the reason if that fails."""
    try:
        new.compile_from_config(model.get_compile_config())
    except (TypeError, ValueError) as error:
        return [f"{new.name} is not compiled: {str(error).splitlines()[0]}"]
    variables = [] if model.optimizer is None else model.optimizer.variables
    if len(variables) == len(new.optimizer.variables):
        for old, own in zip(variables, new.optimizer.variables, strict=True):
            own.assign(old)
    return []
