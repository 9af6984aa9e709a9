"""Warm-up requests, which a server runs when it loads a model, so that no client waits for the first of each shape."""

import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

MAX_RECORDS = 1000  # TensorFlow Serving refuses a model with more
WARMUP_FILE = pathlib.Path("assets.extra") / "tf_serving_warmup_requests"


def write_warmup(
    folder: pathlib.Path,
    name: str,
    sample: Callable[[int, int], dict[str, np.ndarray]],
    buckets: Sequence[int],
    batch_sizes: Sequence[int],
) -> None:
    """Write one request to `serving_default` for each bucket and batch size, as TFRecords of `PredictionLog`.

    Args:
        folder: The version's folder.
        name: The model's name in the requests; servers ignore it.
        sample: Returns a request by number of rows and steps.
        buckets: Lengths in tokens or frames.
        batch_sizes: Batch sizes.

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
        for inputs in (sample(size, bucket) for bucket in buckets for size in batch_sizes):
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = name
            request.model_spec.signature_name = "serving_default"
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())
