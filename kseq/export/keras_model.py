"""The export of Keras models that define no `serving`: presets for what they read and answer."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.export.answers.preset import AnswerPreset, Outputs
from kseq.export.inputs.preset import InputPreset
from kseq.export.inputs.steps import Text
from kseq.export.model_checks import check_model
from kseq.masking import implicit_mask, mask_from_lengths, set_implicit_mask
from kseq.models.export_contract import (
    RowInputs,
    Serving,
    ServingOptions,
    StepInputs,
    check_tokenizers,
    lengths_names,
)

LENGTHS = "lengths"

Presets = InputPreset | Mapping[str, InputPreset | RowInputs]


class KerasModel:
    """A Keras model with one input, or with several that are exported by name, and perhaps inputs for lengths.

    Args:
        model: The model.
        presets: What its input is made of; for a model with several inputs a mapping from their names to presets, or
            to `RowInputs`.

    Attributes:
        inputs: The model's inputs by their names in the request.

    Raises:
        ValueError: If the model has other inputs, the shape of an input is not known, or does not fit its preset.
    """

    def __init__(self, model: keras.Model, presets: Presets):
        self.model, self.given = model, presets
        self.presets = presets if isinstance(presets, Mapping) else {presets.name: presets}
        self.shapes = _input_shapes(model, presets)
        self.inputs = {name: _inputs(model, name, of, self.shapes[name]) for name, of in self.presets.items()}
        self.lengths = lengths_names(self.inputs)  # by name of the sequence
        self.takes_mask, self.passes_mask = True, True  # until `check_model` finds that a mask does not fit
        self.probabilities = _ends_in_probabilities(model)
        if LENGTHS in _named_inputs(model) and LENGTHS not in self.lengths.values():
            raise ValueError(
                f"The model has an input named {LENGTHS!r}, but the others are no sequence, or several, whose lengths "
                "are called NAME_lengths."
            )
        self.steps = self._fixed_steps()

    def _fixed_steps(self) -> int | None:
        """Return the model's fixed number of steps, or None."""
        steps = {name: self.shapes[name][1] for name in self.lengths if len(self.shapes[name]) < 4}
        if len(set(steps.values())) > 1:
            raise ValueError(
                f"The inputs have {steps} steps, but all sequences are padded to the same number. Give fixed ones as "
                "kseq.models.RowInputs(dtype=..., shape=...), with the shape of a row."
            )
        return next(iter(steps.values()), None)

    def __call__(self, tensors: Mapping[str, Tensor]) -> Outputs:
        """Return the model's output.

        Args:
            tensors: The inputs as the readers produce them, `(batch, time, ...)` or `(batch, ...)`, and the lengths of
                sequences, int `(batch,)`, by the names in the request.
        """
        first = next(iter(self.lengths), None)
        time = None if first is None else ops.shape(tensors[first])[1]
        values = dict(tensors)
        for name, of in self.inputs.items():
            preset = self.presets[name]
            values[name] = preset.to_model(tensors[name], of) if isinstance(preset, InputPreset) else tensors[name]
        outputs = self._call(values, time)
        lengths = None if first is None else tensors[self.lengths[first]]
        return Outputs(outputs, self._mask_of(outputs, lengths, time), self.probabilities)

    def _call(self, values: dict[str, Tensor], time: Any) -> Any:
        for name, told in self.lengths.items():
            values[told] = ops.cast(values[told], "int32")
            # Columns of images are no steps of the model's own input: a mask over them would not fit its axes.
            has_steps = len(self.shapes[name]) < 4
            if self.takes_mask and has_steps and told not in _named_inputs(self.model):
                set_implicit_mask(values[name], mask_from_lengths(values[told], time))
        with warnings.catch_warnings():
            # Keras warns of each layer that does not use masks, whether or not that matters; see `check_model`.
            warnings.filterwarnings("ignore", ".*was passed an input with a mask attached", UserWarning)
            return self.model(self._structured(values), training=False)

    def _structured(self, values: Mapping[str, Tensor]) -> Any:
        """Return the values of the inputs in the structure in which the model takes them."""
        named = _named_inputs(self.model)
        if len(named) < 2:
            return values[next(iter(self.inputs))]
        if not isinstance(self.given, Mapping):  # the input of the model has a name of its own
            values = {name: values[name if name == LENGTHS else self.given.name] for name in named}
        return keras.tree.map_structure(lambda of: values[of.name], self.model.input)

    def _mask_of(self, outputs: Any, lengths: Tensor | None, time: Any) -> Tensor | None:
        """Return the mask of the output's steps, True up to the last real step.

        An output with as many steps as the input has the request's lengths. One with another number of steps ends with
        the last real step of its own mask, else with the same share of its steps as of the input's. Steps before the
        end that the model masks itself, such as frames equal to the value of `Masking`, are part of the answer. If the
        model reads several sequences, the output's own mask decides, and without one the lengths of the first sequence.
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
        if own is None or len(self.lengths) > 1:  # all sequences have one number of steps, whichever the output follows
            return shared if own is None else own
        return ops.where(ops.equal(steps, time), shared, own)


def serving_of_keras_model(
    model: keras.Model, presets: Presets, answers: AnswerPreset, options: ServingOptions, buckets: Sequence[int]
) -> tuple[Serving, Sequence[int]]:
    """Return the `Serving` of a Keras model, and the buckets: the model's number of steps if that is fixed.

    Raises:
        ValueError: If a preset or an option does not fit the model.
    """
    options.refuse(type(model).__name__, "max_length", "seed_input", "alignments")
    called = KerasModel(model, presets)
    texts = [name for name, of in called.presets.items() if isinstance(of, Text)]
    _check_texts(texts, presets, options.source)
    check_tokenizers(called.inputs, {name: options.source for name in texts})
    if called.steps is not None:
        buckets = (called.steps,)
    answers.check(options, check_model(called, buckets))

    def answer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return answers.answer(called(tensors), options)

    serving = Serving(called.inputs, answer, padding=answers.padding, named=answers.named, classify=answers.classify)
    return serving, buckets


def _check_texts(texts: list[str], presets: Presets, source: Any) -> None:
    """Raise ValueError unless there is one tokenizer for one text, or none for none."""
    if len(texts) > 1:
        raise ValueError(
            f"inputs has texts for {texts}, but a request contains one text. Give one of them, and 'tokens' for the "
            "others, whose clients send ids."
        )
    is_one = hasattr(source, "vocabulary_size")
    if isinstance(presets, Mapping) and (bool(texts) != (source is not None) or (texts and not is_one)):
        raise ValueError(f"source={source!r}, but it must be the one tokenizer of a text in inputs={dict(presets)!r}.")
    if texts and source is not None and not is_one:
        raise ValueError(f"source={source!r}, but it must be a tokenizer of kseq.text: the model reads one text.")


def _input_shapes(model: keras.Model, presets: Presets) -> dict[str, tuple[Any, ...]]:
    """Return the shapes of the model's inputs other than lengths, by their names in the request."""
    if isinstance(model, keras.Sequential) and model._functional is None and not model.built:
        raise ValueError("The Sequential model has no input shape yet. Begin it with keras.Input(shape).")
    named = _named_inputs(model)
    if isinstance(presets, Mapping):
        told = {LENGTHS, *(f"{name}_{LENGTHS}" for name in presets)}
        if not presets or set(named) - told != set(presets):
            raise ValueError(
                f"inputs has presets for {[*presets]}, but the model has the inputs {[*named]}. Give a preset for "
                "each, by the name of its keras.Input."
            )
        return {name: tuple(named[name].shape) for name in presets}
    if named:
        others = [name for name in named if name != LENGTHS]
        if len(others) != 1 or len(named) > 2:
            raise ValueError(
                f"The model has the inputs {[*named]}. Give a preset for each, such as inputs="
                f"{{{', '.join(f'{name!r}: ...' for name in others)}}}, or give the model a method serving(options)."
            )
        return {presets.name: tuple(named[others[0]].shape)}
    shape = getattr(model, "_build_shapes_dict", None) or {}
    shape = shape.get("input_shape", next(iter(shape.values()), None))
    if not isinstance(shape, tuple | list) or not all(isinstance(axis, int | None) for axis in shape):
        raise ValueError(
            f"The shape of the input of this {type(model).__name__} is not known. Call the model once, or "
            "model.build(shape) with None for axes of any size, before the export."
        )
    # The shape of the first call. The number of steps may change from call to call, the size of images does not.
    return {presets.name: (None, *shape[1:]) if len(shape) > 3 else (None, None, *shape[2:])}


