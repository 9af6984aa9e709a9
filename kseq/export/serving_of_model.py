"""The inputs, the answer and the readers of a model that is to be exported."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras

from kseq.export.answers import ANSWERS, AnswerPreset
from kseq.export.inputs import INPUTS, InputPreset, Text
from kseq.export.inputs.reader import Reader
from kseq.export.inputs.text import TextReader
from kseq.export.keras_model import serving_of_keras_model
from kseq.export.own_serving import checked_serving
from kseq.export.padding import TooLong
from kseq.models.encoder_decoder import serving_of_decoder
from kseq.models.export_contract import RowInputs, Serving, ServingOptions, StepInputs, lengths_names
from kseq.models.sequence_model import SequenceModel

InputsArgument = str | InputPreset | Mapping[str, str | InputPreset | RowInputs] | None


class Served(NamedTuple):
    """How a model is served.

    Attributes:
        serving: Its inputs and its answer.
        readers: Readers of requests, which produce all inputs.
        further: Readers of the further signatures, by their names.
        buckets: Increasing numbers of steps.
        too_long: Treatment of longer rows.
    """

    serving: Serving
    readers: list[Reader]
    further: dict[str, list[Reader]]
    buckets: Sequence[int]
    too_long: TooLong


def serving_of_model(
    model: Any,
    options: ServingOptions,
    inputs: InputsArgument,
    answers: str | AnswerPreset | None,
    buckets: Sequence[int],
    too_long: TooLong | None,
) -> Served:
    """Return how `model` is served, by its own method or by presets.

    Raises:
        TypeError: If the model defines neither `serving` nor `decode`, and there are no presets; if it does, and there
            is a preset for its answers; or if its `serving` returns no `Serving`.
        ValueError: If a preset is unknown or does not fit, or an option does not apply.
    """
    name = type(model).__name__
    answer = _chosen("answers", answers, ANSWERS)
    preset = _chosen_inputs(inputs, model)
    if _defines_serving(model) or hasattr(model, "decode"):
        if answer is not None:
            raise TypeError(f"answers={answers!r}, but a {name} defines its answer itself. Leave answers out.")
        if isinstance(preset, Mapping):
            raise TypeError(
                f"inputs={inputs!r}, but a {name} defines its inputs itself. Leave inputs out, or give one preset."
            )
        if hasattr(model, "serving"):
            serving = checked_serving(model.serving(options), model)
        else:
            serving = serving_of_decoder(model, options)
    else:
        if preset is None and options.source is not None:
            preset = INPUTS["text"]
        if preset is None or answer is None or not isinstance(model, keras.Model):
            raise TypeError(_HOW_TO_EXPORT.format(model=name, inputs=[*INPUTS], answers=[*ANSWERS]))
        serving, buckets = serving_of_keras_model(model, preset, answer, options, buckets)
    if not lengths_names(serving.inputs):  # no sequences, so requests of all buckets would be the same
        buckets = buckets[:1]
    if too_long is None:
        too_long = "truncate" if serving.finish is None else "windows"
    if too_long == "windows" and serving.finish is None:
        raise ValueError(
            f'too_long="windows", but a {name} does not answer each step by itself, so it cannot be asked for windows '
            'of a row. Use "truncate" or "error".'
        )
    told = options.source, preset, buckets[-1], too_long
    further = {name: _readers(of, *told) for name, of in serving.signatures.items()}
    return Served(serving, _readers(serving, *told), further, buckets, too_long)


_HOW_TO_EXPORT = (
    "{model} cannot be exported as it is. For a Keras model give inputs=, one of {inputs}, or one for each of its "
    "inputs by name, and answers=, one of {answers}; or define a method serving(options) that returns "
    "kseq.models.Serving, or decode(...) and the ids and vocabulary sizes that kseq.models.Seq2Seq has."
)


def _defines_serving(model: Any) -> bool:
    method = getattr(type(model), "serving", None)
    return method is not None and method is not SequenceModel.serving


def _chosen(argument: str, preset: Any, presets: Mapping[str, Any]) -> Any:
    """Return the preset of a name."""
    if isinstance(preset, str):
        if preset not in presets:
            raise ValueError(f"{argument}={preset!r}, but the presets are {[*presets]}.")
        return presets[preset]
    kind = InputPreset if presets is INPUTS else AnswerPreset
    if preset is not None and not isinstance(preset, kind):
        raise TypeError(f"{argument}={preset!r}, but it must be one of {[*presets]} or a {kind.__name__}.")
    return preset


def _chosen_inputs(inputs: InputsArgument, model: Any) -> Any:
    """Return the preset, or a mapping of presets, with the options that are left to `model`."""
    if not isinstance(inputs, Mapping):
        preset = _chosen("inputs", inputs, INPUTS)
        return None if preset is None else preset.of_model(model)
    chosen = {}
    for name, of in inputs.items():
        preset = of if isinstance(of, RowInputs) else _chosen(f"inputs[{name!r}]", of, INPUTS)
        if preset is None:
            raise TypeError(f"inputs[{name!r}] is None, but it must be one of {[*INPUTS]}, or a preset or RowInputs.")
        chosen[name] = preset.of_model(model) if isinstance(preset, InputPreset) else preset
    return chosen


def _check_source(preset: InputPreset, source: Any) -> None:
    """Raise ValueError unless there is a tokenizer for texts, and for nothing else."""
    if isinstance(preset, Text) and source is None:
        raise ValueError("inputs='text' needs source=, the tokenizer that the model was trained with.")
    if not isinstance(preset, Text) and source is not None:
        raise ValueError(f"source is a tokenizer of texts, but inputs is {preset!r}. Leave one of the two out.")


def _readers(serving: Serving, source: Any, preset: Any, largest: int, too_long: TooLong) -> list[Reader]:
    """Return the readers of a model's inputs: tokenizers, a preset, and the request itself for the rest."""
    inputs, names = dict(serving.inputs), lengths_names(serving.inputs)
    steps = [name for name, of in inputs.items() if isinstance(of, StepInputs)]
    readers: list[Reader] = []
    if isinstance(preset, Mapping):
        return _readers_by_name(inputs, names, source, preset, largest, too_long)
    if preset is not None:
        _check_source(preset, source)
    if source is not None:
        tokenizers = source if isinstance(source, Mapping) else dict.fromkeys(steps[:1], source)
        if set(tokenizers) - set(steps) or not tokenizers:
            raise ValueError(f"source has tokenizers for {sorted(tokenizers)}, but the model's sequences are {steps}.")
        if missing := [name for name in steps if name not in tokenizers]:
            raise ValueError(
                f"The model reads {steps}, but source has no tokenizer for {missing}. Give one for each, such as "
                f"source={{{', '.join(f'{name!r}: ...' for name in steps)}}}."
            )
        alone = [name for name in steps[1:] if getattr(inputs[name], "steps_of", None) is None]
        if alone:
            raise ValueError(
                f"A request contains one text, for {steps[0]!r}, but {alone} would get it, too. Give StepInputs of the "
                f"same words steps_of={steps[0]!r}; for others leave source out, so that clients send ids."
            )
        taken: dict[str, Any] = {name: inputs.pop(name) for name in tokenizers}
        told, as_written = {name: names[name] for name in taken}, serving.spelled is not None
        readers.append(TextReader(taken, told, tokenizers, largest, too_long, as_written=as_written))
    elif preset is not None:
        if len(steps) > 1 or not inputs:
            raise ValueError(f"A preset for inputs needs a model with one sequence, but this model reads {steps}.")
        name = steps[0] if steps else next(iter(inputs))
        readers.append(preset.reader({name: inputs.pop(name)}))
    if inputs:
        readers.append(Reader(inputs, {name: names[name] for name in names if name in inputs}))
    return readers


def _readers_by_name(
    inputs: Mapping[str, Any],
    names: dict[str, str],
    source: Any,
    presets: Mapping[str, InputPreset | RowInputs],
    largest: int,
    too_long: TooLong,
) -> list[Reader]:
    """Return the readers of a model with a preset for each input; those without a reader of their own share one."""
    texts = [name for name, of in presets.items() if isinstance(of, Text)]
    readers, plain = [], {}
    for name, of in presets.items():
        own = {name: names[name]} if name in names else {}
        if name in texts:
            readers.append(TextReader({name: inputs[name]}, own, {name: source}, largest, too_long))
            continue
        reader = of.reader({name: inputs[name]}) if isinstance(of, InputPreset) else None
        if reader is None or type(reader) is Reader:
            plain[name] = inputs[name]
            continue
        reader.names = own
        readers.append(reader)
    requested = [spec.name for reader in readers for spec in reader.specs()]
    if len(set(requested)) < len(requested):
        raise ValueError(f"inputs has several presets of files, but a request would contain {requested}. Use one.")
    if plain:
        readers.append(Reader(plain, {name: names[name] for name in plain if name in names}))
    return readers
