"""Batching, on a fake session that returns its inputs."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format

from kseq_serving.batching import batch_arrays, batching_options
from kseq_serving.batching.batch_scheduler import BatchScheduler
from kseq_serving.batching.batching_options import BatchingOptions
from kseq_serving.batching.batching_session import BatchingSession
from kseq_serving.errors import Code, InvalidArgumentError, ServingError
from kseq_serving.flags import Flags
from kseq_serving.metrics import Metrics
from kseq_serving.protocol.protos import BatchingParameters

LONG_S = 30.0  # longer than any test waits


class EchoSession:
    """Fake session that returns its inputs and records its runs."""

    def __init__(self) -> None:
        self.signatures = {}
        self.batches: list[dict[str, list]] = []
        self.timeouts: list[float | None] = []
        self.gate = threading.Event()
        self.gate.set()
        self.running = threading.Event()

    def run(self, feeds: dict, fetches: list, *, timeout_s: float | None = None) -> dict:
        self.batches.append({name: array.tolist() for name, array in feeds.items()})
        self.timeouts.append(timeout_s)
        self.running.set()
        assert self.gate.wait(LONG_S)
        return {name: feeds["x"] for name in fetches}

    def close(self) -> None:
        pass


Ask = Callable[..., Future]


@pytest.fixture
def echo() -> EchoSession:
    return EchoSession()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as threads:
        yield threads


def batched(echo: EchoSession, threads: int = 1, **options) -> BatchingSession:
    return BatchingSession(echo, BatchingOptions(**options), BatchScheduler(threads), Metrics())


def run(session: BatchingSession, values, fetch: str = "y", timeout_s: float | None = None) -> list:
    return session.run({"x": np.array(values)}, [fetch], timeout_s=timeout_s)[fetch].tolist()


def queue_up(pool: ThreadPoolExecutor, session: BatchingSession, *requests: list, **more) -> list[Future]:
    """Send requests in this order, each a short time after the one before."""
    waiting = []
    for values in requests:
        waiting.append(pool.submit(run, session, values, **more))
        time.sleep(0.02)
    return waiting


def test_requests_share_a_full_batch_and_get_their_own_rows(echo: EchoSession, pool: ThreadPoolExecutor):
    session = batched(echo, max_rows=4, timeout_s=LONG_S)
    answers = queue_up(pool, session, [1.0], [2.0, 3.0], [4.0])
    assert [answer.result(5) for answer in answers] == [[1.0], [2.0, 3.0], [4.0]]
    assert echo.batches == [{"x": [1.0, 2.0, 3.0, 4.0]}]


def test_a_batch_that_is_not_full_waits_only_so_long(echo: EchoSession):
    started = time.monotonic()
    assert run(batched(echo, max_rows=4, timeout_s=0.1), [1.0]) == [1.0]
    assert 0.1 <= time.monotonic() - started < 2


def test_the_next_batch_makes_the_one_before_it_due(echo: EchoSession, pool: ThreadPoolExecutor):
    session = batched(echo, max_rows=3, timeout_s=LONG_S)
    first, second = queue_up(pool, session, [1.0, 2.0], [3.0, 4.0])
    assert first.result(5) == [1.0, 2.0]
    assert not second.done()
    queue_up(pool, session, [5.0])
    assert second.result(5) == [3.0, 4.0]


def test_other_tensors_are_another_batch(echo: EchoSession, pool: ThreadPoolExecutor):
    session = batched(echo, max_rows=2, timeout_s=0.1)
    answers = queue_up(pool, session, [1.0], fetch="y") + queue_up(pool, session, [2.0], fetch="z")
    assert [answer.result(5) for answer in answers] == [[1.0], [2.0]]
    assert len(echo.batches) == 2


def test_batches_form_while_as_many_of_their_kind_run_as_may(echo: EchoSession, pool: ThreadPoolExecutor):
    echo.gate.clear()
    session = BatchingSession(echo, BatchingOptions(max_rows=2), BatchScheduler(3, at_once=1), Metrics())
    answers = queue_up(pool, session, [1.0])
    assert echo.running.wait(5)
    answers += queue_up(pool, session, [2.0], [3.0])  # full, but waits
    answers += queue_up(pool, session, [4.0], fetch="z")  # of another kind
    assert echo.batches == [{"x": [1.0]}, {"x": [4.0]}]
    echo.gate.set()
    assert [answer.result(5) for answer in answers] == [[1.0], [2.0], [3.0], [4.0]]
    assert echo.batches[2:] == [{"x": [2.0, 3.0]}]


@pytest.mark.parametrize(
    ("text", "cores", "threads", "at_once"), [("", 4, 4, 3), ("", 1, 1, 1), ("num_batch_threads { value: 2 }", 8, 2, 2)]
)
def test_a_core_is_left_unless_the_number_of_threads_is_set(
    text: str, cores: int, threads: int, at_once: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batching_options.os, "sched_getaffinity", lambda _: set(range(cores)))
    batching = batching_options.Batching(text_format.Parse(text, BatchingParameters()), per_model=False)
    assert (batching.threads, batching.at_once) == (threads, at_once)


def test_a_full_queue_refuses_and_recovers(echo: EchoSession, pool: ThreadPoolExecutor):
    echo.gate.clear()
    session = batched(echo, max_rows=1, max_queued_batches=2)
    waiting = queue_up(pool, session, [0.0])
    assert echo.running.wait(5)
    waiting += queue_up(pool, session, [1.0], [2.0])
    with pytest.raises(ServingError) as caught:
        run(session, [3.0])
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.message == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued and "
        "max_enqueued_batches is 2"
    )
    echo.gate.set()
    assert [answer.result(5) for answer in waiting] == [[0.0], [1.0], [2.0]]
    assert run(session, [3.0]) == [3.0]


def test_a_large_request_is_split_where_that_is_allowed(echo: EchoSession):
    session = batched(echo, max_rows=8, split_rows=2, allowed_sizes=(8,), timeout_s=0.05)
    assert run(session, [1.0, 2.0, 3.0, 4.0, 5.0]) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert sorted(batch["x"][:2] for batch in echo.batches) == [[1.0, 2.0], [3.0, 4.0], [5.0, 5.0]]


def test_what_a_split_request_may_not_exceed(echo: EchoSession):
    with pytest.raises(ServingError, match="task size is 8 but scheduling capacity is only 4 "):
        run(batched(echo, max_rows=8, split_rows=2, max_queued_batches=2), [1.0] * 8)
    with pytest.raises(InvalidArgumentError, match="Task size 9 is larger than maximum input batch size 8"):
        run(batched(echo, max_rows=8, split_rows=2), [1.0] * 9)


def test_a_run_without_rows_does_not_wait_for_others(echo: EchoSession):
    assert run(batched(echo, max_rows=4, timeout_s=LONG_S), np.zeros((0, 2))) == []


def test_a_batch_runs_as_long_as_its_most_patient_request(echo: EchoSession, pool: ThreadPoolExecutor):
    session = batched(echo, max_rows=2, timeout_s=LONG_S)
    first = pool.submit(run, session, [1.0], timeout_s=5.0)
    time.sleep(0.02)
    assert run(session, [2.0], timeout_s=20.0) == [2.0]
    assert first.result(5) == [1.0]
    assert echo.timeouts[0] == pytest.approx(20.0, abs=1.0)


def test_who_waited_too_long_is_not_run(echo: EchoSession):
    with pytest.raises(ServingError) as caught:
        run(batched(echo, max_rows=4, timeout_s=0.1), [1.0], timeout_s=0.01)
    assert str(caught.value) == "RESOURCE_EXHAUSTED: Run() timeout exceeded while waiting in batching queue"
    assert echo.batches == []


class PickySession(EchoSession):
    """Fake session that fails with the batch's numbers if one of them is negative."""

    code = Code.INVALID_ARGUMENT

    def run(self, feeds: dict, fetches: list, *, timeout_s: float | None = None) -> dict:
        outputs = super().run(feeds, fetches, timeout_s=timeout_s)
        if (feeds["x"] < 0).any():
            raise ServingError(self.code, f"negative number in {feeds['x'].tolist()}")
        return outputs


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE, Code.RESOURCE_EXHAUSTED])
def test_bad_data_fails_its_own_request_only(pool: ThreadPoolExecutor, code: Code):
    picky = PickySession()
    picky.code = code
    session = batched(picky, max_rows=6, timeout_s=LONG_S)
    answers = queue_up(pool, session, [1.0], [2.0, 3.0], [-4.0], [-5.0], [6.0])
    assert [answers[index].result(5) for index in (0, 1, 4)] == [[1.0], [2.0, 3.0], [6.0]]
    assert [answers[index].exception(5).message for index in (2, 3)] == [
        "negative number in [-4.0]",
        "negative number in [-5.0]",
    ]
    assert {answers[index].exception(5).code for index in (2, 3)} == {code}


