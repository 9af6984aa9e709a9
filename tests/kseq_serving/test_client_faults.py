"""Client against servers that are down, fail, are slow or send answers that are too large."""

import asyncio
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from kseq_serving import AsyncKseqClient, CallError, KseqClient, RetryPolicy, TlsOptions
from kseq_serving.errors import Code
from tests.kseq_serving.fake_servers import BREAK, FakeGrpc, FakeRest
from tests.kseq_serving.ports import free_port

pytestmark = pytest.mark.server

QUICK = RetryPolicy(max_attempts=4, first_delay_s=0.01)
Served = FakeGrpc | FakeRest


@pytest.fixture(params=["grpc", "http"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def serve(protocol: str) -> Iterator[Callable[..., Served]]:
    """Function that starts a fake server with the given failures."""
    started: list[Served] = []

    def start(*failures: Any, port: int = 0) -> Served:
        server = FakeGrpc(f"127.0.0.1:{port}", *failures) if protocol == "grpc" else FakeRest(port, *failures)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def connect(protocol: str) -> Iterator[Callable[..., KseqClient]]:
    opened: list[KseqClient] = []

    def open_client(port: int, **options: Any) -> KseqClient:
        opened.append(KseqClient(f"{protocol}://127.0.0.1:{port}", **{"retry": QUICK} | options))
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()


def test_what_another_attempt_may_mend_is_tried_again(serve: Callable, connect: Callable):
    server = serve(Code.UNAVAILABLE, Code.UNAVAILABLE, Code.UNAVAILABLE)
    assert connect(server.port).predict("m", {"x": [1.0]})["y"].tolist() == [1.0]
    assert server.fake.asked == ["metadata"] + ["predict"] * 4


def test_it_gives_up_after_the_attempts_of_its_policy(serve: Callable, connect: Callable, protocol: str):
    server = serve(*[Code.UNAVAILABLE] * 9)
    with pytest.raises(CallError) as caught:
        connect(server.port).predict("m", {"x": [1.0]})
    assert (caught.value.code, caught.value.message, caught.value.attempts) == (
        Code.UNAVAILABLE,
        "as the test wants",
        4,
    )
    status = "" if protocol == "grpc" else "HTTP 503, "
    assert f"UNAVAILABLE: as the test wants ({protocol}://127.0.0.1:{server.port}, {status}4 attempts)" in str(
        caught.value
    )
    assert server.fake.asked.count("predict") == 4


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.INTERNAL])
def test_what_no_attempt_mends_is_not_tried_again(serve: Callable, connect: Callable, code: Code):
    server = serve(code)
    client = connect(server.port)
    with pytest.raises(CallError) as caught:
        client.predict("m", {"x": [1.0]})
    assert (caught.value.code, caught.value.attempts) == (code, 1)
    assert server.fake.asked.count("predict") == 1
    # The same with a known signature: the client fetches it again, and finds it unchanged.
    server.fake.failures.append(code)
    with pytest.raises(CallError):
        client.predict("m", {"x": [1.0]})
    assert server.fake.asked.count("predict") == 2


def test_overload_is_tried_again(serve: Callable, connect: Callable):
    server = serve(Code.RESOURCE_EXHAUSTED)
    policy = RetryPolicy(first_delay_s=0.01)
    assert connect(server.port, retry=policy).predict("m", {"x": [1.0]})["y"].tolist() == [1.0]
    assert server.fake.asked.count("predict") == 2


def test_a_connection_that_breaks_before_the_answer_is_made_again():
    server = FakeRest(0, BREAK, BREAK)
    with KseqClient(f"http://127.0.0.1:{server.port}", retry=QUICK) as client:
        assert client.predict("m", {"x": [1.0]})["y"].tolist() == [1.0]
    assert server.fake.asked.count("predict") == 3
    server.stop()


def test_a_server_that_is_down(connect: Callable):
    client = connect(free_port())
    with pytest.raises(CallError) as caught:
        client.predict("m", {"x": [1.0]})
    assert (caught.value.code, caught.value.attempts, caught.value.http_status) == (Code.UNAVAILABLE, 4, None)
    assert not client.is_ready("m")
    with pytest.raises(CallError, match=r"m is not ready after 0\.2 s; at last: UNAVAILABLE"):
        client.wait_until_ready("m", timeout_s=0.2)


