"""Tests of metrics that several processes add up."""

import asyncio
from pathlib import Path

from kseq_serving.errors import Code
from kseq_serving.metrics import Metrics
from kseq_serving.processes import Place
from kseq_serving.sibling_metrics import exchange, sums


def test_series_of_the_same_labels_are_added_and_all_others_kept():
    one = b'# TYPE a counter\na{of="x 1"} 2\n# TYPE c histogram\nc_bucket{le="10"} 1\nc_bucket{le="+Inf"} 3\n'
    other = b'# TYPE a counter\na{of="x 1"} 3\na{of="y"} 1\n# TYPE b gauge\nb{} 0.5\n# TYPE c histogram\n'
    assert sums([one, other]).decode().splitlines() == [
        "# TYPE a counter",
        'a{of="x 1"} 5',
        'a{of="y"} 1',
        "# TYPE b gauge",
        "b{} 0.5",
        "# TYPE c histogram",
        'c_bucket{le="10"} 1',
        'c_bucket{le="+Inf"} 3',
    ]


def test_one_process_alone_writes_what_it_wrote():
    metrics = Metrics()
    metrics.request("m", Code.OK, served=True)
    metrics.request_latency("m", "Predict", "REST", 0.0123)
    assert sums([metrics.render()]) == metrics.render()


def test_a_text_that_is_cut_off_is_left_out(tmp_path: Path):
    metrics = Metrics()
    metrics.request("m", Code.OK, served=True)

    async def cut_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(metrics.render_own()[:-3])
        writer.close()

    async def rendered() -> bytes:
        own = await exchange(metrics, Place(0, 2, tmp_path))
        other = await asyncio.start_unix_server(cut_off, str(tmp_path / "metrics-1"))
        text = await asyncio.to_thread(metrics.render)
        own.close()
        other.close()
        return text

    assert asyncio.run(rendered()) == metrics.render_own()


def test_each_process_answers_for_those_that_are_there(tmp_path: Path):
    """Of three, the last has not started."""
    first, second = Metrics(), Metrics()

    async def exchanged() -> list[bytes]:
        servers = [await exchange(metrics, Place(index, 3, tmp_path)) for index, metrics in enumerate((first, second))]
        texts = [await asyncio.to_thread(metrics.render, asking=1) for metrics in (first, second)]
        for server in servers:
            server.close()
        return [*texts, await asyncio.to_thread(first.render)]

    for metrics, requests in ((first, 2), (second, 3)):
        metrics.watch_requests_in_flight(lambda count=requests: count)
        for _ in range(requests):
            metrics.request("m", Code.OK, served=True)
    of_first, of_second, alone = asyncio.run(exchanged())
    assert of_first == of_second
    assert b'request_count{model_name="m",status="OK"} 5\n' in of_first
    assert b":kseq:requests_in_flight{} 4\n" in of_first  # one of them asked
    assert b'request_count{model_name="m",status="OK"} 2\n' in alone
