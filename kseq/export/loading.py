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
        ValueError: If there is no such signature, or the names of the inputs are not the signature's.
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

    def __call__(self, **inputs: Any) -> dict[str, np.ndarray]:
        """Run the signature."""
        inputs = {**self._defaults, **inputs}
        if set(inputs) != set(self._specs):
            raise ValueError(f"Inputs are {sorted(inputs)}, but the signature takes {sorted(self._specs)}.")
        outputs = self._function(**{name: tf.constant(inputs[name], spec.dtype) for name, spec in self._specs.items()})
        return {name: _decoded(value.numpy()) for name, value in outputs.items()}


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
