"""Plain requests, which are served without aiohttp: equal answers, quick and hanging models, odd clients."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from kseq_serving.core import ServerCore
from kseq_serving.flags import Flags
from kseq_serving.protocol.protos import ConfigProto
from kseq_serving.rest import bodies, http_server, plain_http, plain_server
from kseq_serving.rest.api import HttpRequest, HttpResponse, RestApi
from kseq_serving.rest.http_server import HttpServer
from kseq_serving.rest.quick_paths import FORGIVEN, MAX_PATHS, MAX_PAUSE, PAUSE, QUICK_S, QuickPaths
from kseq_serving.workers import Workers
from tests.kseq_serving.clients import wait_for
from tests.kseq_serving.conftest import Run
from tests.kseq_serving.ports import free_port

PATH = "/v1/models/m:predict"
ODD = {"Cookie": "a=b"}  # a header that sends a request to aiohttp


class EchoApi(RestApi):
    """Fake API that answers with the body, and holds the body `hang` back."""

    def __init__(self, core: ServerCore):
        super().__init__(core)
        self.gate, self.hangs = threading.Event(), threading.Event()
        self.threads: list[str] = []
        self.size = 0  # of the answers

    def answer(self, request: HttpRequest) -> HttpResponse:
        if request.body == b"error":
            return super().answer(request)
        self.threads.append(threading.current_thread().name)
        if request.body == b"hang":
            self.hangs.set()
            assert self.gate.wait(30)
        return HttpResponse(200, {"Content-Type": "text/plain"}, request.body.ljust(self.size, b"."))


class Running:
    """HTTP server with four threads."""

    def __init__(self, run: Run, **options: bool):
        self._run = run
        self.core = ServerCore(Flags(), ConfigProto())
        self.api = EchoApi(self.core)
        self.workers = Workers(4, name="worker")
        self.port = free_port()
        self.server = HttpServer(self.api, self.workers, grace_s=10.0, **options)
        run(self.server.start(self.port))

    def stop(self) -> None:
        self.api.gate.set()
        self._run(self.server.stop())
        self.core.stop(0.0)

    def connect(self) -> contextlib.closing["Client"]:
        return contextlib.closing(Client(self.port))


class Client:
    """Connection on which one request follows the other."""

    def __init__(self, port: int):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self._received = b""

    def close(self) -> None:
        self.socket.close()

    def ask(self, body: bytes, **headers: str) -> bytes:
        self.socket.sendall(request(body, **headers))
        return self.answer()

    def answer(self) -> bytes:
        """Return the bytes of the next response."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, _ = self._received.partition(b"\r\n\r\n")
        length = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
        size = len(head) + 4 + length
        while len(self._received) < size:
            self._receive()
        answer, self._received = self._received[:size], self._received[size:]
        return answer

    def _receive(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionResetError
        self._received += data


def request(body: bytes, path: str = PATH, **headers: str) -> bytes:
    given = {"Host": "localhost", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


Serve = Callable[..., Running]


@pytest.fixture
def serve(run: Run) -> Iterator[Serve]:
    started: list[Running] = []

    def start(**options: bool) -> Running:
        started.append(Running(run, **options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


def without_date(answer: bytes) -> list[bytes]:
    return [line for line in answer.split(b"\r\n") if not line.startswith(b"Date: ")]


@pytest.mark.parametrize("body", [b"a", b"", b"error"], ids=["200", "200 without a body", "404"])
def test_answers_equal_those_through_aiohttp(serve: Serve, body: bytes):
    server = serve()
    with server.connect() as plain, server.connect() as odd:
        answers = [plain.ask(body) for _ in range(3)]
        assert len(server.server._connections) == 2
        other = odd.ask(body, **ODD)
        assert len(server.server._connections) == 1  # the other connection is aiohttp's
    assert [without_date(answer) for answer in answers] == [without_date(other)] * 3


def test_the_thread_that_receives_quick_requests_answers_them(serve: Serve):
    server, batching = serve(), serve(at_once=False)
    for one, name in ((server, "rest-leader"), (batching, "worker")):
        with one.connect() as client:
            for _ in range(5):
                client.ask(b"a")
        assert one.api.threads == [name] * 5


def test_long_bodies_are_answered_by_other_threads(serve: Serve):
    server = serve()
    with server.connect() as client:
        assert client.ask(b"a" * (plain_server.MAX_QUICK_BYTES + 1)).endswith(b"aaa")
    assert server.api.threads == ["worker"]


def test_a_model_that_hangs_after_quick_answers_holds_up_nobody(serve: Serve):
    server = serve()
    with server.connect() as hanging, server.connect() as victim:
        for _ in range(20):
            hanging.ask(b"a")
        hanging.socket.sendall(request(b"hang"))
        assert server.api.hangs.wait(30)
        assert [victim.ask(b"b")[-1:] for _ in range(5)] == [b"b"] * 5
        assert server.api.threads == ["rest-leader"] * 21 + ["worker"] * 5  # the path is not trusted for a while
        wait_for(lambda: server.workers.in_flight == 1)  # the thread that hangs has a place of the workers
        server.api.gate.set()
        assert hanging.answer().endswith(b"hang")
        assert hanging.ask(b"c").endswith(b"c")


def test_hanging_quick_requests_cannot_take_more_threads_than_there_are(serve: Serve):
    server = serve()
    server.workers._max_waiting = 1
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(6)]
        for index, client in enumerate(clients[:5]):
            client.socket.sendall(request(b"hang"))
            wait_for(lambda count=index + 1: server.workers.in_flight == count)
        assert clients[5].ask(b"hang").startswith(b"HTTP/1.1 429 ")
        server.api.gate.set()
        assert all(client.answer().endswith(b"hang") for client in clients[:5])


def test_a_client_that_goes_away_while_its_quick_request_hangs_is_forgotten(serve: Serve):
    server = serve()
    with server.connect() as gone:
        gone.socket.sendall(request(b"hang"))
        assert server.api.hangs.wait(30)
        time.sleep(4 * plain_server.PATIENCE_S)
    server.api.gate.set()
    wait_for(lambda: not len(server.server._connections) and not server.workers.in_flight)


@pytest.mark.long
def test_a_client_that_has_gone_delays_no_stop(serve: Serve):
    server = serve()
    with server.connect() as gone:
        gone.socket.sendall(request(b"hang"))
        assert server.api.hangs.wait(30)
        time.sleep(4 * plain_server.PATIENCE_S)
        assert server.server._connections.in_progress == 1
    wait_for(lambda: server.server._connections.in_progress == 0)
    assert server.workers.in_flight == 1  # the model hangs on


def test_the_leader_outlives_a_stop_while_too_many_files_are_open(serve: Serve):
    server = serve()
    with server.connect() as client:
        assert client.ask(b"one").endswith(b"one")
        plain = server.server._plain
        plain._is_full = True  # as `accept` leaves it
        plain.stop_accepting()
        wait_for(lambda: plain._listener.fileno() < 0)
        time.sleep(2 * plain_server._SWEEP_S)
        assert plain._leader.is_alive()


def test_requests_in_pieces_and_behind_each_other(serve: Serve):
    server = serve()
    with server.connect() as client:
        whole = request(b"abcdef")
        for piece in (whole[:-4], whole[-4:-2], whole[-2:]):
            client.socket.sendall(piece)
            time.sleep(0.02)
        assert client.answer().endswith(b"abcdef")
        assert len(server.server._connections) == 1
        client.socket.sendall(request(b"1") + request(b"2") + request(b"3"))
        assert [client.answer()[-1:] for _ in range(3)] == [b"1", b"2", b"3"]


@pytest.mark.long
def test_a_body_that_does_not_come_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(plain_server, "PARTIAL_S", 0.02)
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.05)
    server = serve()
    with server.connect() as client:
        client.socket.sendall(request(b"abcdef")[:-1])
        assert client.answer().startswith(b"HTTP/1.1 408 ")
    assert server.api.threads == []


def test_answers_that_the_client_does_not_receive_yet_come_whole_and_in_order(serve: Serve):
    server = serve()
    server.api.size = plain_server.MAX_ANSWER_BYTES
    count = 200
    with server.connect() as client:
        for index in range(count):
            client.socket.sendall(request(b"%d," % index))
            wait_for(lambda done=index + 1: len(server.api.threads) >= min(done, 20))
        answers = [client.answer() for _ in range(count)]
    assert [answer.rpartition(b"\r\n\r\n")[2].split(b",")[0] for answer in answers] == [b"%d" % i for i in range(count)]
    assert {len(answer.rpartition(b"\r\n\r\n")[2]) for answer in answers} == {server.api.size}


def test_a_large_answer_is_computed_once_and_sent_by_aiohttp(serve: Serve):
    server = serve()
    server.api.size = plain_server.MAX_ANSWER_BYTES + 1
    with server.connect() as client:
        assert client.ask(b"a").endswith(b"...")
        assert server.api.threads == ["rest-leader"]
        assert len(server.server._connections) == 0
        server.api.size = 0
        assert client.ask(b"b").endswith(b"b")


def test_idle_connections_end(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http_server, "IDLE_TIMEOUT_S", 0.05)
    server = serve()
    with server.connect() as client:
        client.ask(b"a")
        assert client.socket.recv(1) == b""
    assert len(server.server._connections) == 0


def test_an_unexpected_failure_ends_its_connection_alone(serve: Serve, monkeypatch: pytest.MonkeyPatch):
    server = serve()
    read_head = plain_http.read_head
    monkeypatch.setattr(plain_http, "read_head", lambda data: 1 / 0 if b"bad" in data else read_head(data))
    with server.connect() as bad, server.connect() as good:
        bad.socket.sendall(request(b"bad"))
        assert bad.socket.recv(1) == b""
        assert good.ask(b"a").endswith(b"a")


def test_heads_that_are_plain():
    head = plain_http.read_head(request(b"ab", Accept="*/*", Connection="keep-alive"))
    assert head is not None
    assert (head.path, head.host, head.length) == (PATH, "localhost", 2)
    assert head.request(request(b"ab", Accept="*/*", Connection="keep-alive")).body == b"ab"


@pytest.mark.parametrize(
    "data",
    [
        request(b"ab")[:40],
        request(b"ab").replace(b"POST", b"GET"),
        request(b"ab").replace(b"1.1", b"1.0"),
        request(b"ab").replace(b"Host", b"Hosts"),
        request(b"ab").replace(b": 2", b": 02"),
        request(b"ab").replace(b": 2", b": +2"),
        request(b"ab").replace(b": 2\r\n", b": 2\r\nContent-Length: 2\r\n"),
        request(b"ab").replace(b"Host: ", b"Host : "),
        request(b"ab").replace(b"Host: localhost\r\n", b"Host: a\r\n b\r\n"),
        request(b"ab").replace(b"localhost", b"local\x00host"),
        request(b"ab").replace(b"\r\n", b"\n"),
        request(b"ab", **{"Transfer-Encoding": "chunked"}),
        request(b"ab", **{"Content-Encoding": "gzip"}),
        request(b"ab", Connection="close"),
        request(b"ab", Expect="100-continue"),
        request(b"ab", Origin="http://a"),
        request(b"ab", Upgrade="h2c"),
        request(b"ab", **{"X-Long": "a" * plain_http.MAX_HEAD_BYTES}),
        request(b"ab", "/v1/models/m:predict?a"),
        request(b"ab", "/v1/models/%6D:predict"),
        request(b"ab", "/V1/models/m:predict"),
        request(b"ab", "/v1/models/m/versions/01:predict"),
        request(b"ab", "http://localhost/v1/models/m:predict"),
    ],
)
def test_heads_that_are_not_plain(data: bytes):
    assert plain_http.read_head(data) is None


def test_paths_are_quick_as_long_as_their_average_is():
    quick = QuickPaths()
    for seconds in (0.0, 0.0, 1000 * QUICK_S, 0.0, 0.0):  # a single long answer says nothing
        assert quick.try_next("a")
        quick.note("a", seconds)
    assert quick.try_next("a")
    while quick.try_next("b"):
        quick.note("b", 2 * QUICK_S)
    assert [quick.try_next("b") for _ in range(PAUSE)] == [False] * (PAUSE - 1) + [True]
    assert quick.try_next("a")


def test_paths_that_fail_are_tried_more_and_more_rarely_until_they_are_quick_again():
    quick = QuickPaths()

    def pause() -> int:
        count = 0
        while not quick.try_next("a"):
            count += 1
        return count

    pauses = []
    for _ in range(6):
        quick.distrust("a")
        pauses.append(pause())
    assert pauses == [PAUSE, 4 * PAUSE, 16 * PAUSE, 64 * PAUSE, MAX_PAUSE, MAX_PAUSE]
    for _ in range(FORGIVEN):
        quick.note("a", 0.0)
    quick.distrust("a")
    assert pause() == MAX_PAUSE // 4


def test_the_number_of_paths_is_limited():
    quick = QuickPaths()
    for index in range(MAX_PATHS):
        quick.note(str(index), 0.0)
    assert quick.try_next("0")
    assert not quick.try_next("another")