@pytest.mark.parametrize("code", [Code.DEADLINE_EXCEEDED, Code.CANCELLED, Code.UNAVAILABLE])
def test_a_failure_that_is_not_of_data_is_not_repeated(pool: ThreadPoolExecutor, code: Code):
    picky = PickySession()
    picky.code = code
    answers = queue_up(pool, batched(picky, max_rows=2, timeout_s=LONG_S), [1.0], [-2.0])
    assert {answer.exception(5).code for answer in answers} == {code}
    assert len(picky.batches) == 1


def test_an_unexpected_failure_is_answered_and_the_thread_lives(echo: EchoSession, monkeypatch: pytest.MonkeyPatch):
    session = batched(echo)
    monkeypatch.setattr(echo, "run", lambda *_, **__: {"y": None})
    with pytest.raises(ServingError) as caught:
        run(session, [1.0])
    assert caught.value.code is Code.INTERNAL
    monkeypatch.undo()
    assert run(session, [1.0]) == [1.0]


def test_padding_is_the_requests_own_first_element():
    merged = batch_arrays.merge(
        [{"x": np.array([[7, 8]])}, {"x": np.array([[5], [6]])}], padding_rows=2, pad_inputs=True
    )
    assert merged["x"].tolist() == [[7, 8], [5, 5], [6, 5], [5, 5], [5, 5]]


