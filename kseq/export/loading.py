"""Exported models as Python functions."""

import contextlib
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from kseq.export.saved_model_file import read_defaults


class ServedModel:
    """An exported model as a Python function: `model(text=[...])`.

    Args:
        folder: The version's folder.
        signature_name: Name of the signature to call.

    Call arguments:
        **inputs: The signature's inputs by name, array-likes. Lengths may be left out if all rows have the full length.

    Returns:
        The signature's outputs, a dict of NumPy arrays; strings are `str`.

    Raises:
        TypeError: If an input has no name.
        ValueError: If there is no such signature, or the names, shapes or dtypes of the inputs are not the signature's.
    """

    def __init__(self, folder: pathlib.Path, signature_name: str):
        self.folder = folder
        self._loaded = tf.saved_model.load(os.fspath(folder))
        if signature_name not in self._loaded.signatures:
            raise ValueError(
                f"{folder} has no signature {signature_name!r}; it has {sorted(self._loaded.signatures)}. "
                "Choose one by signature_name."
            )
        self._function = self._loaded.signatures[signature_name]
        self._specs: dict[str, tf.TensorSpec] = self._function.structured_input_signature[1]
        self._defaults = read_defaults(folder, signature_name)

    def __repr__(self) -> str:
        """Return the folder, the inputs and the outputs."""
        outputs = _described(self._function.structured_outputs)
        return f"ServedModel({os.fspath(self.folder)!r}, inputs: {_described(self._specs)}; outputs: {outputs})"

    def __call__(self, *unnamed: Any, **inputs: Any) -> dict[str, np.ndarray]:
        """Run the signature."""
        if unnamed:
            raise TypeError(
                f"{len(unnamed)} inputs have no name. Give each by name: the signature takes {_described(self._specs)}."
            )
        inputs = {**self._defaults, **inputs}
        if set(inputs) != set(self._specs):
            raise ValueError(f"Inputs are {sorted(inputs)}, but the signature takes {_described(self._specs)}.")
        outputs = self._function(**{name: self._tensor(name, value) for name, value in inputs.items()})
        return {name: _decoded(value.numpy()) for name, value in outputs.items()}

    def _tensor(self, name: str, value: Any) -> tf.Tensor:
        """Return the input `name` as a tensor; raise ValueError if its shape or dtype does not fit."""
        spec, expected = self._specs[name], f"but the signature takes {_described(self._specs)}."
        try:
            tensor = tf.constant(value, spec.dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} is no array of {spec.dtype.name}, {expected} {error}") from error
        if name in self._defaults and tf.size(tensor) == 0:
            return tensor  # no lengths: all rows have the full length
        if not spec.shape.is_compatible_with(tensor.shape):
            hint = f" Give a list of rows: {name}=[...]." if tensor.shape.rank == spec.shape.rank - 1 else ""
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, {expected}{hint}")
        return tensor


def _described(specs: dict[str, Any]) -> str:
    """Return the names, dtypes and shapes of tensors as text, such as "text string (None,)"."""
    return ", ".join(f"{name} {spec.dtype.name} {tuple(spec.shape)}" for name, spec in sorted(specs.items()))


def load_saved_model(path: str | os.PathLike[str], *, signature_name: str = "serving_default") -> ServedModel:
    """Load a model that `export_saved_model` wrote.

    Args:
        path: A version's folder, or the model's base folder for its highest version.
        signature_name: "serving_default" or "serving_xla".

    Returns:
        The signature as a function.

    Raises:
        FileNotFoundError: If there is no SavedModel in `path`.
        ValueError: If the model has no such signature.

    Example:
        >>> kseq.load_saved_model("build/models/dates")(text=["3 mai 1979"])["text"]
        array([['1979-05-03', ...]], dtype=object)
    """
    _register_text_operations()
    folder = pathlib.Path(path)
    versions = sorted(int(entry.name) for entry in folder.glob("[0-9]*") if entry.name.isdecimal())
    if versions and not (folder / "saved_model.pb").exists():
        folder = folder / str(versions[-1])
    if not (folder / "saved_model.pb").exists():
        raise FileNotFoundError(
            f"There is no SavedModel in {folder}: expected {folder}/saved_model.pb, or folders named by versions. "
            "kseq.export_saved_model writes one."
        )
    return ServedModel(folder, signature_name)


def _register_text_operations() -> None:
    """Register tensorflow-text's operations, if it is installed: a model with tokenizers needs them."""
    with contextlib.suppress(ImportError):
        import tensorflow_text  # noqa: F401


def _decoded(value: np.ndarray) -> np.ndarray:
    if value.dtype != object:
        return value
    return np.vectorize(lambda text: text.decode("utf-8", "replace"), otypes=[object])(value)
