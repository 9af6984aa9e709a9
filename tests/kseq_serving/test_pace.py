import pytest

from kseq_serving import grpc_service, pace, protos
from kseq_serving.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def seconds_until_quick(kept: Pace, clock: Clock, seconds: float, limit: int = 1000) -> float | None:
    """Makes calls every 10 ms, of the same length wherever they run, until all run on the network's thread."""
    started, in_a_row = clock.now, 0
    for _ in range(limit):
        clock.now += 0.01
        here = kept.is_quick("k", 10)
        in_a_row = in_a_row + 1 if here else 0
        if in_a_row == 20:
            return clock.now - started
        kept.record("k", seconds, on_network=here, refused=False)
    return None


def test_a_kind_of_quick_calls_is_found_out_in_a_second(clock: Clock):
    assert seconds_until_quick(Pace(), clock, 0.0002) < 1.0


def test_a_kind_of_slow_calls_never_is(clock: Clock):
    assert seconds_until_quick(Pace(), clock, 0.002) is None
    kept = Pace()
    kept.record("k", 0.1, on_network=False, refused=False)
    clock.now += 100.0
    assert not kept.is_quick("k", 10)


def test_slow_calls_are_tried_ever_more_rarely(clock: Clock):
    kept, tried = Pace(), []
    for _ in range(3000):
        clock.now += 0.01
        if here := kept.is_quick("k", 10):
            tried.append(clock.now)
        kept.record("k", 0.005, on_network=here, refused=False)
    assert len(tried) < 12
    assert tried[-1] - tried[-2] > 5.0


def test_one_long_call_ends_it_and_it_comes_back(clock: Clock):
    kept = Pace()
    assert seconds_until_quick(kept, clock, 0.0002)
    kept.record("k", 0.5, on_network=True, refused=False)
    clock.now += 0.001
    assert not kept.is_quick("k", 10)
    assert seconds_until_quick(kept, clock, 0.0002)


def test_a_large_request_and_an_unknown_kind_are_not_quick(clock: Clock):
    kept = Pace()
    assert seconds_until_quick(kept, clock, 0.0002)
    assert not kept.is_quick("k", pace.MAX_BYTES + 1)
    assert not kept.is_quick("other", 10)


def test_the_number_of_kinds_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace, "MAX_KINDS", 3)
    kept = Pace()
    for name in range(10):
        kept.record(name, 0.0001, on_network=False, refused=False)
    assert len(kept._kinds) == 3


def test_it_can_be_switched_off(clock: Clock):
    assert seconds_until_quick(Pace(enabled=False), clock, 0.0001) is None


def test_what_is_refused_proves_nothing_but_that_it_took_long(clock: Clock):
    kept = Pace()
    for _ in range(100):
        clock.now += 0.1
        kept.record("k", 0.0001, on_network=kept.is_quick("k", 10), refused=True)
    assert not kept.is_quick("k", 10)
    assert seconds_until_quick(kept, clock, 0.0002) is not None
    kept.record("k", 0.5, on_network=True, refused=True)
    assert not kept.is_quick("k", 10)


def test_a_few_bytes_may_declare_many_elements():
    request = protos.PredictRequest()
    tensor = request.inputs["x"]
    tensor.float_val.append(1.0)
    for size in (1 << 13, 1 << 13):
        tensor.tensor_shape.dim.add().size = size
    assert request.ByteSize() < 100
    assert grpc_service._elements(request) == 1 << 26 > pace.MAX_BYTES