def test_an_array_may_be_empty_where_all_are():
    empty = {"x": np.zeros((1, 0))}
    assert batch_arrays.merge([empty, empty], 0, pad_inputs=True)["x"].shape == (2, 0)


@pytest.mark.parametrize(
    ("shape", "other", "message"),
    [
        ((1, 2), (1, 2, 2), r"different ranks: \[2, 3\]"),
        ((1, 0), (1, 1), "Got empty tensor in batch of non-empty tensors."),
        ((1,) * 7, (1,) * 7, "Only tensors with rank from 1 to 6 can be padded."),
    ],
)
def test_what_cannot_be_padded(shape: tuple, other: tuple, message: str):
    with pytest.raises(InvalidArgumentError, match=message):
        batch_arrays.merge([{"x": np.zeros(shape)}, {"x": np.zeros(other)}], 0, pad_inputs=True)


def parse(text: str) -> BatchingOptions:
    return batching_options.options(text_format.Parse(text, BatchingParameters()))


def test_parameters():
    assert parse("") == BatchingOptions(max_rows=1000, timeout_s=0.0, max_queued_batches=10)
    options = parse(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 2500 } max_enqueued_batches { value: 3 } "
        "allowed_batch_sizes: 2 allowed_batch_sizes: 8 pad_variable_length_inputs: true"
    )
    assert options == BatchingOptions(8, 0.0025, 3, (2, 8), pad_inputs=True)
    assert [options.filled_up(rows) for rows in (1, 2, 3, 8, 9)] == [2, 2, 8, 8, 9]
    assert parse("max_batch_size { value: 8 } enable_large_batch_splitting { value: true }").batch_rows == 8


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 4 } allowed_batch_sizes: 2",
            "must match max_batch_size; last entry was 2; expected 4",
        ),
        ("max_batch_size { value: 0 }", "input_batch_size_limit must be positive; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be non-negative; was -1"),
        (
            "max_batch_size { value: 4 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 5 }",
            "input_batch_size_limit must be greater than or equal to max_execution_batch_size",
        ),
    ],
)
def test_parameters_that_contradict_each_other(text: str, message: str):
    with pytest.raises(InvalidArgumentError, match=message):
        parse(text)


def test_each_version_may_say_how_it_is_batched(tmp_path: Path):
    batching = batching_options.from_flags(Flags(enable_batching=True, enable_per_model_batching_parameters=True))
    assert batching is not None
    assert batching.of_version(str(tmp_path)) is None
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 7 }")
    assert batching.of_version(str(tmp_path)) == BatchingOptions(max_rows=7)


def test_parameters_without_batching_are_refused():
    assert batching_options.from_flags(Flags()) is None
    with pytest.raises(InvalidArgumentError, match=r"without setting server_options\.enable_batching to true"):
        batching_options.from_flags(Flags(batching_parameters_file="x"))
