"""Requests whose arrays do not fit those of the others, sent while batches are formed."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kseq_serving.batching import batch_scheduler
from kseq_serving.batching.batch_scheduler import BatchScheduler
from kseq_serving.batching.batching_options import BatchingOptions
from kseq_serving.batching.batching_session import BatchingSession
from kseq_serving.errors import Code, ServingError
from kseq_serving.metrics import Metrics
from kseq_serving.models.session import SavedModelSession
from kseq_serving.protocol.protos import ConfigProto
from tests.kseq_serving.clients import wait_for
from tests.kseq_serving.test_batching import EchoSession, PickySession, batched

GOOD = np.ones((1, 2), np.float32)
BAD = {
    "wider rows": np.ones((1, 3), np.float32),
    "deeper rows": np.ones((1, 2, 2), np.float32),
    "rows without a dimension": np.ones(1, np.float32),
    "another dtype": np.ones((1, 2), np.float64),
    "texts": np.array([[b"a", b"b"]], object),
    "empty rows": np.ones((1, 0), np.float32),
    "more dimensions than can be padded": np.ones((1, 2, 1, 1, 1, 1, 1), np.float32),
}


def waiting_in(session: BatchingSession) -> int:
    """Return how many requests wait for a batch."""
    with session._scheduler._changed:
        return sum(len(batch.tasks) for queue in session._scheduler._queues.values() for batch in queue.batches)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("pad_inputs", [False, True])
def test_arrays_that_do_not_fit_fail_no_good_request(bad: np.ndarray, pad_inputs: bool):
    echo = EchoSession()
    echo.gate.clear()
    session = batched(echo, max_rows=8, pad_inputs=pad_inputs)

    def ask(values: np.ndarray) -> np.ndarray | None:
        try:
            return session.run({"x": values}, ["y"], timeout_s=10.0)["y"]
        except ServingError:
            return None

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, GOOD)  # occupies the only thread, so that the others wait together
        assert echo.running.wait(5)
        asked = [pool.submit(ask, values) for values in (GOOD * 2, bad, GOOD * 3, bad, GOOD * 4)]
        wait_for(lambda: waiting_in(session) == 5)
        echo.gate.set()
        answers = [call.result(10) for call in (first, *asked)]
    for index, factor in ((0, 1), (1, 2), (3, 3), (5, 4)):
        assert answers[index] is not None
        # Padding may widen the rows, by the request's own values.
        assert answers[index][:, :2].tolist() == (GOOD * factor).tolist()
    # The good ones shared a batch; with a bad one among them, it would have been run in halves.
    assert max(len(batch["x"]) for batch in echo.batches) >= 3


def test_good_requests_are_answered_beside_many_that_fail_in_the_graph():
    session = batched(PickySession(), threads=2, max_rows=4, timeout_s=0.001)
    failed = []

    def ask(client: int) -> None:
        for number in range(40):
            value = -1.0 if client % 3 == 2 else float(100 * client + number)
            try:
                answer = session.run({"x": np.array([value])}, ["y"])["y"].tolist()
            except ServingError as error:
                failed.append((client % 3 == 2, str(error)))
            else:
                assert answer == [value]

    with ThreadPoolExecutor(6) as pool:
        assert [call.result(20) for call in [pool.submit(ask, client) for client in range(6)]] == [None] * 6
    assert failed == [(True, "INVALID_ARGUMENT: negative number in [-1.0]")] * 80


class RaisingSession(EchoSession):
    """Fake session that raises an exception if a number is negative."""

    def __init__(self, error: Exception):
        super().__init__()
        self.error = error

    def run(self, feeds: dict, fetches: list, *, timeout_s: float | None = None) -> dict:
        outputs = super().run(feeds, fetches, timeout_s=timeout_s)
        if (feeds["x"] < 0).any():
            raise self.error
        return outputs


@pytest.mark.parametrize("error", [MemoryError("10 GiB"), ValueError("embedded null"), KeyError("x")], ids=repr)
def test_an_unexpected_exception_fails_only_the_request_that_caused_it(
    error: Exception, caplog: pytest.LogCaptureFixture
):
    session = batched(RaisingSession(error), max_rows=4, timeout_s=30.0)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(session.run, {"x": np.array([value])}, ["y"]) for value in (1.0, -2.0, 3.0, 4.0)]
        assert str(asked[1].exception(10)) == f"INTERNAL: {type(error).__name__}: {error}"
        assert [asked[index].result(10)["y"].tolist() for index in (0, 2, 3)] == [[1.0], [3.0], [4.0]]
    assert [type(error).__name__ in record.message for record in caplog.records] == [True]


@pytest.fixture(scope="module")
def regress(models: Path) -> Iterator[SavedModelSession]:
    session = SavedModelSession(str(models / "examples" / "1"), ["serve"], ConfigProto())
    yield session
    session.close()


def test_an_error_text_with_bytes_that_are_no_text_fails_no_other_request(regress: SavedModelSession):
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(3.0)
    signature = regress.signatures["regress"]
    fed, fetched = signature.inputs["inputs"].name, signature.outputs["outputs"].name
    session = BatchingSession(regress, BatchingOptions(max_rows=3, timeout_s=30.0), BatchScheduler(1), Metrics())
    with ThreadPoolExecutor(3) as pool:
        asked = [
            pool.submit(session.run, {fed: np.array([text], object)}, [fetched])
            for text in (example.SerializeToString(), b"\xff\xfe bad", example.SerializeToString())
        ]
        failed = asked[1].exception(10)
        assert [asked[index].result(10)[fetched].tolist() for index in (0, 2)] == [[[6.0]], [[6.0]]]
    assert isinstance(failed, ServingError)
    assert failed.code is Code.INVALID_ARGUMENT
    assert failed.message.startswith("Could not parse example input, value: '\ufffd\ufffd bad'\n\t [[")


class EndlessSession(EchoSession):
    """Fake session whose runs with a negative number wait until `gate` is set."""

    def run(self, feeds: dict, fetches: list, *, timeout_s: float | None = None) -> dict:
        self.batches.append({"x": feeds["x"].tolist()})
        if (feeds["x"] < 0).any():
            self.running.set()
            assert self.gate.wait(30)
        return {name: feeds["x"] for name in fetches}


def test_a_run_that_never_ends_leaves_the_other_threads_to_its_signature(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch_scheduler, "LONG_RUN_S", 0.3)
    endless = EndlessSession()
    endless.gate.clear()
    session = BatchingSession(endless, BatchingOptions(max_rows=1), BatchScheduler(2, at_once=1), Metrics())
    with ThreadPoolExecutor(4) as pool:
        hung = pool.submit(session.run, {"x": np.array([-1.0])}, ["y"])
        assert endless.running.wait(5)
        try:
            asked = [pool.submit(session.run, {"x": np.array([value])}, ["y"]) for value in (1.0, 2.0, 3.0)]
            assert [call.result(10)["y"].tolist() for call in asked] == [[1.0], [2.0], [3.0]]
            assert not hung.done()
        finally:
            endless.gate.set()
        assert hung.result(10)["y"].tolist() == [-1.0]
    wait_for(lambda: not session._scheduler._started)


class UnevenSession(EchoSession):
    """Fake session that drops negative rows from its output."""

    def run(self, feeds: dict, fetches: list, *, timeout_s: float | None = None) -> dict:
        outputs = super().run(feeds, fetches, timeout_s=timeout_s)
        return {name: array[array >= 0] for name, array in outputs.items()}


def test_a_request_whose_output_has_other_rows_fails_alone():
    session = batched(UnevenSession(), max_rows=3, timeout_s=30.0)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(session.run, {"x": np.array([value])}, ["y"]) for value in (1.0, -2.0, 3.0)]
        assert [type(call.exception(10)) for call in asked] == [type(None), ServingError, type(None)]
        assert [asked[index].result()["y"].tolist() for index in (0, 2)] == [[1.0], [3.0]]
