"""Warm-up: recorded requests that are replayed before a version becomes available, so that its first client is fast.

The records are a TFRecord file of `PredictionLog` at `assets.extra/tf_serving_warmup_requests` in the version's
folder. If one record fails, the version fails to load.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError

from kseq_serving.errors import Code, InvalidArgumentError, ServingError, UnimplementedError
from kseq_serving.inference import classify, multi_inference, predict, regress
from kseq_serving.models.run_context import RunContext
from kseq_serving.models.session import ModelSession
from kseq_serving.protocol.protos import PredictionLog

RECORDS = Path("assets.extra") / "tf_serving_warmup_requests"
MAX_RECORDS = 1000

_log = logging.getLogger(__name__)


def replay(session: ModelSession, folder: str, context: RunContext, iterations: int = 1) -> None:
    """Run every record of a version's warm-up file, if it has one.

    Args:
        session: The loaded version.
        folder: Folder of the version.
        context: Time limit of each run, and where its time is recorded.
        iterations: Number of times each record is run.

    Raises:
        ServingError: If a record fails or cannot be read, or there are more than `MAX_RECORDS`.
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
                _run(session, request, context)
            count += 1
            if count > MAX_RECORDS:
                raise InvalidArgumentError(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}")
        _record(context, folder, Code.OK, count, started)
    except ServingError as error:
        _record(context, folder, error.code, count, started)
        raise
    except tf.errors.DataLossError as error:
        _record(context, folder, Code.DATA_LOSS, count, started)
        message = f"{error.message}. Please verify your warmup data is in TFRecord format."
        raise ServingError(Code.DATA_LOSS, message) from error
    _log.info("Replayed %d warm-up records of %s in %.3f s", count, path, time.monotonic() - started)


def _record(context: RunContext, folder: str, code: Code, count: int, started: float) -> None:
    if context.metrics:
        context.metrics.warmup(folder, code, count, time.monotonic() - started)


def _parse(record: bytes, path: Path) -> PredictionLog:
    try:
        return PredictionLog.FromString(record)
    except DecodeError as error:
        shown = record.decode("utf-8", "surrogateescape")
        raise InvalidArgumentError(f"Failed to parse warmup record: {shown} from {path}") from error


def _run(session: ModelSession, record: PredictionLog, context: RunContext) -> None:
    kind = record.WhichOneof("log_type")
    if kind is None:
        return
    log = getattr(record, kind)
    if kind == "predict_log":
        spec = log.request.model_spec
        context = dataclasses.replace(context, model=spec.name)
        request = log.request
        signature = predict.find(session.signatures, spec.signature_name)
        predict.run(session, signature, request.inputs, output_filter=request.output_filter, context=context)
    elif kind == "classify_log":
        classify.run(session, log.request, dataclasses.replace(context, model=log.request.model_spec.name))
    elif kind == "regress_log":
        regress.run(session, log.request, dataclasses.replace(context, model=log.request.model_spec.name))
    elif kind == "multi_inference_log":
        name = multi_inference.model_spec(log.request).name
        multi_inference.run(session, log.request, dataclasses.replace(context, model=name))
    else:
        number = PredictionLog.DESCRIPTOR.fields_by_name[kind].number
        raise UnimplementedError(f"Unsupported log_type for warmup: {number}")
