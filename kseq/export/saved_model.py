"""The export of a model as one SavedModel."""

import dataclasses
import inspect
import itertools
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import keras
import numpy as np
import tensorflow as tf

from kseq.export.answers import AnswerPreset
from kseq.export.class_names import ClassNames, check_class_names
from kseq.export.endpoints import Endpoints
from kseq.export.example_signatures import METHODS
from kseq.export.inputs import InputPreset, Text
from kseq.export.inputs.reader import Reader
from kseq.export.inputs.text import TextReader
from kseq.export.keras_signatures import without_default_signature
from kseq.export.options import ExportOptions, ExportSwitches, with_switches
from kseq.export.playground_card import playground_card, write_card
from kseq.export.saved_model_file import finish_saved_model
from kseq.export.scratch_folder import scratch_folder
from kseq.export.serving_config import model_name, serving_files, write_serving_files
from kseq.export.serving_of_model import serving_of_model
from kseq.export.text_outputs import TextOutputs
from kseq.export.warmup import write_warmup
from kseq.models.export_contract import RowInputs, ServingOptions
from kseq.training.buckets import check_sizes


def export_saved_model(
    model: Any,
    path: str | os.PathLike[str],
    *,
    strategy: Callable[..., Any] | None = None,
    source: Any = None,
    target: Any = None,
    inputs: str | InputPreset | Mapping[str, str | InputPreset | RowInputs] | None = None,
    answers: str | AnswerPreset | None = None,
    class_names: Sequence[str] | None = None,
    buckets: Sequence[int] = (8, 16, 32, 64),
    batch_sizes: Sequence[int] = (1, 4, 16, 64),
    max_length: int | None = None,
    version: int | None = None,
    options: ExportOptions | None = None,
    **switches: Unpack[ExportSwitches],
) -> pathlib.Path:
    """Write `model` as a SavedModel for TensorFlow Serving and `kseq-serve`, to `path/VERSION/`.

    The signature `serving_default` is a plain graph, which every server runs; `serving_xla` is compiled by XLA, which a
    server allows with `--xla_cpu_compilation_enabled`. Both accept rows of any length and batches of any size: the
    graph pads lengths to `buckets` and, for `serving_xla`, batches to `batch_sizes`, so XLA compiles at most
    len(buckets) * len(batch_sizes) shapes. (`tf.saved_model.save(model)` is no substitute for a Keras model: a server
    loads the file, and then fails every request with "Could not find variable".)

    Requests. With a `source` tokenizer they contain `text` string `(batch,)`; without one, for a `kseq.models.Seq2Seq`,
    `Tagger` or `SequenceClassifier`, `tokens` int32 `(batch, time)` and `lengths` int32 `(batch,)`; for a
    `CTCRecognizer` `features` float32 `(batch, time, feature_size)` and `lengths`. Values beyond a row's length are
    ignored. Lengths may be left out over gRPC, or be an empty list over REST, if all rows have the full length and the
    server does not batch; a server that batches refuses such a request, because it pads rows to the longest of the
    batch. A `Seq2Seq` with a `VectorEncoder` or `GridEncoder` reads `features` float32 `(batch, *encoder.row_shape)`;
    those of another size are refused. (A server that batches fails all requests that it puts into one batch with them.)

    Answers. A `Seq2Seq` answers with `tokens` int32 `(batch, n, max_length)`, `lengths` int32 `(batch, n)` and `scores`
    float32 `(batch, n)`, best first; with a `target` tokenizer also with `text` string `(batch, n)`. A recognizer's
    `tokens` are `(batch, n, frames)`, padded with -1, and its `frames`, int32 of the same shape, locate each token at
    frame `frames * model.subsampling` of the features. A `Tagger` answers with `tags` and `scores`, `(batch, time)`,
    with a `source` tokenizer with the `tokens`, string `(batch, time)`, and with a scheme of tags with spans, see it. A
    `SequenceClassifier` answers with `classes` and `probabilities` `(batch, n)`, the most probable class first, or in a
    regression with `values`. A `LanguageModel` gets a prompt and options of sampling, and answers with continuations.
    What it and a `Forecaster` read and answer is in their docstrings.

    For TensorFlow Serving's Classify, models that answer with `classes` and `probabilities` also have the signature
    `serving_classify`; for its Regress, a regression with one number has `serving_regress`. An example has the inputs
    of a request as features, such as `text`, or `tokens` without `lengths`. A bad row is answered with empty classes
    and NaN. An example with a feature of another kind, such as numbers for `text`, fails its request.

    Every signature also answers with `error`, string `(batch,)`, empty where all is well. A bad row (an id outside the
    vocabulary, a wrong length, NaN or infinity, an option out of range, a damaged file, a text that is too long and not
    to be cut) has its reason there, and an empty answer: NaN in floats, the empty text, no tokens. Other rows of the
    batch do not change. A request as a whole only fails if its tensors do not have the same number of rows.

    Any other Keras model, Functional, Sequential or subclassed, is exported by presets. `inputs` is one of these names,
    or the object of `kseq.export` with options:

    - `"text"` (`Text`): `text` string `(batch,)`, which the tokenizer `source` turns into ids.
    - `"tokens"` (`Tokens`): `tokens` int32 `(batch, time)` and `lengths`.
    - `"features"` (`Features`): `features` float32 `(batch, time, ...)` and `lengths`.
    - `"png"` (`Png`): `image_bytes` string `(batch,)`, PNG or JPEG files, resized to the model's height.
    - `"pixels"` (`Pixels`): `pixels` float32, images between 0 and 1.
    - `"wav"` (`Wav`): `wav_bytes` string `(batch,)`, WAV files with 16 bits per sample and one channel.

    For a Functional model with several inputs, `inputs` is a mapping from their names to presets, or for an input with
    one value per row to `kseq.models.RowInputs`. A request then contains each input by its name, and the lengths of
    several sequences as `NAME_lengths`; texts and files have the names above.

    `"png"` and `"wav"` also read files for a `CTCRecognizer`, and `"png"` for a `Seq2Seq` with a `GridEncoder`. Over
    REST, the bytes of a file are `{"b64": "..."}`. `answers` is one of these:

    - `"ctc"` (`Ctc`): what a recognizer answers, decoded by `strategy`; `text` by `target` or `class_names`.
    - `"tags"` (`Tags`): `tags` and `scores` `(batch, steps)`.
    - `"classes"` (`Classes`): `classes` and `probabilities` `(batch, n)`, the most probable class first.
    - `"vectors"` (`Vectors`): the model's output as it is, `vectors`.
    - `"sequence"` (`Sequence`): the output per step, `sequence` `(batch, steps, ...)`, zero in the padding, and
      `lengths`.

    The lengths reach such a model as the Keras mask of its input, or as its input `lengths` if it has one. An output
    with fewer steps than the input has the lengths that its own mask tells, else the same share of its steps. A model
    with a fixed number of steps gets rows padded to it. The export warns if padding changes the model's answers, which
    happens with layers that do not use masks.

    The version's folder gets its name only when it is complete, so a server never loads a partial model. What an export
    that was killed leaves beside the versions, a folder `.writing-*`, is removed by the next export into `path` on the
    same machine, unless the machine was started anew since then. The files of
    `ExportOptions.serving_config` beside the versions are rewritten by each export unless somebody has edited them; to
    restore an edited file, delete it. If they enable batching, a request has at most `batch_sizes[-1]` rows.

    Args:
        model: A `kseq.models.Seq2Seq`, or another model with its `decode`, `pad_id`, `bos_id`, `eos_id`,
            `source_vocabulary_size` and `target_vocabulary_size`; a `CTCRecognizer`, a `Tagger`, a `SequenceClassifier`
            or a `LanguageModel`; any model with a method `serving(options)` that returns a `kseq.models.Serving`; or a
            Keras model, with presets.
        path: The model's base folder, created if it does not exist.
        strategy: Decoding strategy, such as `kseq.decoding.BeamSearch(beam_width=4, top_paths=4)`, or for a recognizer
            `kseq.decoding.CTCBeamSearch(beam_width=16)`. None: greedy search.
        source: Tokenizer of the inputs, see `kseq.text`; for a model with several sequences a mapping from their names
            to tokenizers. None: the model's own tokenizers, unless `inputs` names another preset than "text".
        target: Tokenizer of the outputs. A recognizer's tokenizer has one id per class, and the pad token as the blank.
            None: the model's own.
        inputs: Preset for what the model reads, or a mapping from the names of its inputs to presets. None: what the
            model itself defines, or text if there is a `source`.
        answers: Preset for what the model answers. None: what the model itself defines.
        class_names: Names of the classes or tags in the order of their ids, which take the place of the ids in the
            answer; with CTC the strings that make up `text`. They are written to `assets/class_names.txt`.
        buckets: Increasing lengths, in tokens or frames.
        batch_sizes: Increasing batch sizes of `serving_xla`.
        max_length: Largest number of tokens in an output, end token included; by default twice the largest bucket, or
            64 for a model that reads arrays. Not for recognizers, which write at most one token per frame.
        version: Number of the version; by default one more than the highest in `path`, from 1.
        options: Less common options; None: the defaults.
        **switches: Fields of `ExportOptions` that replace those of `options`: `alignments=True` is short for
            `options=ExportOptions(alignments=True)`.

    Returns:
        The version's folder.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        FileExistsError: If the version exists.
        ValueError: If an argument is out of range, a tokenizer or a preset does not fit the model, an option does not
            apply to the model, or the base folder's name cannot be a model's name.
        TypeError: If the model defines neither `serving` nor `decode` and there are no presets, or an argument is
            unknown.

    Example:
        >>> beam = kseq.decoding.BeamSearch(beam_width=4)
        >>> kseq.export_saved_model(model, "models/g2p", strategy=beam, source=letters, target=phones, alignments=True)
        PosixPath('models/g2p/1')
        >>> names = ["cat", "dog"]
        >>> kseq.export_saved_model(animals, "models/animals", inputs="png", answers="classes", class_names=names)
        PosixPath('models/animals/1')
    """
    options = with_switches(options, switches, inspect.signature(export_saved_model).parameters)
    _check_backend()
    report = _reporter(options.verbose)
    buckets, batch_sizes = check_sizes(buckets, "buckets"), check_sizes(batch_sizes, "batch_sizes")
    source, target, class_names = _with_defaults(model, source, target, class_names, inputs)
    _check_arguments(model, source, target, max_length, version, options)
    base = pathlib.Path(path)
    name = model_name(base) if options.serving_config else base.name
    of_model = ServingOptions(
        strategy,
        source,
        target,
        max_length,
        buckets[-1],
        options.seed_input,
        options.replace_unknown or options.alignments,
        check_class_names(class_names),
    )
    served = serving_of_model(model, of_model, inputs, answers, buckets, options.too_long)
    serving, readers, buckets = served.serving, served.readers, served.buckets
    options = dataclasses.replace(options, too_long=served.too_long)
    if not model.built:
        model.build()
    folder = _version_folder(base, version)
    texts = TextOutputs(
        serving,
        next((reader for reader in readers if isinstance(reader, TextReader)), None),
        target,
        None if class_names is None else ClassNames(class_names),
        options.replace_unknown,
        options.alignments,
    )
    required = [str(spec.name) for reader in readers for spec in reader.specs() if spec.name not in reader.optional]
    card = playground_card(options.title, options.description, options.examples, required)
    endpoints = Endpoints(serving, readers, texts, buckets, batch_sizes, options, report, served.further)
    functions, every = endpoints.functions(model), [*readers, *itertools.chain(*served.further.values())]
    base.mkdir(parents=True, exist_ok=True)
    # Servers ignore folders whose name is not a number; a rename within a folder is atomic.
    with scratch_folder(base) as scratch:
        unfinished = scratch / folder.name
        report("writing the graph and the weights")
        resources = [part for reader in every for part in reader.resources] + [target, texts.class_names]
        _write(unfinished, model, [part for part in resources if part is not None], functions)
        finish_saved_model(unfinished, [name for reader in every for name in reader.optional], METHODS)
        write_card(unfinished, card)
        if options.warmup:
            report("writing warm-up requests")
            write_warmup(unfinished, name, lambda *size: _sample(readers, *size), buckets, batch_sizes)
        if options.serving_config:
            lengths = any(of.padded for of in readers)
            files = serving_files(name, batch_sizes, lengths=lengths, one_step=options.one_step)
            write_serving_files(base, files, scratch)
        shutil.copymode(base, unfinished)
        unfinished.rename(folder)
    report(f"written to {folder}")
    return folder


