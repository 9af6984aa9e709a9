"""Warm-up requests, which a server runs when it loads a model, so that no client waits for the first of each shape."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kseq.models.export_contract import StepInputs

MAX_RECORDS = 1000  # TensorFlow Serving refuses a model with more
WARMUP_FILE = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"


def write_warmup(
    folder: pathlib.Path,
    name: str,
    source: Any,
    buckets: Sequence[int],
    batch_sizes: Sequence[int],
    *,
    seed_input: bool = False,
) -> None:
    """Write one request to `serving_default` for each bucket and batch size, as TFRecords of `PredictionLog`.

    Args:
        folder: The version's folder.
        name: The model's name in the requests; servers ignore it.
        source: Tokenizer of the inputs, or the `StepInputs` of a model without one.
        buckets: Lengths in tokens or frames.
        batch_sizes: Batch sizes.
        seed_input: Whether requests contain a seed for each row.

    Raises:
        ImportError: If tensorflow-serving-api is not installed.
        ValueError: If there are more than 1000 requests.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            'A warm-up file needs tensorflow-serving-api. Install it with `pip install "kseq[serving]"`, or export '
            "with warmup=False."
        ) from error
    count = len(buckets) * len(batch_sizes)
    if count > MAX_RECORDS:
        raise ValueError(
            f"{len(buckets)} buckets x {len(batch_sizes)} batch sizes are {count} warm-up requests, but a server takes "
            f"at most {MAX_RECORDS}. Use fewer, or export with warmup=False."
        )
    path = folder / WARMUP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for inputs in _requests(source, buckets, batch_sizes, seed_input):
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = "serving_default"
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def _requests(
    source: Any, buckets: Sequence[int], batch_sizes: Sequence[int], seed_input: bool
) -> Iterator[dict[str, np.ndarray]]:
    for bucket in buckets:
        text = None if isinstance(source, StepInputs) else text_of_length(source, bucket)
        for size in batch_sizes:
            request = source.sample(size, bucket) if text is None else {"text": np.array([text] * size, object)}
            yield {**request, "seed": np.arange(size, dtype="int64")} if seed_input else request


def text_of_length(tokenizer: Any, length: int) -> bytes:
    """Return a text of `length` tokens, one token repeated; if none of the first tokens gives it, the longest found."""
    best, longest = b"", -1
    first = len(tokenizer.special_tokens)
    for token in range(first, min(first + 10, tokenizer.vocabulary_size)):
        text = tokenizer.detokenize(np.full((1, length), token, "int32"))
        # The text may have fewer tokens: white space collapses to one, and the tokenizer may limit its rows.
        made = min(int(tokenizer.tokenize(text).row_lengths()[0]), length)
        if made > longest:
            best, longest = text.numpy()[0], made
        if longest == length:
            break
    return best
