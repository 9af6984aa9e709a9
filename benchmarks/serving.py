"""Requests per second and latency of kseq-serve on loopback, over REST and gRPC, with and without batching.

Each client sends its next request when the last one is answered (closed loop). With --rates, requests are due at a
fixed rate and sent by the next free one of 64 clients (open loop); a latency then counts from the time that the request
was due. Server and clients share the machine, so both cost time. The first row runs the model's session in a loop,
without a server. With --wrk, the program wrk (Debian: apt-get install wrk) sends the REST requests of the closed loop,
from one thread; its clients take a fraction of the time of those in Python.

usage: python benchmarks/serving.py [--seconds 5] [--clients 1 8 64] [--rates 500 1000] [--rival HOST:PORT/PATH]
       [--model FOLDER --body JSON] [--wrk]
"""

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf

from kseq_serving.inference import predict
from kseq_serving.models import op_libraries
from kseq_serving.models.session import SavedModelSession
from kseq_serving.protocol.protos import ConfigProto, PredictRequest
from kseq_serving.protocol.tensors import fill
from kseq_serving.rest.json_request import parse, read_inputs

CLIENTS = (1, 8, 64)
METHOD = "/tensorflow.serving.PredictionService/Predict"
BATCHING = "max_batch_size { value: 64 } batch_timeout_micros { value: 0 } num_batch_threads { value: 2 }"
START_S = 120

Ask = Callable[[], Awaitable[None]]


