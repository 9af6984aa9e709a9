"""Requests whose arrays do not fit those of the others, sent while batches are formed."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from kseq_serving.batching import batch_arrays
from kseq_serving.batching.batching_session import BatchingSession
from kseq_serving.errors import ServingError
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


def test_an_enormous_row_does_not_make_the_others_as_large(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batch_arrays, "MAX_PADDING_BYTES", 1000)
    echo = EchoSession()
    session = batched(echo, max_rows=3, timeout_s=30.0, pad_inputs=True)
    with ThreadPoolExecutor(3) as pool:
        asked = [
            pool.submit(session.run, {"x": np.ones((1, width))}, ["y"], timeout_s=10.0) for width in (2, 10_000, 2)
        ]
        assert [call.result(10)["y"].shape for call in asked] == [(1, 2), (1, 10_000), (1, 2)]
    assert max(len(batch["x"]) * len(batch["x"][0]) for batch in echo.batches) == 10_000


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