def test_a_server_that_comes_up_and_one_that_comes_back(serve: Callable, connect: Callable):
    port = free_port()
    client = connect(port, retry=RetryPolicy(max_attempts=100, first_delay_s=0.05, max_delay_s=0.1))
    with ThreadPoolExecutor(1) as pool:
        for number in (1.0, 2.0):
            waiting = pool.submit(client.predict, "m", {"x": [number]}, timeout_s=20)
            time.sleep(0.3)
            assert not waiting.done()
            server = serve(port=port)
            assert waiting.result()["y"].tolist() == [number]
            server.stop()


def test_no_attempt_is_begun_that_would_be_too_late(serve: Callable, connect: Callable):
    server = serve(*[Code.UNAVAILABLE] * 9)
    client = connect(server.port, retry=RetryPolicy(first_delay_s=0.02, factor=10.0, max_delay_s=100.0))
    started = time.monotonic()
    with pytest.raises(CallError) as caught:
        client.predict("m", {"x": [1.0]}, timeout_s=1.0)  # the third wait is 1 to 2 s
    assert time.monotonic() - started < 0.9
    assert (caught.value.code, caught.value.message) == (Code.UNAVAILABLE, "as the test wants")
    assert caught.value.attempts == server.fake.asked.count("predict") == 3


def test_a_deadline_that_runs_out(serve: Callable, connect: Callable):
    gate = threading.Event()
    server = serve(Code.UNAVAILABLE, lambda: gate.wait(10))
    started = time.monotonic()
    with pytest.raises(CallError) as caught:
        connect(server.port).predict("m", {"x": [1.0]}, timeout_s=0.5)
    assert 0.4 < time.monotonic() - started < 1.5
    gate.set()
    assert (caught.value.code, caught.value.attempts) == (Code.DEADLINE_EXCEEDED, 2)
    assert server.fake.asked.count("predict") == 2
    with pytest.raises(ValueError, match="timeout_s is a positive number of seconds, got 0"):
        connect(server.port).predict("m", {"x": [1.0]}, timeout_s=0)


def test_the_signature_is_fetched_once(serve: Callable, protocol: str):
    server = serve()

    async def ask() -> list[float]:
        async with AsyncKseqClient(f"{protocol}://127.0.0.1:{server.port}") as client:
            answers = await asyncio.gather(*(client.predict("m", {"x": [x]}) for x in range(50)))
            return [float(answer["y"][0]) for answer in answers]

    assert asyncio.run(ask()) == list(range(50))
    assert server.fake.asked.count("metadata") == 1


def test_a_closed_asynchronous_client_tries_nothing_again(serve: Callable, protocol: str):
    gate = threading.Event()
    server = serve(lambda: gate.wait(10))

    async def ask() -> object:
        client = AsyncKseqClient(f"{protocol}://127.0.0.1:{server.port}", retry=QUICK)
        waiting = asyncio.create_task(client.predict("m", {"x": [1.0]}))
        while "predict" not in server.fake.asked:
            await asyncio.sleep(0.01)
        await client.close()
        (ended,) = await asyncio.gather(waiting, return_exceptions=True)
        with pytest.raises(RuntimeError, match="This AsyncKseqClient is closed"):
            await client.is_ready("m")
        return ended

    ended = asyncio.run(ask())
    gate.set()
    assert isinstance(ended, RuntimeError | CallError | asyncio.CancelledError)
    assert server.fake.asked.count("predict") == 1


def test_a_cancelled_call_ends_and_the_client_goes_on(serve: Callable, protocol: str):
    gate = threading.Event()
    server = serve(lambda: gate.wait(10))

    async def ask() -> list[float]:
        async with AsyncKseqClient(f"{protocol}://127.0.0.1:{server.port}") as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.predict("m", {"x": [1.0]}), 0.2)
            return (await client.predict("m", {"x": [2.0]}))["y"].tolist()

    assert asyncio.run(ask()) == [2.0]
    gate.set()


