"""Replays a version's recorded requests before it becomes available, so that its first client does not wait.

The records are a TFRecord file of ``PredictionLog`` at ``assets.extra/tf_serving_warmup_requests`` in the version's
folder. One record that fails, fails the version.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError

from kseq_serving import signature
from kseq_serving.errors import Code, InvalidArgumentError, ServingError, UnimplementedError
from kseq_serving.protos import PredictionLog
from kseq_serving.session import SavedModelSession

RECORDS = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000

_log = logging.getLogger(__name__)


def replay(session: SavedModelSession, folder: str, iterations: int = 1) -> None:
    """Runs every record of a version's warm-up file.

    Args:
        session: the version.
        folder: its folder; without a warm-up file in it nothing is done.
        iterations: how often each record is run.

    Raises:
        ServingError: a record failed, cannot be read, or is one too many.
    """
    path = Path(folder) / RECORDS
    if not path.exists():
        return
    started = time.monotonic()
    count = 0
    try:
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            request = _parse(record, path)
            for _ in range(iterations):
                _run(session, request)
            count += 1
            if count > MAX_RECORDS:
                raise InvalidArgumentError(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
    except tf.errors.DataLossError as error:
        message = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise ServingError(Code.DATA_LOSS, message) from error
    _log.info("Replayed %d warm-up records of %s in %.3f s", count, path, time.monotonic() - started)


def _parse(record: bytes, path: Path) -> PredictionLog:
    try:
        return PredictionLog.FromString(record)
    except DecodeError as error:
        shown = record.decode("utf-8", "surrogateescape")
        raise InvalidArgumentError(f"Failed to parse warmup record: {shown} from {path}") from error


def _run(session: SavedModelSession, record: PredictionLog) -> None:
    kind = record.WhichOneof("log_type")
    if kind == "predict_log":
        request = record.predict_log.request
        name = request.model_spec.signature_name
        signature.run(session, name, request.inputs, output_filter=request.output_filter)
    elif kind is not None:
        number = PredictionLog.DESCRIPTOR.fields_by_name[kind].number
        raise UnimplementedError(f"Unsupported log_type for warmup: {number}")
