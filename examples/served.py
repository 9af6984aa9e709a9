"""Start kseq-serve on free ports of the loopback, and ask it over REST and over gRPC, for the other examples."""

import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(name, base_path, timeout_s=120.0):
    """Run kseq-serve while the block runs; gives `(rest_port, grpc_port)` once the model answers."""
    rest_port, grpc_port = free_port(), free_port()
    command = [str(pathlib.Path(sys.executable).with_name("kseq-serve")), f"--model_name={name}",
               f"--model_base_path={pathlib.Path(base_path).resolve()}", f"--port={grpc_port}",
               f"--rest_api_port={rest_port}"]  # fmt: skip
    server = subprocess.Popen(command)
    try:
        wait_until_available(server, f"http://127.0.0.1:{rest_port}/v1/models/{name}", timeout_s)
        yield rest_port, grpc_port
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_available(server, url, timeout_s):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=5) as answer:
            if json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE":
                return
        time.sleep(0.1)
    raise RuntimeError(f"kseq-serve did not answer at {url} within {timeout_s} s (exit code {server.poll()}).")


def ask_rest(port, name, texts):
    """Return the predictions, one dict a text."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/{name}:predict", json.dumps({"instances": list(texts)}).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


def ask_grpc(port, name, texts):
    """Return the outputs, a dict of arrays; strings are str."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.inputs["text"].CopyFrom(tf.make_tensor_proto(list(texts), tf.string))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    outputs = {key: tf.make_ndarray(value) for key, value in response.outputs.items()}
    outputs["text"] = np.vectorize(bytes.decode, otypes=[object])(outputs["text"])
    return outputs


def served_equal(texts, rest, remote, own):
    """Whether REST and gRPC gave the model's own texts exactly, and its scores to what JSON prints."""
    return (
        [row["text"] for row in rest] == remote["text"].tolist() == own["text"].tolist()
        and np.allclose([row["scores"] for row in rest], own["scores"], rtol=1e-5, atol=1e-5)
        and np.allclose(remote["scores"], own["scores"], rtol=1e-5, atol=1e-5)
    )