def _reporter(verbose: bool) -> Callable[[str], None]:
    """Return a function that prints a line about the export, with the seconds since its begin."""
    started = time.monotonic()

    def report(line: str) -> None:
        if verbose and keras.config.is_interactive_logging_enabled():
            print(f"export_saved_model: {line} ({time.monotonic() - started:.1f} s)", flush=True)

    return report


def _sample(readers: Sequence[Reader], size: int, length: int) -> dict[str, np.ndarray]:
    return {name: value for reader in readers for name, value in reader.sample(size, length).items()}


def _with_defaults(model: Any, source: Any, target: Any, class_names: Any, inputs: Any) -> tuple:
    """Return the tokenizers and names of the export: those given, else the model's own where they apply."""
    own = model.serving_defaults() if hasattr(model, "serving_defaults") else {}
    _refuse_others("source", source, own.get("source"))
    _refuse_others("target", target, own.get("target"))
    if source is None and (inputs is None or inputs == "text" or isinstance(inputs, Text)):
        source = own.get("source")
    if target is None and class_names is None:
        target, class_names = own.get("target"), own.get("class_names")
    return source, target, class_names


def _refuse_others(name: str, given: Any, own: Any) -> None:
    """Raise ValueError if a tokenizer is given that gives texts other ids than the model's own one, by fingerprint."""
    both = (given, own) if isinstance(given, Mapping) and isinstance(own, Mapping) else ({name: given}, {name: own})
    for of, tokenizer in both[0].items():
        prints = [getattr(each, "fingerprint", None) for each in (tokenizer, both[1].get(of))]
        if None not in prints and prints[0] != prints[1]:
            raise ValueError(
                f"The {name} tokenizer given for {of!r} has the fingerprint {prints[0]}, but the model's own one has "
                f"{prints[1]}: its class, vocabulary or normalizer differs, so texts would get other ids than in "
                f"training. Leave {name} out, or replace the model's tokenizer first, model.{name}_tokenizer = ..."
            )