def _inputs(model: keras.Model, name: str, preset: InputPreset | RowInputs, shape: tuple) -> StepInputs | RowInputs:
    """Return the input that a preset makes of `shape`."""
    if isinstance(preset, InputPreset):
        return preset.inputs(model, shape)
    fits = len(shape) == len(preset.shape) + 1 and all(
        None in (own, other) or own == other for own, other in zip(shape[1:], preset.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"inputs[{name!r}] has rows of shape {preset.shape}, but the model's input has shape {shape}.")
    return preset


def _named_inputs(model: Any) -> dict[str, Any]:
    """Return the inputs of a Functional model by the names of their `keras.Input`."""
    return {tensor.name: tensor for tensor in getattr(model, "inputs", None) or ()}


def _up_to_last(mask: Tensor) -> Tensor:
    """Return `mask` `(batch, steps)` with True at all steps up to a row's last real one."""
    number = ops.arange(1, ops.shape(mask)[1] + 1, dtype="int32")
    return mask_from_lengths(ops.max(ops.where(mask, number, 0), axis=1, initial=0), ops.shape(mask)[1])


def _ends_in_probabilities(model: Any) -> bool:
    """Return whether the model's last layer has the activation softmax or sigmoid."""
    layers = [layer for layer in model._flatten_layers(include_self=False) if not layer._layers]
    last = layers[-1] if layers else None
    last = getattr(last, "layer", last)  # TimeDistributed
    functions = (keras.activations.softmax, keras.activations.sigmoid)
    return isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) in functions
