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
    """Run kseq-serve and its playground while the block runs; gives `(rest_port, grpc_port)` once the model answers."""
    rest_port, grpc_port = free_port(), free_port()
    command = [str(pathlib.Path(sys.executable).with_name("kseq-serve")), f"--model_name={name}",
               f"--model_base_path={pathlib.Path(base_path).resolve()}", f"--port={grpc_port}",
               f"--rest_api_port={rest_port}", "--enable_playground"]  # fmt: skip
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


def ask_rest(port, name, instances):
    """Return the predictions, one dict for each of `instances`: texts, or dicts of a model's inputs."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/models/{name}:predict", json.dumps({"instances": list(instances)}).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


def ask_grpc(port, name, **inputs):
    """Return the outputs, a dict of arrays; strings are str."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    outputs = {key: tf.make_ndarray(value) for key, value in response.outputs.items()}
    decode = np.vectorize(bytes.decode, otypes=[object])
    return {key: decode(value) if value.dtype == object else value for key, value in outputs.items()}


def served_equal(rest, remote, own):
    """Whether REST and gRPC gave the model's own texts and integers exactly, and the others to what JSON prints."""

    def equal(answer, value):
        if value.dtype.kind == "f":
            return np.allclose(answer, value, rtol=1e-5, atol=1e-5)
        return np.asarray(answer).tolist() == value.tolist()

    return all(equal([row[key] for row in rest], own[key]) and equal(remote[key], own[key]) for key in own)
