"""The export of Keras models that define no `serving`: presets for what they read and answer."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.export.answers.preset import AnswerPreset, Outputs
from kseq.export.inputs.preset import InputPreset
from kseq.export.model_checks import check_model
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
        self.takes_mask, self.passes_mask = True, True  # until `check_model` finds that a mask does not fit
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
            # Keras warns of each layer that does not use masks, whether or not that matters; see `check_model`.
            warnings.filterwarnings("ignore", ".*was passed an input with a mask attached", UserWarning)
            return self.model(values, training=False)

    def _mask_of(self, outputs: Any, lengths: Tensor | None, time: Any) -> Tensor | None:
        """Return the mask of the output's steps, True up to the last real step.

        An output with as many steps as the input has the request's lengths. One with another number of steps ends with
        the last real step of its own mask, else with the same share of its steps as of the input's. Steps before the
        end that the model masks itself, such as frames equal to the value of `Masking`, are part of the answer.
        """
        if isinstance(outputs, dict | list | tuple) or len(outputs.shape) < 3:
            return None
        steps, mask = ops.shape(outputs)[1], implicit_mask(outputs)
        if mask is not None and mask.shape[1] != outputs.shape[1]:
            self.passes_mask = False  # told by `check_model`, as a graph does not know the numbers of steps
        own = None if mask is None or not self.passes_mask else _up_to_last(mask)
        if lengths is None:
            return ops.ones(ops.shape(outputs)[:2], "bool") if own is None else own
        in_share = -(-ops.cast(lengths, "int32") * steps // ops.maximum(time, 1))  # rounded up
        shared = mask_from_lengths(in_share, steps)
        return shared if own is None else ops.where(ops.equal(steps, time), shared, own)


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
    answers.check(options, check_model(called, inputs, buckets))

    def answer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return answers.answer(called(tensors[name], tensors.get(LENGTHS)), options)

    return Serving({name: inputs}, answer, padding=answers.padding, named=answers.named), buckets


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


def _up_to_last(mask: Tensor) -> Tensor:
    """Return `mask` `(batch, steps)` with True at all steps up to a row's last real one."""
    number = ops.arange(1, ops.shape(mask)[1] + 1, dtype="int32")
    return mask_from_lengths(ops.max(ops.where(mask, number, 0), axis=1, initial=0), ops.shape(mask)[1])


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
