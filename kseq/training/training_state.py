"""The state of a training between two steps, in one file that is replaced as a whole."""

import json
import pathlib
import re
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.random.seed_generator import global_seed_generator  # no public API

from kseq import backend
from kseq.whole_files import write_whole

ABOUT = "about"  # name of the entry that is no array


def variables_of(model: Any) -> dict[str, list[Any]]:
    """Return all variables that a step of training reads or writes, by what they are.

    Those of the "model" are weights, carried states and the seeds of its layers.
    """
    seed = global_seed_generator().state  # of functions of keras.random without a seed
    every = [*model.variables, *model.optimizer.variables, seed]
    unique = list({id(variable): variable for variable in every}.values())
    return {"variables": unique, "metrics": list(model.metrics_variables)}


def description_of(model: Any) -> dict[str, Any]:
    """Return what two models that can have the same state have in common."""
    variables = [[_plain(v.path), list(v.shape), v.dtype] for v in variables_of(model)["variables"]]
    configs = {}
    for name, part in (("model", model), ("optimizer", model.optimizer)):
        try:
            written = json.dumps(keras.saving.serialize_keras_object(part.get_config()), sort_keys=True)
        except Exception:  # a user's model without a config, or with one that JSON does not hold
            continue
        configs[name] = re.sub(r'"name": "[^"]*"', "", written)
    return {"variables": variables, **configs}


def save_state(path: pathlib.Path, model: Any, about: dict[str, Any], *, write: bool = True) -> None:
    """Write the values of a model's variables, and `about`, which JSON can hold.

    All processes that train together must call it, as they add up the sums of metrics; those with `write=False` do
    nothing else.

    The file gets its name when it is complete and on the disk; before, the last one stays.

    Raises:
        OSError: If it cannot be written, as on a full disk.
    """
    arrays = {
        f"{name}/{place}": _of_replicas(variable)
        for name, variables in variables_of(model).items()
        for place, variable in enumerate(variables)
    }
    if not write:
        return
    arrays[ABOUT] = np.frombuffer(json.dumps(about).encode(), "uint8")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]


def read_state(path: pathlib.Path) -> tuple[dict[str, list[np.ndarray]], dict[str, Any]] | None:
    """Return the values of variables by what they are, and what was written about them; None if there is no file."""
    if not path.exists():
        return None
    values: dict[str, list[np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as file:
        for entry in file.files:
            if entry != ABOUT:
                values.setdefault(entry.split("/")[0], []).append(file[entry])
        return values, json.loads(file[ABOUT].tobytes())


def restore(model: Any, values: dict[str, list[np.ndarray]], name: str) -> None:
    """Assign the values called `name` to the model's variables.

    Raises:
        ValueError: If there are others.
    """
    variables, of_name = variables_of(model)[name], values.get(name, [])
    replicas = [len(backend.parts_of_replicas(each)) for each in variables]
    shapes = [tuple(each.shape) for each in variables], [each.shape for each in of_name]
    if len(shapes[0]) != len(shapes[1]) or any(
        came not in (own, (count, *own)) for own, came, count in zip(*shapes, replicas, strict=True)
    ):
        raise ValueError(
            f"The state has {name} of shapes {shapes[1]}, but the model has {shapes[0]}. Compile it as before, or give "
            "another directory to begin anew."
        )
    for variable, value in zip(variables, of_name, strict=True):
        parts = backend.parts_of_replicas(variable)
        of_parts = value if value.ndim > len(variable.shape) else [value] * len(parts)
        for part, of_part in zip(parts, of_parts, strict=True):
            part.assign(ops.cast(ops.convert_to_tensor(of_part), variable.dtype))


def _of_replicas(variable: Any) -> np.ndarray:
    """Return a variable's value; where replicas have different ones, all of them, with their number first."""
    parts = [_array(each) for each in backend.parts_of_replicas(variable)]
    return parts[0] if all(np.array_equal(each, parts[0], equal_nan=True) for each in parts) else np.stack(parts)


def _array(variable: Any) -> np.ndarray:
    value = ops.convert_to_tensor(variable)
    if keras.backend.standardize_dtype(value.dtype) in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        value = ops.cast(value, "float32")  # exact, and NumPy's files know no bfloat16
    return ops.convert_to_numpy(value)


def _plain(path: str) -> str:
    """Return a variable's path without the numbers that Keras adds to the names of further layers."""
    return re.sub(r"_\d+(?=/|_|$)", "", path)
