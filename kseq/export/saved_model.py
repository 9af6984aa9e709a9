"""One SavedModel from text to text."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, get_args

import keras
import tensorflow as tf

from kseq.export.inputs import StepInputs
from kseq.export.one_step import START, STEP, OneStep
from kseq.export.padding import TooLong, in_batches, pad_to_bucket
from kseq.export.warmup import write_warmup
from kseq.models import CTCRecognizer
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
    one_step: bool = False,
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

    Args:
        model: A `kseq.models.Seq2Seq`, or another model with its `decode`, `pad_id`, `bos_id`, `eos_id`,
            `source_vocabulary_size` and `target_vocabulary_size`; or a `kseq.models.CTCRecognizer`.
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
        one_step: Whether to add the signatures `serving_start` and `serving_step`, with which a client drives the loop
            itself, the state being in its requests; see `kseq.export.one_step`. Not for recognizers.

    Returns:
        The version's folder.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        FileExistsError: If the version exists.
        ValueError: If buckets or batch sizes are not increasing, another option is out of range, a tokenizer is not
            that of the model, or a recognizer is given a `source` or `max_length`.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Export needs Keras on TensorFlow, but it runs on {keras.backend.backend()!r}. Save the model as .keras, "
            "and load and export it in a process with KERAS_BACKEND=tensorflow."
        )
    buckets, batch_sizes = check_sizes(buckets, "buckets"), check_sizes(batch_sizes, "batch_sizes")
    _check_options(max_length, too_long, version)
    if isinstance(model, CTCRecognizer):
        if one_step:
            raise ValueError("one_step=True needs a model that writes step by step, but a recognizer reads all frames.")
        _check_recognizer(model, source, target, max_length)
    else:
        _check_tokenizers(model, source, target)
    if not model.built:
        model.build()
    base = pathlib.Path(path)
    folder = base / str(_next_version(base) if version is None else version)
    if folder.exists():
        raise FileExistsError(
            f"{folder} exists. A server may be using it: choose another version, or leave version out."
        )
    reader = None if source is None else _reader(source, buckets[-1], too_long)
    inputs = StepInputs.of(model)
    run = _decoder(model, strategy, 2 * buckets[-1] if max_length is None else max_length)
    endpoints = {
        name: _endpoint(inputs, function, reader, target, buckets, too_long)
        for name, function in (("serving_default", run), ("serving_xla", _compiled(run, inputs, batch_sizes)))
    }
    signature = inputs.signature if reader is None else [tf.TensorSpec([None], tf.string, name="text")]
    functions = {name: _traced(endpoint, signature) for name, endpoint in endpoints.items()}
    if one_step:
        stepper = OneStep(model)
        functions[START] = _traced(_endpoint(inputs, stepper.start, reader, None, buckets, too_long), signature)
        functions[STEP] = stepper.step_function(functions[START].get_concrete_function())
    base.mkdir(parents=True, exist_ok=True)
    # Servers look at folders whose name is a number; a rename within a folder is atomic.
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=base) as scratch:
        unfinished = pathlib.Path(scratch) / folder.name
        _write(unfinished, model, [part for part in (reader, target) if part is not None], functions)
        if warmup:
            write_warmup(unfinished, base.name, inputs if reader is None else reader, buckets, batch_sizes)
        shutil.copymode(base, unfinished)
        unfinished.rename(folder)
    return folder


def _next_version(base: pathlib.Path) -> int:
    numbers = [int(entry.name) for entry in base.iterdir() if entry.name.isdecimal()] if base.is_dir() else []
    return max(numbers, default=0) + 1


def _decoder(model: Any, strategy: Callable[..., Any] | None, max_length: int) -> Endpoint:
    def recognize(features: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        return model.decode(features, lengths, strategy=strategy)._asdict()

    def decode(ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        decoded = model.decode(ids, lengths, strategy=strategy, max_length=max_length)
        return {"tokens": decoded.tokens, "lengths": decoded.lengths, "scores": decoded.scores}

    return recognize if isinstance(model, CTCRecognizer) else decode


def _compiled(run: Endpoint, inputs: StepInputs, batch_sizes: Sequence[int]) -> Endpoint:
    compiled = tf.function(run, jit_compile=True, autograph=False, input_signature=inputs.signature)
    return lambda ids, lengths: in_batches(compiled, ids, lengths, batch_sizes)


def _check_options(max_length: int | None, too_long: str, version: Any) -> None:
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length={max_length}, but a model must write at least 1 token, the end.")
    if too_long not in get_args(TooLong):
        raise ValueError(f"too_long={too_long!r}, but it must be one of {get_args(TooLong)}.")
    if version is not None and (not isinstance(version, int) or version < 0):
        raise ValueError(
            f"version={version!r}, but servers look for whole numbers from 0 on. Leave it out for the next."
        )


def _check_recognizer(model: CTCRecognizer, source: Any, target: Any, max_length: int | None) -> None:
    if source is not None or max_length is not None:
        raise ValueError(
            f"A recognizer reads features and writes at most one token a frame, but was given source={source!r} and "
            f"max_length={max_length}. Leave both out."
        )
    if target is not None and (target.vocabulary_size, target.pad_id) != (model.num_classes, model.blank_index):
        raise ValueError(
            f"The target tokenizer has {target.vocabulary_size} ids and the pad token {target.pad_id}, but the model "
            f"{model.num_classes} classes and the blank {model.blank_index}. Export with the tokenizer whose ids the "
            "model was trained on, or leave target out and map the tokens yourself."
        )


def _check_tokenizers(model: Any, source: Any, target: Any) -> None:
    if source is not None and source.vocabulary_size > model.source_vocabulary_size:
        raise ValueError(
            f"The source tokenizer has {source.vocabulary_size} ids, but the model reads "
            f"{model.source_vocabulary_size}. Export with the tokenizer that the model was trained with."
        )
    if target is None:
        return
    of_model = {"vocabulary_size": model.target_vocabulary_size, "bos_id": model.bos_id, "eos_id": model.eos_id}
    of_tokenizer = {name: getattr(target, name) for name in of_model}
    if of_model != of_tokenizer:
        raise ValueError(
            f"The target tokenizer has {of_tokenizer}, but the model {of_model}. Export with the tokenizer that the "
            "model was trained with."
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
    inputs: StepInputs, run: Endpoint, source: Any, target: Any, buckets: Sequence[int], too_long: TooLong
) -> Endpoint:
    def answer(steps: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        steps, lengths = pad_to_bucket(steps, lengths, buckets, inputs.pad_value, too_long)
        outputs = run(steps if source is not None else inputs.checked(steps), lengths)
        return outputs if target is None else {"text": target.detokenize(outputs["tokens"]), **outputs}

    def from_text(text: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(*source(text))

    return answer if source is None else from_text


def _traced(endpoint: Endpoint, signature: list[tf.TensorSpec]) -> Any:
    function = tf.function(endpoint, autograph=False, input_signature=signature)
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
    archive.write_out(os.fspath(folder), verbose=False)
