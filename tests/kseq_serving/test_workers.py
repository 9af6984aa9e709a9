import asyncio
import threading
import weakref
from collections.abc import Iterator

import pytest

from kseq_serving.errors import Code, ServingError
from kseq_serving.workers import Workers

TIMEOUT_S = 10.0


class Request:
    """Object that a call references."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Event that the calls of a test wait for; it is set at the end of the test."""
    gate = threading.Event()
    yield gate
    gate.set()


def waits_for(gate: threading.Event, begun: list[str] | None = None, name: str = ""):
    def work() -> str:
        if begun is not None:
            begun.append(name)
        assert gate.wait(TIMEOUT_S)
        return name

    return work


async def until(condition) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_call_runs_on_another_thread_and_gives_its_result_or_its_error():
    async def main() -> None:
        workers = Workers(2, name="w")
        assert await workers.run(lambda: threading.current_thread().name) == "w"
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
        assert await workers.run(lambda: 7) == 7  # the thread still runs
        await until(lambda: workers.in_flight == 0)  # the result arrives a moment before its thread is free
        workers.stop()

    asyncio.run(main())


def test_calls_share_a_few_threads_first_come_first_served(gate: threading.Event):
    async def main() -> None:
        workers, begun = Workers(2, name="w"), list[str]()
        calls = [asyncio.create_task(workers.run(waits_for(gate, begun, str(i)))) for i in range(6)]
        await until(lambda: len(begun) == 2)
        assert workers.in_flight == 6
        gate.set()
        assert await asyncio.gather(*calls) == ["0", "1", "2", "3", "4", "5"]
        assert begun[2:] == ["2", "3", "4", "5"]
        workers.stop()

    asyncio.run(main())


def test_one_too_many_is_refused_and_later_ones_are_not(gate: threading.Event):
    async def main() -> None:
        workers, begun = Workers(1, name="w", max_waiting=2), list[str]()
        calls = [asyncio.create_task(workers.run(waits_for(gate, begun))) for _ in range(3)]
        await until(lambda: begun and workers.in_flight == 3)
        with pytest.raises(ServingError, match="2 requests wait already for 1 threads") as caught:
            await workers.run(lambda: None)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        gate.set()
        await asyncio.gather(*calls)
        assert await workers.run(lambda: 7) == 7
        workers.stop()

    asyncio.run(main())


def test_clients_take_turns_and_the_one_with_most_calls_gives_way(gate: threading.Event):
    async def main() -> None:
        workers, begun = Workers(1, name="w", max_waiting=4), list[str]()
        first = asyncio.create_task(workers.run(waits_for(gate, begun, "first")))
        await until(lambda: begun)
        many = [asyncio.create_task(workers.run(waits_for(gate, begun, f"a{i}"), "a")) for i in range(4)]
        await asyncio.sleep(0)
        few = [asyncio.create_task(workers.run(waits_for(gate, begun, f"b{i}"), "b")) for i in range(3)]
        await asyncio.sleep(0)
        gate.set()
        results = await asyncio.gather(first, *many, *few, return_exceptions=True)
        assert [isinstance(result, ServingError) for result in results[1:]] == [
            False,
            False,
            True,
            True,
            False,
            False,
            True,
        ]
        assert begun == ["first", "a0", "b0", "a1", "b1"]
        workers.stop()

    asyncio.run(main())


def test_a_call_that_nobody_waits_for_leaves_the_queue(gate: threading.Event):
    async def main() -> None:
        workers, begun = Workers(1, name="w", max_waiting=1), list[str]()
        first = asyncio.create_task(workers.run(waits_for(gate, begun)))
        await until(lambda: begun)
        for _ in range(5):  # each finds the only place free again
            request = Request()
            kept = weakref.ref(request)
            cancelled = asyncio.create_task(workers.run(lambda request=request: begun.append("cancelled")))
            await asyncio.sleep(0)
            assert workers.in_flight == 2
            cancelled.cancel()
            await asyncio.wait([cancelled])
            del request, cancelled
            assert workers.in_flight == 1
            assert kept() is None
        gate.set()
        await first
        assert await workers.run(lambda: 7) == 7
        assert begun == [""]
        workers.stop()

    asyncio.run(main())


def test_a_call_that_runs_may_be_given_up(gate: threading.Event):
    async def main() -> None:
        workers, begun = Workers(1, name="w"), list[str]()
        call = asyncio.create_task(workers.run(waits_for(gate, begun)))
        await until(lambda: begun)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        gate.set()
        assert await workers.run(lambda: 7) == 7
        workers.stop()

    asyncio.run(main())


def test_an_idle_thread_keeps_neither_request_nor_answer():
    async def main() -> None:
        workers = Workers(1, name="w")
        request = Request()
        kept = weakref.ref(request)
        assert await workers.run(lambda request=request: request) is request
        await until(lambda: workers.in_flight == 0)
        del request
        await asyncio.sleep(0.01)
        assert kept() is None
        workers.stop()

    asyncio.run(main())


def test_stopped_its_threads_end(gate: threading.Event):
    def alive() -> int:
        return sum(thread.name == "to-stop" for thread in threading.enumerate())

    async def main() -> None:
        workers, begun = Workers(2, name="to-stop"), list[str]()
        await workers.run(lambda: None)
        call = asyncio.create_task(workers.run(waits_for(gate, begun)))
        other = asyncio.create_task(workers.run(waits_for(gate, begun)))
        await until(lambda: len(begun) == 2)
        assert alive() == 2
        workers.stop()
        gate.set()
        await asyncio.gather(call, other)
        await until(lambda: not alive())

    asyncio.run(main())


def test_a_thread_that_cannot_be_started_costs_no_place(monkeypatch):
    async def run() -> None:
        workers = Workers(1, name="few")
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", _refuse_to_start)
            with pytest.raises(ServingError, match="Cannot start another thread: can't start new thread") as caught:
                await workers.run(lambda: 1)
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert await workers.run(lambda: 2) == 2
        workers.stop()

    asyncio.run(run())


def _refuse_to_start(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_a_call_on_another_thread_can_take_a_place(gate: threading.Event):
    async def main() -> None:
        workers, begun = Workers(2, name="w", max_waiting=1), list[str]()
        first = asyncio.create_task(workers.run(waits_for(gate, begun, "a")))
        await until(lambda: begun == ["a"])
        assert workers.occupy()
        assert not workers.occupy()
        assert workers.in_flight == 2
        second = asyncio.create_task(workers.run(waits_for(gate, begun, "b")))
        await until(lambda: workers.in_flight == 3)
        with pytest.raises(ServingError):
            await workers.run(waits_for(gate, begun, "c"))
        assert begun == ["a"]
        workers.leave()
        await until(lambda: begun == ["a", "b"])
        gate.set()
        assert await asyncio.gather(first, second) == ["a", "b"]
        await until(lambda: workers.in_flight == 0)
        workers.stop()

    asyncio.run(main())
