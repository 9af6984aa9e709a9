import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kseq_serving.errors import Code
from kseq_serving.metrics import MAX_LABEL, MAX_UNKNOWN_MODELS, Metrics


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def lines(metrics: Metrics, name: str) -> list[str]:
    return [line for line in metrics.render().decode().splitlines() if line.startswith(name)]


def test_a_counter_has_tensorflow_servings_name_and_labels(metrics: Metrics):
    metrics.request("dates", Code.OK, served=True)
    metrics.request("dates", Code.OK, served=True)
    metrics.request("nope", Code.NOT_FOUND, served=False)
    assert lines(metrics, ":tensorflow:serving:request_count") == [
        ':tensorflow:serving:request_count{model_name="dates",status="OK"} 2',
        ':tensorflow:serving:request_count{model_name="nope",status="NOT_FOUND"} 1',
    ]
    assert metrics.total("/tensorflow/serving/request_count") == 2
    assert metrics.total("/no/such/metric") == 0


def test_a_histogram_has_tensorflow_servings_limits(metrics: Metrics):
    metrics.request_latency("dates", "predict", "REST", 0.0004)
    found = lines(metrics, ":tensorflow:serving:request_latency")
    limits = re.findall(r'le="([^"]+)"', "\n".join(found))
    assert (limits[:6], limits[-2:]) == (["10", "18", "32.4", "58.32", "104.976", "188.957"], ["1.47476e+09", "+Inf"])
    start = ':tensorflow:serving:request_latency{}{{model_name="dates",API="predict",entrypoint="REST"'
    assert f'{start.format("_bucket")},le="340.122"}} 0' in found
    assert f'{start.format("_bucket")},le="612.22"}} 1' in found
    assert f"{start.format('_sum')}}} 400" in found
    assert f"{start.format('_count')}}} 1" in found


def test_names_are_shown_before_anything_is_counted(metrics: Metrics):
    text = metrics.render().decode()
    assert "# TYPE :tensorflow:serving:batching_session:wrapped_run_count counter\n" in text
    assert "# TYPE :tensorflow:serving:runtime_latency histogram\n" in text
    assert "padding_size{" not in text


def test_batches_are_counted(metrics: Metrics):
    metrics.batch_input(3, tensors=2)
    metrics.batch_queued([0.001, 0.002])
    metrics.batch_formed(4, padding=1)
    metrics.batch_run()
    session = ":tensorflow:serving:batching_session:"
    text = metrics.render().decode()
    assert f"{session}wrapped_run_count{{}} 1\n" in text
    assert f"{session}input_batch_size_count{{}} 2\n" in text
    assert f'{session}padding_size_sum{{execution_batch_size="4"}} 1\n' in text
    assert f"{session}processed_batch_size_sum{{}} 4\n" in text
    assert f'{session}queuing_latency_count{{thread_pool_name=""}} 2\n' in text


def test_foreign_names_can_neither_break_the_text_nor_fill_the_memory(metrics: Metrics):
    metrics.request('a"\\\nb', Code.NOT_FOUND, served=False)
    assert lines(metrics, ":tensorflow:serving:request_count") == [
        r':tensorflow:serving:request_count{model_name="a\"\\\nb",status="NOT_FOUND"} 1'
    ]
    for number in range(MAX_UNKNOWN_MODELS + 50):
        metrics.request(f"{number}-{'x' * 1000}", Code.NOT_FOUND, served=False)
    found = lines(metrics, ":tensorflow:serving:request_count")
    assert len(found) == MAX_UNKNOWN_MODELS + 1
    assert max(map(len, found)) < MAX_LABEL + 100
    assert ':tensorflow:serving:request_count{model_name="(other)",status="NOT_FOUND"} 51' in found


def test_prometheus_can_read_it(metrics: Metrics):
    metrics.request("m", Code.OK, served=True)
    metrics.runtime_latency("m", "Predict", 0.001)
    metrics.warmup("/m/1", Code.OK, 3, 0.5)
    metrics.example_count("m", 2)
    families = {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}
    assert {sample.value for sample in families[":tensorflow:serving:model_warmup_records_read"].samples} == {3.0}
    assert families[":tensorflow:serving:runtime_latency"].type == "histogram"
