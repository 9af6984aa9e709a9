"""Lanes of large bodies: who waits for whom, and what ends when a client goes."""

import asyncio
import gzip
import threading

import pytest

from kseq_serving.rest import json_lanes
from kseq_serving.rest.api import HttpRequest
from kseq_serving.rest.json_lanes import HUGE_BYTES, LARGE_BYTES
from tests.kseq_serving.clients import wait_for


class Api:
    """REST API that notes what is parsed, and parses no body of the letter h before it may."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, object]] = []  # size of a body, and the process that parses it
        self.parsings = []
        self.go_on = threading.Event()

    def parse_ahead(self, request, process, parsing):
        self.asked.append((len(request.body), process))
        self.parsings.append(parsing)
        if request.body.startswith(b"h"):
            assert self.go_on.wait(30)
        return HttpRequest(request.method, request.path, b"parsed")


@pytest.fixture
def api():
    return Api()


@pytest.fixture
def lanes(api):
    made = json_lanes.JsonLanes(api)
    yield made
    api.go_on.set()
    made.stop()


def read(lanes, body: bytes, *, is_gzip: bool = False, take=lambda size: None, client: str = "a"):
    return lanes.read_ahead(HttpRequest("POST", "/", body), is_gzip=is_gzip, client=client, take=take)


def test_each_body_takes_the_lane_of_its_size(lanes, api):
    taken, sizes = [], (LARGE_BYTES + 1, 2**20, 2**20 + 1, HUGE_BYTES, HUGE_BYTES + 1)

    async def ask():
        for size in (LARGE_BYTES, *sizes):
            yield (await read(lanes, bytes(size))).body
            yield (await read(lanes, gzip.compress(bytes(size), 1), is_gzip=True, take=taken.append)).body

    async def collect():
        return [body async for body in ask()]

    bodies = asyncio.run(collect())
    assert bodies == [bytes(LARGE_BYTES)] * 2 + [b"parsed"] * 10
    used = [lanes._lanes[lane].process for lane in (0, 0, 1, 1, 2)]
    assert api.asked == [asked for asked in zip(sizes, used, strict=True) for _ in range(2)]
    assert sum(taken) == LARGE_BYTES + sum(sizes)  # each counts once


def test_small_and_compressed_bodies_do_not_wait_for_a_huge_one(lanes, api):
    async def ask():
        huge = asyncio.ensure_future(read(lanes, b"h" * (HUGE_BYTES + 1)))
        while not api.asked:
            await asyncio.sleep(0.01)
        assert (await read(lanes, gzip.compress(b"victim"), is_gzip=True, client="b")).body == b"victim"
        assert (await read(lanes, bytes(LARGE_BYTES + 1), client="b")).body == b"parsed"
        assert not huge.done()
        api.go_on.set()
        assert (await huge).body == b"parsed"

    asyncio.run(asyncio.wait_for(ask(), 30))


def test_the_parsing_ends_when_the_client_has_gone(lanes, api):
    async def ask():
        huge = asyncio.ensure_future(read(lanes, b"h" * (LARGE_BYTES + 1)))
        while not api.asked:
            await asyncio.sleep(0.01)
        huge.cancel()
        with pytest.raises(asyncio.CancelledError):
            await huge

    asyncio.run(ask())
    wait_for(lambda: api.parsings[0].is_cancelled)
