from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kseq_serving.errors import Code, ServingError
from kseq_serving.inference import warmup
from kseq_serving.metrics import Metrics
from kseq_serving.models.run_context import UNBOUNDED, RunContext
from kseq_serving.models.session import SavedModelSession
from kseq_serving.protocol.protos import ConfigProto, PredictionLog, SignatureDef


class CountingSession:
    """Fake session that counts its runs."""

    def __init__(self) -> None:
        signature = SignatureDef()
        signature.inputs["x"].name = "x:0"
        signature.outputs["y"].name = "y:0"
        regress, classify = SignatureDef(), SignatureDef()
        for examples, output in ((regress, "outputs"), (classify, "scores")):
            examples.inputs["inputs"].name = "examples:0"
            examples.outputs[output].name = f"{output}:0"
        self.signatures = {"serving_default": signature, "regress": regress, "classify": classify}
        self.runs = 0

    def run(self, feeds: dict, fetches: list, *, timeout_s: float | None = None) -> dict:
        self.runs += 1
        return {name: np.ones((1, 1), np.float32) for name in fetches}


def record(**spec: str) -> PredictionLog:
    log = PredictionLog()
    log.predict_log.request.model_spec.signature_name = spec.get("signature", "")
    log.predict_log.request.inputs[spec.get("input", "x")].CopyFrom(tf.make_tensor_proto([1.0]))
    return log


def write(folder: Path, *records: bytes) -> Path:
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for data in records:
            writer.write(data)
    return path


def runs(folder: Path, iterations: int = 1) -> int:
    session = CountingSession()
    warmup.replay(session, str(folder), UNBOUNDED, iterations)  # pyright: ignore[reportArgumentType]
    return session.runs


def error(folder: Path) -> ServingError:
    with pytest.raises(ServingError) as caught:
        runs(folder)
    return caught.value


def test_no_file_is_no_warm_up(tmp_path: Path):
    assert runs(tmp_path) == 0


def test_every_record_runs(tmp_path: Path):
    write(tmp_path, *[record().SerializeToString()] * 3, PredictionLog().SerializeToString())
    assert runs(tmp_path) == 3
    assert runs(tmp_path, iterations=5) == 15


def test_a_record_that_does_not_fit_fails_the_version(tmp_path: Path):
    write(tmp_path, record().SerializeToString(), record(input="nope").SerializeToString())
    assert str(error(tmp_path)) == (
        "INVALID_ARGUMENT: Signature input alias: x(feed name: x:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {nope}, or default input alias set: "
    )


def test_other_kinds_of_records(tmp_path: Path):
    log = PredictionLog()
    log.session_run_log.SetInParent()
    write(tmp_path, log.SerializeToString())
    assert str(error(tmp_path)) == "UNIMPLEMENTED: Unsupported log_type for warmup: 5"


def test_records_of_examples(tmp_path: Path):
    """Records of classify, regress and a MultiInference of both make three runs."""
    regress, classify, several = PredictionLog(), PredictionLog(), PredictionLog()
    regress.regress_log.request.input.example_list.examples.add()
    regress.regress_log.request.model_spec.signature_name = "regress"
    classify.classify_log.request.input.example_list.examples.add()
    classify.classify_log.request.model_spec.signature_name = "classify"
    for name in ("regress", "classify"):
        task = several.multi_inference_log.request.tasks.add(method_name=f"tensorflow/serving/{name}")
        task.model_spec.name, task.model_spec.signature_name = "m", name
    several.multi_inference_log.request.input.example_list.examples.add()
    write(tmp_path, *(log.SerializeToString() for log in (regress, classify, several)))
    assert runs(tmp_path) == 3


def test_what_was_replayed_is_counted(tmp_path: Path):
    write(tmp_path, *[record().SerializeToString()] * 2)
    metrics = Metrics()
    warmup.replay(CountingSession(), str(tmp_path), RunContext(metrics=metrics))  # pyright: ignore[reportArgumentType]
    count = f':tensorflow:serving:model_warmup_records_read{{model_path="{tmp_path}",status="OK"}} 2\n'
    assert count in metrics.render().decode()


def test_a_thousand_records_are_enough(tmp_path: Path):
    path = write(tmp_path, *[PredictionLog().SerializeToString()] * 1001)
    assert str(error(tmp_path)) == f"INVALID_ARGUMENT: Number of warmup records exceeds the maximum (1000) at {path}"


def test_a_corrupt_file(tmp_path: Path):
    path = write(tmp_path, record().SerializeToString())
    data = bytearray(path.read_bytes())
    data[14] ^= 0xFF
    path.write_bytes(data)
    caught = error(tmp_path)
    assert caught.code is Code.DATA_LOSS
    assert caught.message == "corrupted record at 12. Please verify your warmup data is in TFRecord format."


def test_it_runs_on_a_real_session(models: Path):
    session = SavedModelSession(str(models / "toy" / "1"), ["serve"], ConfigProto())
    try:
        warmup._run(session, record(), UNBOUNDED)
        with pytest.raises(ServingError, match='Serving signature key "no" not found'):
            warmup._run(session, record(signature="no"), UNBOUNDED)
    finally:
        session.close()