def half_plus_two(folder: Path) -> Path:
    """Save x -> x / 2 + 2, the first model in TensorFlow Serving's documentation, and return its folder."""
    module = tf.Module()
    module.run = tf.function(lambda x: {"y": x / 2 + 2}, [tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(module, str(folder / "1"), {"serving_default": module.run.get_concrete_function()})
    return folder


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def served(model: Path, work: Path, batching: bool) -> Iterator[tuple[int, int]]:
    """Serve the model during the `with` block; yield the gRPC and the REST port."""
    ports = free_port(), free_port()
    command = [sys.executable, "-m", "kseq_serving.main", f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    command += ["--model_name=m", f"--model_base_path={model}", "--xla_cpu_compilation_enabled=true"]
    if batching:
        (work / "batching").write_text(BATCHING)
        command += ["--enable_batching=true", f"--batching_parameters_file={work / 'batching'}"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + START_S
            while socket.socket().connect_ex(("127.0.0.1", ports[1])):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"the server did not start: {' '.join(command)}")
                time.sleep(0.1)
            yield ports
        finally:
            process.send_signal(signal.SIGTERM)


@contextlib.asynccontextmanager
async def rest_client(host: str, port: int, path: str, body: bytes) -> AsyncIterator[Ask]:
    """Open a connection; yield a function that sends the request, whose bytes are built only once to save time."""
    reader, writer = await asyncio.open_connection(host, port)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body

    async def ask() -> None:
        writer.write(request)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        if b" 200 " not in answer[:20]:
            sys.exit(f"the server answered {answer!r}")

    yield ask
    writer.close()


@contextlib.asynccontextmanager
async def grpc_client(port: int, request: bytes) -> AsyncIterator[Ask]:
    """Open a channel; yield a function that sends the request."""
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        call = channel.unary_unary(METHOD)

        async def ask() -> None:
            await call(request)

        yield ask


async def load(
    connect: Callable[[], contextlib.AbstractAsyncContextManager[Ask]],
    clients: int,
    seconds: float,
    rate: float | None = None,
) -> str:
    """Return requests per second, and the median and 99th percentile of the latency, as a row of the table.

    Args:
        connect: Function that opens the connection of a client.
        clients: Number of clients.
        seconds: Duration of the load, in seconds.
        rate: Requests per second of the open loop; None for the closed loop.
    """
    latencies: list[float] = []
    count = itertools.count()

    async def client() -> None:
        async with connect() as ask:
            await ask()
            ready.release()
            await go.wait()
            while (due := started + next(count) / rate if rate else time.perf_counter()) < end:
                if rate:
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                await ask()
                latencies.append(time.perf_counter() - due)

    ready, go, started, end = asyncio.Semaphore(0), asyncio.Event(), 0.0, 0.0
    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    for _ in tasks:
        await ready.acquire()
    started = time.perf_counter()
    end = started + seconds
    go.set()
    await asyncio.gather(*tasks)
    return figures(latencies, time.perf_counter() - started)


def wrk(address: str, body: bytes, clients: int, seconds: float) -> str:
    """Return the row of the table for a closed loop of REST clients that wrk runs."""
    script = (
        f"wrk.method = 'POST'\nwrk.body = [==[{body.decode()}]==]\n"
        "wrk.headers['Content-Type'] = 'application/json'\n"
        "function done(summary, latency)\n"
        "  local errors = summary.errors\n"
        "  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout\n"
        "  local rate = summary.requests / summary.duration * 1e6\n"
        "  print('figures', rate, latency:percentile(50), latency:percentile(99), failed)\nend\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{clients}", f"-d{math.ceil(seconds)}s", "-s", file.name, f"http://{address}"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in printed.splitlines() if line.startswith("figures"))
    rate, p50, p99, failed = map(float, line.split()[1:])
    if failed:
        sys.exit(f"{failed:.0f} requests failed: {printed}")
    return f"{rate:9.0f} {p50 / 1000:9.2f} {p99 / 1000:9.2f}"


def figures(latencies: list[float], seconds: float) -> str:
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return f"{len(latencies) / seconds:9.0f} {p50:9.2f} {p99:9.2f}"


def bare(model: Path, body: bytes, seconds: float) -> tuple[bytes, str]:
    """Run the session alone in this process; return the request for gRPC, and the row of the table."""
    op_libraries.register()
    version = max(model.iterdir(), key=lambda path: int(path.name) if path.name.isdigit() else -1)
    session = SavedModelSession(str(version), ["serve"], ConfigProto())
    signature = predict.find(session.signatures, "")
    inputs = read_inputs(parse(body), signature.inputs)
    predict.run(session, signature, inputs)
    latencies, started = [], time.perf_counter()
    while (before := time.perf_counter()) < started + seconds:
        predict.run(session, signature, inputs)
        latencies.append(time.perf_counter() - before)
    request = PredictRequest()
    request.model_spec.name = "m"
    for name, array in inputs.items():
        fill(request.inputs[name], array, tf.as_dtype(array.dtype).as_datatype_enum)
    return request.SerializeToString(), figures(latencies, time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--model", type=Path, help="folder with version folders; x / 2 + 2 without it")
    parser.add_argument("--body", default='{"instances": [1.0]}', help="the REST request")
    parser.add_argument("--rival", help="host:port/path of another server that answers the same body over REST")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--wrk", action="store_true", help="send the REST requests by wrk")
    parser.add_argument("--rates", type=float, nargs="*", default=(), help="requests per second of the open loop")
    given = parser.parse_args()
    body = json.dumps(json.loads(given.body)).encode()
    print(f"CPU, {len(os.sched_getaffinity(0))} cores, tensorflow {tf.__version__}, grpcio {grpc.__version__}")
    print(f"{'':24}{'clients':>8} {'req/s':>9} {'p50 ms':>9} {'p99 ms':>9}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        model = given.model or half_plus_two(work / "m")
        request, row = bare(model, body, given.seconds)
        print(f"{'bare session':24}{1:8} {row}", flush=True)
        for batching in (False, True):
            with served(model, work, batching) as (grpc_port, rest_port):
                kinds = {
                    "REST": lambda port=rest_port: rest_client("127.0.0.1", port, "/v1/models/m:predict", body),
                    "gRPC": lambda port=grpc_port: grpc_client(port, request),
                }
                for kind, connect in kinds.items():
                    for clients in given.clients:
                        if given.wrk and kind == "REST":
                            row = wrk(f"127.0.0.1:{rest_port}/v1/models/m:predict", body, clients, given.seconds)
                        else:
                            row = asyncio.run(load(connect, clients, given.seconds))
                        print(f"{kind + (' batching' if batching else ''):24}{clients:8} {row}", flush=True)
                    for rate in given.rates:
                        row = asyncio.run(load(connect, max(CLIENTS), given.seconds, rate))
                        name = f"{kind}{' batching' if batching else ''} at {rate:g}/s"
                        print(f"{name:24}{max(CLIENTS):8} {row}", flush=True)
        if given.rival:
            address, _, path = given.rival.partition("/")
            host, _, port = address.partition(":")
            for clients in given.clients:
                if given.wrk:
                    row = wrk(given.rival, body, clients, given.seconds)
                else:
                    connect = functools.partial(rest_client, host, int(port), f"/{path}", body)
                    row = asyncio.run(load(connect, clients, given.seconds))
                print(f"{'rival REST':24}{clients:8} {row}", flush=True)


if __name__ == "__main__":
    main()
