"""One SavedModel from text to text."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, get_args

import keras
import tensorflow as tf

from kseq.export.one_step import START, STEP, OneStep
from kseq.export.padding import TooLong, check_ids, in_batches, pad_to_bucket
from kseq.export.readable import Readable
from kseq.export.serving_config import model_name, serving_files, write_serving_files
from kseq.export.warmup import write_warmup
from kseq.models.serving import Serving, ServingOptions, StepInputs, serving_of_decoder
from kseq.training.bucketing import check_sizes

Endpoint = Callable[..., dict[str, tf.Tensor]]


def export_saved_model(
    model: Any,
    path: str | os.PathLike[str],
    *,
    strategy: Callable[..., Any] | None,
    source: Any = None,
    target: Any = None,
    buckets: Sequence[int] = (8, 16, 32, 64),
    batch_sizes: Sequence[int] = (1, 4, 16, 64),
    max_length: int | None = None,
    too_long: TooLong = "truncate",
    version: int | None = None,
    warmup: bool = True,
    seed_input: bool = False,
    replace_unknown: bool = False,
    alignments: bool = False,
    one_step: bool = False,
    serving_config: bool = True,
) -> pathlib.Path:
    """Write `model` as a SavedModel that TensorFlow Serving and `kseq-serve` answer with, `path/VERSION/`.

    The signature `serving_default` is a plain graph, which every server runs; `serving_xla` is the same compiled by
    XLA, which a server runs when started with `--xla_cpu_compilation_enabled`. Lengths are padded to `buckets` and,
    for the compiled one, batches to `batch_sizes`, in the graph: XLA compiles at most len(buckets) * len(batch_sizes)
    shapes. Rows of any length and batches of any size are answered.

    Inputs: `text` string `(batch,)` with a `source` tokenizer; without one `tokens` int32 `(batch, time)` and `lengths`
    int32 `(batch,)`; of a `kseq.models.CTCRecognizer` `features` float32 `(batch, time, feature_size)` and `lengths`.
    What stands beyond a row's length changes nothing.

    Outputs: `tokens` int32 `(batch, n, max_length)`, `lengths` int32 `(batch, n)`, `scores` float32 `(batch, n)`, best
    first, and with a `target` tokenizer `text` string `(batch, n)`. A recognizer's `tokens` are `(batch, n, frames)`,
    filled up with -1, and its `frames` int32 like them say where each token is: at the features' frame `frames *
    model.subsampling`. Of NaN in a real frame it reads nothing, with the score NaN.

    The folder is written under another name and renamed when it is whole, so that a server never loads half a model.
    Beside the versions stand `models.config`, `batching.config` and `monitoring.config`, which TensorFlow Serving and
    `kseq-serve` read, and `serve.sh`, which says the flags and starts a server with them. Each export writes them anew,
    except for those that somebody has edited: to get one back, remove it. Where they switch batching on, a request has
    at most as many rows as the largest of `batch_sizes`.

    Args:
        model: A `kseq.models.Seq2Seq`, or another model with its `decode`, `pad_id`, `bos_id`, `eos_id`,
            `source_vocabulary_size` and `target_vocabulary_size`; a `kseq.models.CTCRecognizer`; or any model that says
            by a method `serving(options)` what it is fed and what it answers, see `kseq.models.Serving`.
        path: The model's base folder; it is made if need be.
        strategy: How to decode, such as `kseq.decoding.BeamSearch(beam_width=4, top_paths=4)`; for a recognizer
            `kseq.decoding.CTCBeamSearch(beam_width=16)`, or None for the best class of each frame.
        source: Tokenizer of the inputs, see `kseq.text`.
        target: Tokenizer of the outputs. That of a recognizer has as many ids as there are classes, and the pad token
            where they have the blank.
        buckets: Increasing lengths, in tokens or frames.
        batch_sizes: Increasing batch sizes of the compiled signature.
        max_length: The most tokens written, end token included; by default twice the largest bucket. Not for
            recognizers, which write at most one token a frame.
        too_long: What becomes of a row of more tokens or frames than the largest bucket: "truncate" cuts it to the
            bucket, at the end unless the tokenizer's `truncation` is "start", begin and end tokens kept; "error"
            refuses the request with INVALID_ARGUMENT.
        version: The version's number; by default one more than the highest in `path`, from 1.
        warmup: Whether to write a request for each bucket and batch size to `assets.extra`, which a server runs on
            loading. They name `serving_default` alone: on a server without XLA one that fails would fail the load.
        seed_input: Whether the signatures take `seed` too, int64 `(batch,)`, with which a strategy that draws gives
            each row the same answer whenever it is asked. Otherwise it draws another seed for each request.
        replace_unknown: Whether `text` has the most attended source token for each unknown one, see
            `kseq.text.replace_unknown`. It needs both tokenizers and a model with attention.
        alignments: Whether the answer has what each written token attended to, `alignments` float32 `(batch, n,
            max_length, bucket)`, which `kseq-serve`'s playground draws; and to name its axes `source_tokens` string
            `(batch, bucket)` with a `source` tokenizer, and `target_tokens` string `(batch, n, max_length)` with a
            `target` tokenizer, empty in the padding. It needs a model with attention.
        one_step: Whether to add the signatures `serving_start` and `serving_step`, with which a client drives the loop
            itself, the state being in its requests; see `kseq.export.one_step`. Not for recognizers. Servers must not
            batch such a model: no `batching.config` is written.
        serving_config: Whether to write the files beside the versions; the model's name in them is that of the folder
            `path`.

    Returns:
        The version's folder.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        FileExistsError: If the version exists.
        ValueError: If buckets or batch sizes are not increasing, another option is out of range, a tokenizer is not
            that of the model, the model, such as a recognizer, has no use for an option, or the folder's name cannot be
            a model's name.
        TypeError: If the model does not say how it is served.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Export needs Keras on TensorFlow, but it runs on {keras.backend.backend()!r}. Save the model as .keras, "
            "and load and export it in a process with KERAS_BACKEND=tensorflow."
        )
    buckets, batch_sizes = check_sizes(buckets, "buckets"), check_sizes(batch_sizes, "batch_sizes")
    _check_options(max_length, too_long, version)
    if replace_unknown and (source is None or target is None):
        raise ValueError(
            "replace_unknown=True copies source tokens into texts: give both tokenizers, source and target."
        )
    if one_step and not hasattr(model, "step"):
        raise ValueError(
            f"one_step=True needs a model that writes step by step, but a {type(model).__name__} does not."
        )
    base = pathlib.Path(path)
    name = model_name(base) if serving_config else base.name
    options = ServingOptions(
        strategy, source, target, max_length, buckets[-1], seed_input, replace_unknown or alignments
    )
    serving = _serving(model, options)
    if not model.built:
        model.build()
    folder = base / str(_next_version(base) if version is None else version)
    if folder.exists():
        raise FileExistsError(
            f"{folder} exists. A server may be using it: choose another version, or leave version out."
        )
    reader = None if source is None else _reader(source, buckets[-1], too_long)
    seed = [tf.TensorSpec([None], tf.int64, name="seed")] if seed_input else []
    compiled = _compiled(serving, [*_signature(serving.inputs), *seed], batch_sizes)
    signature = _signature(serving.inputs) if reader is None else [tf.TensorSpec([None], tf.string, name="text")]
    readable = Readable(reader, target, replace_unknown, alignments)
    functions = {
        name: _traced(_endpoint(serving.inputs, answer, readable, buckets, too_long), [*signature, *seed])
        for name, answer in (("serving_default", serving.answer), ("serving_xla", compiled))
    }
    if one_step:
        stepper = OneStep(model)
        start = _endpoint(serving.inputs, stepper.start, Readable(reader), buckets, too_long)
        functions[START] = _traced(start, signature)
        functions[STEP] = stepper.step_function(functions[START].get_concrete_function())
    base.mkdir(parents=True, exist_ok=True)
    # Servers look at folders whose name is a number; a rename within a folder is atomic.
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=base) as scratch:
        unfinished = pathlib.Path(scratch) / folder.name
        _write(unfinished, model, [part for part in (reader, target) if part is not None], functions)
        if warmup:
            warm = serving.inputs if reader is None else reader
            write_warmup(unfinished, name, warm, buckets, batch_sizes, seed_input=seed_input)
        if serving_config:
            files = serving_files(name, batch_sizes, lengths=reader is None, one_step=one_step)
            write_serving_files(base, files, pathlib.Path(scratch))
        shutil.copymode(base, unfinished)
        unfinished.rename(folder)
    return folder


def _next_version(base: pathlib.Path) -> int:
    numbers = [int(entry.name) for entry in base.iterdir() if entry.name.isdecimal()] if base.is_dir() else []
    return max(numbers, default=0) + 1


def _serving(model: Any, options: ServingOptions) -> Serving:
    """Return what the model says about itself; of one that says nothing but decodes, how a decoder is served."""
    if hasattr(model, "serving"):
        return model.serving(options)
    if hasattr(model, "decode"):
        return serving_of_decoder(model, options)
    raise TypeError(
        f"{type(model).__name__} does not say how it is served. Give it a method serving(options) that returns "
        "kseq.models.Serving, or decode(...) and the ids and sizes that kseq.models.Seq2Seq has."
    )


def _signature(inputs: StepInputs) -> list[tf.TensorSpec]:
    steps = tf.TensorSpec([None, None, *inputs.step_shape], inputs.dtype, name=inputs.name)
    return [steps, tf.TensorSpec([None], tf.int32, name="lengths")]


def _compiled(serving: Serving, signature: list[tf.TensorSpec], batch_sizes: Sequence[int]) -> Endpoint:
    compiled = tf.function(serving.answer, jit_compile=True, autograph=False, input_signature=signature)
    return lambda *inputs: in_batches(compiled, *inputs, batch_sizes=batch_sizes)


def _check_options(max_length: int | None, too_long: str, version: Any) -> None:
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length={max_length}, but a model must write at least 1 token, the end.")
    if too_long not in get_args(TooLong):
        raise ValueError(f"too_long={too_long!r}, but it must be one of {get_args(TooLong)}.")
    if version is not None and (not isinstance(version, int) or version < 0):
        raise ValueError(
            f"version={version!r}, but servers look for whole numbers from 0 on. Leave it out for the next."
        )


def _reader(source: Any, largest: int, too_long: TooLong) -> Any:
    """Return the tokenizer with its rows limited to the largest bucket.

    It cuts before it pads: one long text must not make the whole batch as wide as itself.
    """
    config = source.get_config()
    if config["max_length"] is not None and config["max_length"] <= largest:
        return source
    truncation = "error" if "error" in (too_long, config["truncation"]) else config["truncation"]
    return type(source).from_config({**config, "max_length": largest, "truncation": truncation})


def _endpoint(
    inputs: StepInputs, run: Endpoint, readable: Readable, buckets: Sequence[int], too_long: TooLong
) -> Endpoint:
    def answer(steps: tf.Tensor, lengths: tf.Tensor, *seed: tf.Tensor) -> dict[str, tf.Tensor]:
        steps, lengths = pad_to_bucket(steps, lengths, buckets, inputs.pad_value, too_long)
        if readable.source is None and inputs.vocabulary_size is not None:
            steps = check_ids(steps, inputs.vocabulary_size)
        return run(steps, lengths, *seed)

    def from_text(text: tf.Tensor, *seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return readable.add_to(answer(*readable.source(text), *seed), text)

    def from_steps(steps: tf.Tensor, lengths: tf.Tensor, *seed: tf.Tensor) -> dict[str, tf.Tensor]:
        return readable.add_to(answer(steps, lengths, *seed), None)

    return from_steps if readable.source is None else from_text


def _traced(endpoint: Endpoint, signature: list[tf.TensorSpec]) -> Any:
    """Return a function that calls the traced endpoint, since what is saved is traced anew, which takes seconds."""
    traced = tf.function(endpoint, autograph=False, input_signature=signature).get_concrete_function()
    function = tf.function(lambda *inputs: traced(*inputs), autograph=False, input_signature=signature)
    function.get_concrete_function()
    return function


def _write(folder: pathlib.Path, model: Any, tokenizers: list, functions: dict[str, Any]) -> None:
    # A plain tf.saved_model.save of Keras layers cannot be loaded by the session that TensorFlow Serving uses.
    archive = keras.export.ExportArchive()
    archive.track(model)
    for tokenizer in tokenizers:
        archive.track(tokenizer)
    for name, function in functions.items():
        function.get_concrete_function()
        archive.add_endpoint(name, function)
    # Nobody trains what is served, and gradients of our own would be most of the graph.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    archive.write_out(os.fspath(folder), options=options, verbose=False)
