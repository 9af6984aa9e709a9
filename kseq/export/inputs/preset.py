"""The contract of presets for what a model reads."""

import math
from typing import Any, ClassVar

import keras

from kseq.backend import Tensor
from kseq.export.inputs.reader import Reader
from kseq.models.export_contract import Inputs, RowInputs, StepInputs


class InputPreset:
    """What requests to a model contain, and what the model gets.

    Attributes:
        name: Name of the model's input in the export.
    """

    name: ClassVar[str]

    def inputs(self, model: Any, shape: tuple[Any, ...]) -> StepInputs | RowInputs:
        """Return the input of a Keras model whose input has `shape`, the batch included.

        Raises:
            ValueError: If the shape does not fit.
        """
        raise NotImplementedError(f"{type(self).__name__} must define inputs(model, shape).")

    def of_model(self, model: Any) -> "InputPreset":
        """Return the preset with those options that are left to `model`, which may define `serving` itself."""
        return self

    def reader(self, inputs: Inputs) -> Reader:
        """Return the reader that produces `inputs`, of a single name."""
        return Reader(inputs)

    def to_model(self, values: Tensor, inputs: StepInputs | RowInputs) -> Tensor:
        """Return `values`, as the reader produces them, in the layout that a Keras model takes."""
        return values


def mask_value(model: Any) -> float:
    """Return the `mask_value` of a Keras model's first `Masking` layer, which treats such steps as padding; else 0."""
    values = [layer.mask_value for layer in model._flatten_layers() if isinstance(layer, keras.layers.Masking)]
    return float(values[0]) if values and math.isfinite(values[0]) else 0.0


def refuse_shape(preset: str, shape: tuple[Any, ...], expected: str) -> ValueError:
    """Return the error for a model whose input does not fit a preset."""
    return ValueError(
        f"inputs={preset!r} needs a model with inputs {expected}, but this model's input has shape {shape}. Choose "
        "another preset, or give the model a method serving(options)."
    )
