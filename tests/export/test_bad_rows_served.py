"""Bad requests among good ones on a server that puts both into one batch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

import kseq
from tests.kseq_serving.clients import KSEQ_SERVE, ServerProcess

pytestmark = pytest.mark.server
BAD_ID = 1000


@pytest.fixture(scope="module")
def server(export_small, tmp_path_factory):
    """A server with batching, started by the export's own script."""
    base = tmp_path_factory.mktemp("models") / "ids"
    export_small(base, buckets=(4, 8), batch_sizes=(1, 4, 8))
    command = base / "kseq-serve"
    command.write_text(f'#!/bin/sh\nexec {" ".join(KSEQ_SERVE)} "$@"\n')
    command.chmod(0o755)
    server = ServerProcess(base / "log", command=["env", f"SERVER={command}", "sh", str(base / "serve.sh")])
    server.base = base
    try:
        yield server.wait_ready()
    finally:
        assert server.stop() == 0


def row(index):
    """Return the ids of a request; every tenth has one outside the vocabulary."""
    ids = np.random.default_rng(index % 20).integers(4, 8, size=2 + index % 7)
    if index % 10 == 9:
        ids[1] = BAD_ID + index
    return ids


def ask(server, ids, **lengths):
    return server.rest("POST", "/v1/models/ids:predict", {"inputs": {"tokens": [ids.tolist()], **lengths}})


def batches_of_several(server):
    text = server.rest("GET", "/monitoring/prometheus/metrics")[1].decode()
    name = ":tensorflow:serving:batching_session:processed_batch_size_bucket"
    counts = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith(name)]
    alone = sum(float(count) for label, count in counts if 'le="1"' in label)
    return sum(float(count) for label, count in counts if 'le="+Inf"' in label) - alone


def test_bad_rows_answer_for_themselves(server, small):
    search = kseq.decoding.GreedySearch()
    expected = {}
    for index in range(100):
        ids = row(index)
        if ids.max() < BAD_ID:
            own = small.decode(ids[None].astype("int32"), np.array([len(ids)]), strategy=search, max_length=6)
            expected[index] = np.asarray(own.tokens)[0].tolist()
    together = threading.Barrier(16)

    def request(index):
        if index < 96:
            together.wait(60)  # so that requests share batches
        return ask(server, row(index), lengths=[len(row(index))])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(request, range(100)))
    for index, (status, body) in enumerate(answers):
        assert status == 200, body
        outputs = body["outputs"]
        if index in expected:
            assert (outputs["error"], outputs["tokens"]) == ([""], [expected[index]])
        else:
            reason = f"tokens[1] is {BAD_ID + index}, but the ids of the model's vocabulary are 0 to 7."
            assert (outputs["error"], outputs["lengths"]) == ([reason], [[0]])
    assert batches_of_several(server) > 0


def ask_by_grpc(server, ids):
    """Send a request without lengths."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "ids"
    request.inputs["tokens"].CopyFrom(tf.make_tensor_proto(ids[None].astype("int32")))
    return server.predict(request).outputs


def test_a_server_that_pads_refuses_a_request_without_lengths(server):
    """The full length would be that of the batch. Such a request is refused before it comes into one."""
    status, body = ask(server, row(0), lengths=[])
    assert status == 400
    assert "must have equal 0th-dimension size" in body["error"], body
    with pytest.raises(grpc.RpcError, match="must have equal 0th-dimension size"):
        ask_by_grpc(server, row(0))


def test_a_server_without_batching_takes_requests_without_lengths(server, tmp_path):
    """Over gRPC they may be absent, over REST an empty list."""
    folder = server.base
    alone = ServerProcess(tmp_path / "log", "--model_name=ids", f"--model_base_path={folder}")
    try:
        alone.wait_ready()
        ids = row(0)
        expected = ask(alone, ids, lengths=[len(ids)])[1]["outputs"]
        assert ask(alone, ids, lengths=[]) == (200, {"outputs": expected})
        assert tf.make_ndarray(ask_by_grpc(alone, ids)["tokens"]).tolist() == expected["tokens"]
    finally:
        assert alone.stop() == 0
