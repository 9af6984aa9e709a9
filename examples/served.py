"""Server for the other examples: kseq-serve on free local ports, with a client for each of its protocols."""

import contextlib
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np

from kseq_serving import KseqClient


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(name, base_path, timeout_s=120.0):
    """Run kseq-serve with its playground during the `with` block; yield a client over REST and one over gRPC."""
    rest_port, grpc_port = free_port(), free_port()
    command = [str(pathlib.Path(sys.executable).with_name("kseq-serve")), f"--model_name={name}",
               f"--model_base_path={pathlib.Path(base_path).resolve()}", f"--port={grpc_port}",
               f"--rest_api_port={rest_port}", "--enable_playground"]  # fmt: skip
    server = subprocess.Popen(command)
    try:
        with KseqClient(f"http://127.0.0.1:{rest_port}") as rest, KseqClient(f"grpc://127.0.0.1:{grpc_port}") as remote:
            wait_until_ready(server, (rest, remote), name, timeout_s)
            yield rest, remote
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_until_ready(server, clients, name, timeout_s):
    deadline = time.monotonic() + timeout_s
    while not all(client.is_ready(name) for client in clients):
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"kseq-serve did not answer within {timeout_s} s (exit code {server.poll()}).")
        time.sleep(0.1)


def equal(answer, own):
    """Return whether a server's answer has the model's own texts and integers exactly, and its floats nearly."""
    return answer.keys() == own.keys() and all(
        np.allclose(answer[name], value, rtol=1e-5, atol=1e-5)
        if value.dtype.kind == "f"
        else np.array_equal(answer[name], value)
        for name, value in own.items()
    )


def ask(output, request, own):
    """Serve the model in the folder `output`; return whether its answer is `own`, and print how to start a server."""
    name, command = output.name, pathlib.Path(sys.executable).with_name("kseq-serve")
    with serving(name, output) as clients:
        same = all(equal(client.predict(name, request), own) for client in clients)
    print(f"REST and gRPC {'equal' if same else 'DIFFER FROM'} the model's own answers. To start a server:")
    print(f"  {command} --model_name={name} --model_base_path={output.resolve()} --rest_api_port=8501")
    return same