def test_an_answer_that_is_too_large(serve: Callable, connect: Callable):
    client = connect(serve().port, max_message_bytes=10_000)
    assert client.predict("m", {"x": [0.5] * 100})["y"].tolist() == [0.5] * 100
    with pytest.raises(CallError, match="larger than") as caught:
        client.predict("m", {"x": [0.5] * 10_000})
    assert (caught.value.code, caught.value.attempts) == (Code.RESOURCE_EXHAUSTED, 1)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"outputs": {"z": 1}}', b'{"outputs": [[1.0], 2.0]}', b"{}"])
def test_an_answer_that_is_none(body: bytes):
    server = FakeRest(0, body)
    with (
        KseqClient(f"http://127.0.0.1:{server.port}", retry=QUICK) as client,
        pytest.raises(CallError, match=rf"the answer cannot be read .*: {re.escape(body.decode())}") as caught,
    ):
        client.predict("m", {"x": [1.0]})
    assert (caught.value.code, caught.value.http_status, caught.value.attempts) == (Code.DATA_LOSS, 200, 1)
    server.stop()


def test_a_socket_of_the_file_system(tmp_path: Path):
    server = FakeGrpc(f"unix:{tmp_path}/s")
    with KseqClient(f"unix:{tmp_path}/s") as client:
        assert client.predict("m", {"x": [1.0]})["y"].tolist() == [1.0]
    server.stop()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """PEM files: the certificate of an authority, and certificates and keys of a server and a client."""
    authority, folder = trustme.CA(), tmp_path_factory.mktemp("tls")
    files = {"ca": folder / "ca.pem"}
    authority.cert_pem.write_to_path(files["ca"])
    for name, identity in (("server", "models.example.org"), ("client", "client@example.org")):
        issued = authority.issue_cert(identity)
        files |= {name: folder / f"{name}.pem", f"{name}_key": folder / f"{name}_key.pem"}
        issued.private_key_pem.write_to_path(files[f"{name}_key"])
        for blob in issued.cert_chain_pems:
            blob.write_to_path(files[name], append=True)
    return files


@pytest.fixture
def secure_port(protocol: str, certificates: dict[str, Path]) -> Iterator[int]:
    """Port of a server that verifies its clients."""
    if protocol == "grpc":
        key, chain, ca = (certificates[name].read_bytes() for name in ("server_key", "server", "ca"))
        server = FakeGrpc("127.0.0.1:0", credentials=grpc.ssl_server_credentials([(key, chain)], ca, True))
    else:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates["ca"])
        context.load_cert_chain(certificates["server"], certificates["server_key"])
        context.verify_mode = ssl.CERT_REQUIRED
        server = FakeRest(0, context=context)
    yield server.port
    server.stop()


def test_tls(protocol: str, secure_port: int, certificates: dict[str, Path]):
    address = f"{protocol}s://127.0.0.1:{secure_port}"
    own = {"certificate_file": certificates["client"], "key_file": certificates["client_key"]}
    proved = TlsOptions(ca_file=certificates["ca"], server_name="models.example.org", **own)
    with KseqClient(address, tls=proved) as client:
        assert client.predict("m", {"x": [1.0]})["y"].tolist() == [1.0]
    refused = [
        TlsOptions(ca_file=certificates["ca"], server_name="models.example.org"),
        TlsOptions(server_name="models.example.org", **own),
        TlsOptions(ca_file=certificates["ca"], server_name="other.example.org", **own),
    ]
    for options in refused:
        with KseqClient(address, tls=options, retry=RetryPolicy(max_attempts=1)) as client:
            with pytest.raises(CallError) as caught:
                client.predict("m", {"x": [1.0]}, timeout_s=5)
            assert caught.value.code is Code.UNAVAILABLE


def test_a_client_that_was_forked_says_so(serve: Callable, connect: Callable, monkeypatch: pytest.MonkeyPatch):
    client = connect(serve().port)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="does not survive a fork"):
            client.is_ready("m")
