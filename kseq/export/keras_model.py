"""The export of Keras models that define no `serving`: presets for what they read and answer."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kseq.backend import Tensor
from kseq.export.answers.preset import AnswerPreset, Outputs
from kseq.export.inputs.preset import InputPreset
from kseq.masking import implicit_mask, mask_from_lengths, set_implicit_mask
from kseq.models.export_contract import RowInputs, Serving, ServingOptions, StepInputs, check_tokenizers

LENGTHS = "lengths"


class KerasModel:
    """A Keras model with one input, and perhaps another one named `lengths`.

    Args:
        model: The model.
        preset: What it reads.

    Raises:
        ValueError: If the model has other inputs, its input's shape is not known, or does not fit the preset.
    """

    def __init__(self, model: keras.Model, preset: InputPreset):
        self.model, self.preset = model, preset
        self.shape: Any = None
        self.shape, self.takes_lengths = _input_shape(model)
        self.inputs = preset.inputs(model, self.shape)
        self.takes_mask = True
        self.probabilities = _ends_in_probabilities(model)
        if self.takes_lengths and isinstance(self.inputs, RowInputs):
            raise ValueError(f"The model has an input named {LENGTHS!r}, but its other input is no sequence.")

    @property
    def steps(self) -> int | None:
        """The model's fixed number of steps, or None."""
        return self.shape[1] if isinstance(self.inputs, StepInputs) and len(self.shape) < 4 else None

    def __call__(self, values: Tensor, lengths: Tensor | None) -> Outputs:
        """Return the model's output.

        Args:
            values: The input as the preset's reader produces it, `(batch, time, ...)`.
            lengths: int `(batch,)`; None if the input is no sequence.
        """
        time, mask = ops.shape(values)[1], None
        values = self.preset.to_model(values, self.inputs)
        if lengths is not None:
            mask = mask_from_lengths(lengths, time)
        outputs = self._call(values, lengths, mask)
        return Outputs(outputs, self._mask_of(outputs, lengths, time), self.probabilities)

    def _call(self, values: Tensor, lengths: Tensor | None, mask: Tensor | None) -> Any:
        if self.takes_lengths:
            lengths = ops.cast(lengths, "int32")
            return self.model(_with_lengths(self.model, values, lengths), training=False)
        # Columns of images are no steps of the model's own input: a mask over them would not fit its axes.
        if mask is None or len(self.shape) > 3 or not self.takes_mask:
            return self.model(values, training=False)
        set_implicit_mask(values, mask)
        with warnings.catch_warnings():
            # Keras warns of each layer that does not use masks, whether or not that matters; see `_check_masks`.
            warnings.filterwarnings("ignore", ".*was passed an input with a mask attached", UserWarning)
            return self.model(values, training=False)

    def _mask_of(self, outputs: Any, lengths: Tensor | None, time: Any) -> Tensor | None:
        """Return the mask of the output's steps: its own, or that of the same share of its steps as of the input's."""
        if isinstance(outputs, dict | list | tuple) or len(outputs.shape) < 3:
            return None
        steps, mask = ops.shape(outputs)[1], implicit_mask(outputs)
        if mask is not None and len(mask.shape) == 2 and (mask.shape[1] == outputs.shape[1]):
            return mask
        if lengths is None:
            return ops.ones(ops.shape(outputs)[:2], "bool")
        in_share = -(-ops.cast(lengths, "int32") * steps // ops.maximum(time, 1))  # rounded up
        return mask_from_lengths(in_share, steps)


def serving_of_keras_model(
    model: keras.Model, preset: InputPreset, answers: AnswerPreset, options: ServingOptions, buckets: Sequence[int]
) -> tuple[Serving, Sequence[int]]:
    """Return the `Serving` of a Keras model, and the buckets: the model's number of steps if that is fixed.

    Raises:
        ValueError: If a preset or an option does not fit the model.
    """
    options.refuse(type(model).__name__, "max_length", "seed_input", "alignments")
    called = KerasModel(model, preset)
    check_tokenizers({preset.name: called.inputs}, options.source)
    name, inputs = preset.name, called.inputs
    if called.steps is not None:
        buckets = (called.steps,)
    shape = _check_masks(called, buckets)
    answers.check(options, shape)

    def answer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return answers.answer(called(tensors[name], tensors.get(LENGTHS)), options)

    return Serving({name: inputs}, answer, padding=answers.padding, named=answers.named), buckets


def _check_masks(called: KerasModel, buckets: Sequence[int]) -> Any:
    """Run the model once; warn if padding changes its answers. Return the shape of its output."""
    inputs, longest = called.inputs, buckets[-1]
    if isinstance(inputs, RowInputs):
        row = np.zeros([1, *inputs.shape], inputs.dtype)
        return _shape_of(called(ops.convert_to_tensor(row), None).values)
    length = max(1, longest - max(1, longest // 4)) if called.steps is None else longest
    row = _random_row(inputs, longest)
    try:
        padded = called(_cut(row, longest, length, inputs), np.array([length], "int32"))
    except (ValueError, TypeError, tf.errors.OpError):
        # Some layers pass their input's mask on although they change the number of steps.
        called.takes_mask = False
        padded = called(_cut(row, longest, length, inputs), np.array([length], "int32"))
    shape = _shape_of(padded.values)
    if called.steps is not None or length == longest:
        return shape
    alone = called(_cut(row, length, length, inputs), np.array([length], "int32"))
    difference = _difference(alone, padded)
    if difference > 1e-3:
        warnings.warn(
            f"Padding changes the answers of this {type(called.model).__name__}: the outputs of a row differ by up to "
            f"{difference:.2g} when it is padded from {length} to {longest} steps. A layer does not use masks, such as "
            "Flatten or Conv1D, or loses them, such as Embedding without mask_zero=True. Use layers that do, such as "
            "those of kseq.layers and kseq.frontends, or fix the number of steps in the model's Input and train with "
            "padding to it.",
            stacklevel=4,
        )
    return shape


def _random_row(inputs: StepInputs, longest: int) -> np.ndarray:
    random = np.random.default_rng(0)
    shape = [1, longest, *(1 if axis is None else axis for axis in inputs.step_shape)]
    if inputs.dtype.startswith("int"):
        return random.integers(min(1, (inputs.vocabulary_size or 2) - 1), inputs.vocabulary_size or 2, shape)
    return random.uniform(0.1, 1.0, shape)


def _cut(row: np.ndarray, width: int, length: int, inputs: StepInputs) -> Tensor:
    row = row[:, :width].astype(inputs.dtype)
    row[:, length:] = inputs.pad_value
    return ops.convert_to_tensor(row)


def _difference(alone: Outputs, padded: Outputs) -> float:
    """Return the largest difference of the real parts of two outputs for the same row."""
    worst = 0.0
    for one, other in zip(keras.tree.flatten(alone.values), keras.tree.flatten(padded.values), strict=True):
        one, other = (np.asarray(ops.convert_to_numpy(value), "float64") for value in (one, other))
        if one.ndim > 2 and one.shape[1] <= other.shape[1]:
            steps = one.shape[1]
            if alone.mask is not None:
                steps = min(steps, int(np.sum(ops.convert_to_numpy(alone.mask))))
            one, other = one[:, :steps], other[:, :steps]
        if one.shape != other.shape:
            return math.inf
        worst = max(worst, float(np.max(np.abs(one - other), initial=0.0)))
    return worst


def _shape_of(outputs: Any) -> Any:
    return (
        keras.tree.map_structure(lambda value: (None, *value.shape[1:]), outputs)
        if not hasattr(outputs, "shape")
        else (None, *outputs.shape[1:])
    )


def _input_shape(model: keras.Model) -> tuple[tuple[Any, ...], bool]:
    """Return the shape of the model's input, and whether it has another input named `lengths`."""
    if isinstance(model, keras.Sequential) and model._functional is None and not model.built:
        raise ValueError("The Sequential model has no input shape yet. Begin it with keras.Input(shape).")
    tensors = getattr(model, "inputs", None)
    if tensors:
        others = [tensor for tensor in tensors if tensor.name != LENGTHS]
        if len(others) != 1 or len(tensors) > 2:
            raise ValueError(
                f"The model has the inputs {[tensor.name for tensor in tensors]}, but presets are for models with one "
                f"input, and perhaps another one named {LENGTHS!r}. Give the model a method serving(options)."
            )
        return tuple(others[0].shape), len(tensors) == 2
    shape = getattr(model, "_build_shapes_dict", None) or {}
    shape = shape.get("input_shape", next(iter(shape.values()), None))
    if not isinstance(shape, tuple | list) or not all(isinstance(axis, int | None) for axis in shape):
        raise ValueError(
            f"The shape of the input of this {type(model).__name__} is not known. Call the model once, or "
            "model.build(shape) with None for axes of any size, before the export."
        )
    # The shape of the first call. The number of steps may change from call to call, the size of images does not.
    return (None, *shape[1:]) if len(shape) > 3 else (None, None, *shape[2:]), False


def _with_lengths(model: Any, values: Tensor, lengths: Tensor | None) -> Any:
    """Return the inputs in the structure in which the Functional model takes them."""
    return keras.tree.map_structure(lambda tensor: lengths if tensor.name == LENGTHS else values, model.input)


def _ends_in_probabilities(model: Any) -> bool:
    """Return whether the model's last layer has the activation softmax or sigmoid."""
    layers = [layer for layer in model._flatten_layers(include_self=False) if not layer._layers]
    last = layers[-1] if layers else None
    last = getattr(last, "layer", last)  # TimeDistributed
    functions = (keras.activations.softmax, keras.activations.sigmoid)
    return isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) in functions
