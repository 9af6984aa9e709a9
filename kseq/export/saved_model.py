"""One SavedModel from text to text."""

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, get_args

import keras
import tensorflow as tf

from kseq.decoding import Decoded
from kseq.export.padding import TooLong, check_ids, in_batches, pad_to_bucket
from kseq.export.warmup import write_warmup
from kseq.training.bucketing import check_sizes

Endpoint = Callable[..., dict[str, tf.Tensor]]


def export_saved_model(
    model: Any,
    path: str | os.PathLike[str],
    *,
    strategy: Callable[..., Decoded],
    source: Any = None,
    target: Any = None,
    buckets: Sequence[int] = (8, 16, 32, 64),
    batch_sizes: Sequence[int] = (1, 4, 16, 64),
    max_length: int | None = None,
    too_long: TooLong = "truncate",
    version: int | None = None,
    warmup: bool = True,
) -> pathlib.Path:
    """Write `model` as a SavedModel that TensorFlow Serving and `kseq-serve` answer with, `path/VERSION/`.

    The signature `serving_default` is a plain graph, which every server runs; `serving_xla` is the same compiled by
    XLA, which a server runs when started with `--xla_cpu_compilation_enabled`. Lengths are padded to `buckets` and,
    for the compiled one, batches to `batch_sizes`, in the graph: XLA compiles at most len(buckets) * len(batch_sizes)
    shapes. Rows of any length and batches of any size are answered.

    Inputs: `text` string `(batch,)` with a `source` tokenizer; without one `tokens` int32 `(batch, time)` and `lengths`
    int32 `(batch,)`. What stands in `tokens` beyond a row's length changes nothing.

    Outputs: `tokens` int32 `(batch, n, max_length)`, `lengths` int32 `(batch, n)`, `scores` float32 `(batch, n)`, best
    first, and with a `target` tokenizer `text` string `(batch, n)`.

    The folder is written under another name and renamed when it is whole, so that a server never loads half a model.

    Args:
        model: A `kseq.models.Seq2Seq`, or another model with its `decode`, `pad_id`, `bos_id`, `eos_id`,
            `source_vocabulary_size` and `target_vocabulary_size`.
        path: The model's base folder; it is made if need be.
        strategy: How to decode, such as `kseq.decoding.BeamSearch(beam_width=4, top_paths=4)`.
        source: Tokenizer of the inputs, see `kseq.text`.
        target: Tokenizer of the outputs.
        buckets: Increasing lengths, in tokens.
        batch_sizes: Increasing batch sizes of the compiled signature.
        max_length: The most tokens written, end token included; by default twice the largest bucket.
        too_long: What becomes of a text of more tokens than the largest bucket: "truncate" cuts it to the bucket, at
            the end unless the tokenizer's `truncation` is "start", begin and end tokens kept; "error" refuses the
            request with INVALID_ARGUMENT.
        version: The version's number; by default one more than the highest in `path`, from 1.
        warmup: Whether to write a request for each bucket and batch size to `assets.extra`, which a server runs on
            loading. They name `serving_default` alone: on a server without XLA one that fails would fail the load.

    Returns:
        The version's folder.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        FileExistsError: If the version exists.
        ValueError: If buckets or batch sizes are not increasing, another option is out of range, or a tokenizer is not
            that of the model.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Export needs Keras on TensorFlow, but it runs on {keras.backend.backend()!r}. Save the model as .keras, "
            "and load and export it in a process with KERAS_BACKEND=tensorflow."
        )
    buckets, batch_sizes = check_sizes(buckets, "buckets"), check_sizes(batch_sizes, "batch_sizes")
    max_length = 2 * buckets[-1] if max_length is None else max_length
    _check_options(max_length, too_long, version)
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
    run = _decoder(model, strategy, max_length)
    endpoints = {
        name: _endpoint(model, function, reader, target, buckets, too_long)
        for name, function in (("serving_default", run), ("serving_xla", _compiled(run, batch_sizes)))
    }
    base.mkdir(parents=True, exist_ok=True)
    # Servers look at folders whose name is a number; a rename within a folder is atomic.
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=base) as scratch:
        unfinished = pathlib.Path(scratch) / folder.name
        _write(
            unfinished, model, [part for part in (reader, target) if part is not None], endpoints, _signature(reader)
        )
        if warmup:
            write_warmup(unfinished, base.name, reader, buckets, batch_sizes)
        shutil.copymode(base, unfinished)
        unfinished.rename(folder)
    return folder


def _next_version(base: pathlib.Path) -> int:
    numbers = [int(entry.name) for entry in base.iterdir() if entry.name.isdecimal()] if base.is_dir() else []
    return max(numbers, default=0) + 1


def _decoder(model: Any, strategy: Callable[..., Decoded], max_length: int) -> Endpoint:
    def decode(ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        decoded = model.decode(ids, lengths, strategy=strategy, max_length=max_length)
        return {"tokens": decoded.tokens, "lengths": decoded.lengths, "scores": decoded.scores}

    return decode


def _compiled(run: Endpoint, batch_sizes: Sequence[int]) -> Endpoint:
    specs = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]
    compiled = tf.function(run, jit_compile=True, autograph=False, input_signature=specs)
    return lambda ids, lengths: in_batches(compiled, ids, lengths, batch_sizes)


def _check_options(max_length: int, too_long: str, version: Any) -> None:
    if max_length < 1:
        raise ValueError(f"max_length={max_length}, but a model must write at least 1 token, the end.")
    if too_long not in get_args(TooLong):
        raise ValueError(f"too_long={too_long!r}, but it must be one of {get_args(TooLong)}.")
    if version is not None and (not isinstance(version, int) or version < 0):
        raise ValueError(
            f"version={version!r}, but servers look for whole numbers from 0 on. Leave it out for the next."
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
    model: Any, run: Endpoint, source: Any, target: Any, buckets: Sequence[int], too_long: TooLong
) -> Endpoint:
    def answer(ids: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        ids, lengths = pad_to_bucket(ids, lengths, buckets, model.pad_id, too_long)
        outputs = run(ids if source is not None else check_ids(ids, model.source_vocabulary_size), lengths)
        return outputs if target is None else {"text": target.detokenize(outputs["tokens"]), **outputs}

    def from_text(text: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(*source(text))

    def from_tokens(tokens: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(tokens, lengths)

    return from_tokens if source is None else from_text


def _signature(source: Any) -> list[tf.TensorSpec]:
    if source is not None:
        return [tf.TensorSpec([None], tf.string, name="text")]
    return [tf.TensorSpec([None, None], tf.int32, name="tokens"), tf.TensorSpec([None], tf.int32, name="lengths")]


def _write(
    folder: pathlib.Path, model: Any, tokenizers: list, endpoints: dict[str, Endpoint], signature: list[tf.TensorSpec]
) -> None:
    # A plain tf.saved_model.save of Keras layers cannot be loaded by the session that TensorFlow Serving uses.
    archive = keras.export.ExportArchive()
    archive.track(model)
    for tokenizer in tokenizers:
        archive.track(tokenizer)
    for name, endpoint in endpoints.items():
        function = tf.function(endpoint, autograph=False, input_signature=signature)
        function.get_concrete_function()
        archive.add_endpoint(name, function)
    archive.write_out(os.fspath(folder), verbose=False)