def _check_backend() -> None:
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Export needs Keras on TensorFlow, but it runs on {keras.backend.backend()!r}. Save the model as .keras, "
            "and load and export it in a process with KERAS_BACKEND=tensorflow."
        )


def _check_arguments(
    model: Any, source: Any, target: Any, max_length: int | None, version: Any, options: ExportOptions
) -> None:
    """Raise ValueError if an argument is out of range or needs another one."""
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length={max_length}, but an output has at least 1 token, the end token.")
    if version is not None and (not isinstance(version, int) or version < 0):
        raise ValueError(
            f"version={version!r}, but a version is a whole number of at least 0. Leave it out for the next one."
        )
    if options.replace_unknown and (source is None or target is None):
        raise ValueError(
            "replace_unknown=True copies source tokens into texts: give both tokenizers, source and target."
        )
    if options.replace_unknown and getattr(model, "copies", False):
        raise ValueError("replace_unknown=True is for models that do not copy, but this one copies by itself.")
    if options.one_step and not (hasattr(model, "step") and hasattr(model, "encode")):
        raise ValueError(
            f"one_step=True needs a model with the methods encode and step, but a {type(model).__name__} has not both."
        )


def _version_folder(base: pathlib.Path, version: int | None) -> pathlib.Path:
    """Return the folder of `version`, or of the next version if it is None."""
    if version is None:
        numbers = [int(entry.name) for entry in base.iterdir() if entry.name.isdecimal()] if base.is_dir() else []
        version = max(numbers, default=0) + 1
    folder = base / str(version)
    if folder.exists():
        raise FileExistsError(
            f"{folder} exists. A server may be using it: choose another version, or leave version out."
        )
    return folder


def _write(folder: pathlib.Path, model: Any, tokenizers: list, functions: dict[str, Any]) -> None:
    # A plain tf.saved_model.save of Keras layers cannot be loaded by the session that TensorFlow Serving uses.
    archive = keras.export.ExportArchive()
    archive.track(model)
    for tokenizer in tokenizers:
        archive.track(tokenizer)
    for name, function in functions.items():
        function.get_concrete_function()
        archive.add_endpoint(name, function)
    # A served model is not trained, and custom gradients would be most of the graph.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with without_default_signature(model):
        archive.write_out(os.fspath(folder), options=options, verbose=False)
