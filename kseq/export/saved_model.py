"""The export of a model as one SavedModel."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import keras
import tensorflow as tf

from kseq.export.endpoints import Endpoints, limit_rows
from kseq.export.options import ExportOptions, ExportSwitches, with_switches
from kseq.export.serving_config import model_name, serving_files, write_serving_files
from kseq.export.warmup import write_warmup
from kseq.models.encoder_decoder import serving_of_decoder
from kseq.models.export_contract import Serving, ServingOptions
from kseq.training.bucketing import check_sizes


def export_saved_model(
    model: Any,
    path: str | os.PathLike[str],
    *,
    strategy: Callable[..., Any] | None = None,
    source: Any = None,
    target: Any = None,
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
    len(buckets) * len(batch_sizes) shapes.

    Inputs: with a `source` tokenizer `text` string `(batch,)`; without one `tokens` int32 `(batch, time)` and `lengths`
    int32 `(batch,)`; for a `kseq.models.CTCRecognizer` `features` float32 `(batch, time, feature_size)` and `lengths`.
    Values beyond a row's length are ignored.

    Outputs: `tokens` int32 `(batch, n, max_length)`, `lengths` int32 `(batch, n)` and `scores` float32 `(batch, n)`,
    best first; with a `target` tokenizer also `text` string `(batch, n)`. A recognizer's `tokens` are `(batch, n,
    frames)`, padded with -1, and its `frames`, int32 of the same shape, locate each token at frame `frames *
    model.subsampling` of the features; a row with NaN in a real frame has no tokens and the score NaN.

    The version's folder gets its name only when it is complete, so a server never loads a partial model. The files of
    `ExportOptions.serving_config` beside the versions are rewritten by each export unless somebody has edited them; to
    restore an edited file, delete it. If they enable batching, a request has at most `batch_sizes[-1]` rows.

    Args:
        model: A `kseq.models.Seq2Seq`, or another model with its `decode`, `pad_id`, `bos_id`, `eos_id`,
            `source_vocabulary_size` and `target_vocabulary_size`; a `kseq.models.CTCRecognizer`; or any model with a
            method `serving(options)` that returns a `kseq.models.Serving`.
        path: The model's base folder, created if it does not exist.
        strategy: Decoding strategy, such as `kseq.decoding.BeamSearch(beam_width=4, top_paths=4)`, or for a recognizer
            `kseq.decoding.CTCBeamSearch(beam_width=16)`. None: greedy search.
        source: Tokenizer of the inputs, see `kseq.text`.
        target: Tokenizer of the outputs. A recognizer's tokenizer has one id per class, and the pad token as the blank.
        buckets: Increasing lengths, in tokens or frames.
        batch_sizes: Increasing batch sizes of `serving_xla`.
        max_length: Largest number of tokens in an output, end token included; by default twice the largest bucket. Not
            for recognizers, which write at most one token per frame.
        version: Number of the version; by default one more than the highest in `path`, from 1.
        options: Less common options; None: the defaults.
        **switches: Fields of `ExportOptions` that replace those of `options`: `alignments=True` is short for
            `options=ExportOptions(alignments=True)`.

    Returns:
        The version's folder.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        FileExistsError: If the version exists.
        ValueError: If an argument is out of range, a tokenizer does not fit the model, an option does not apply to the
            model, or the base folder's name cannot be a model's name.
        TypeError: If the model defines neither `serving` nor `decode`, or an argument is unknown.

    Example:
        >>> beam = kseq.decoding.BeamSearch(beam_width=4)
        >>> kseq.export_saved_model(model, "models/g2p", strategy=beam, source=letters, target=phones, alignments=True)
        PosixPath('models/g2p/1')
    """
    options = with_switches(options, switches)
    _check_backend()
    buckets, batch_sizes = check_sizes(buckets, "buckets"), check_sizes(batch_sizes, "batch_sizes")
    _check_arguments(model, source, target, max_length, version, options)
    base = pathlib.Path(path)
    name = model_name(base) if options.serving_config else base.name
    alignments = options.replace_unknown or options.alignments
    serving = _serving(
        model, ServingOptions(strategy, source, target, max_length, buckets[-1], options.seed_input, alignments)
    )
    if not model.built:
        model.build()
    folder = _version_folder(base, version)
    reader = None if source is None else limit_rows(source, buckets[-1], options.too_long)
    functions = Endpoints(serving, reader, target, buckets, batch_sizes, options).functions(model)
    base.mkdir(parents=True, exist_ok=True)
    # Servers ignore folders whose name is not a number; a rename within a folder is atomic.
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=base) as scratch:
        unfinished = pathlib.Path(scratch) / folder.name
        _write(unfinished, model, [part for part in (reader, target) if part is not None], functions)
        if options.warmup:
            warm = serving.inputs if reader is None else reader
            write_warmup(unfinished, name, warm, buckets, batch_sizes, seed_input=options.seed_input)
        if options.serving_config:
            files = serving_files(name, batch_sizes, lengths=reader is None, one_step=options.one_step)
            write_serving_files(base, files, pathlib.Path(scratch))
        shutil.copymode(base, unfinished)
        unfinished.rename(folder)
    return folder


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
    if options.one_step and not hasattr(model, "step"):
        raise ValueError(f"one_step=True needs a model with a method step, but a {type(model).__name__} has none.")


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


def _serving(model: Any, options: ServingOptions) -> Serving:
    """Return the result of `model.serving`, or that of a decoder if the model defines `decode` alone."""
    if hasattr(model, "serving"):
        return model.serving(options)
    if hasattr(model, "decode"):
        return serving_of_decoder(model, options)
    raise TypeError(
        f"{type(model).__name__} cannot be exported. Give it a method serving(options) that returns "
        "kseq.models.Serving, or decode(...) and the ids and vocabulary sizes that kseq.models.Seq2Seq has."
    )


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
    archive.write_out(os.fspath(folder), options=options, verbose=False)
