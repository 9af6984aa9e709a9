"""Tests of servers that are started with exactly the flags of an export and of the manifests."""

import pathlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from prometheus_client.parser import text_string_to_metric_families
from tensorflow_serving.apis import predict_pb2

from tests.deploy.conftest import DEPLOY, KUBERNETES, NAME, Exported, read_yaml
from tests.kseq_serving.clients import KSEQ_SERVE, ServerProcess

pytestmark = pytest.mark.server
WIDTHS = (3, 11, 6, 8)


def requests() -> list[dict[str, np.ndarray]]:
    """Return inputs of one row each, with different widths and lengths."""
    random = np.random.default_rng(0)
    lengths = np.array([[3], [9], [2], [8]], "int32")
    return [
        {"features": random.normal(size=(1, width, 3)).astype("float32"), "lengths": length}
        for width, length in zip(WIDTHS, lengths, strict=True)
    ]


def over_rest(server: ServerProcess, inputs: dict[str, np.ndarray]) -> tuple[int, Any]:
    body = {"inputs": {name: value.tolist() for name, value in inputs.items()}}
    return server.rest("POST", f"/v1/models/{NAME}:predict", body)


def over_grpc(server: ServerProcess, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = NAME
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return {name: tf.make_ndarray(value) for name, value in server.predict(request).outputs.items()}


def check_answer(answer: dict[str, Any], inputs: dict[str, np.ndarray], exported: Exported) -> None:
    """Check that a response equals the model's for this row alone, except for padding by a batch."""
    own = exported.model.decode(inputs["features"], inputs["lengths"])
    assert np.all(np.asarray(own.lengths) > 0)
    width = own.tokens.shape[2]
    for name, expected in (("tokens", own.tokens), ("frames", own.frames)):
        given = np.array(answer[name])
        np.testing.assert_array_equal(given[:, :, :width], expected)
        assert np.all(given[:, :, width:] == -1)
    np.testing.assert_array_equal(answer["lengths"], own.lengths)
    np.testing.assert_allclose(answer["scores"], own.scores, rtol=1e-4)


def metrics(server: ServerProcess) -> dict[str, dict[str, float]]:
    """Return the values of all series by the metric's name."""
    found: dict[str, dict[str, float]] = {}
    path = read_yaml(KUBERNETES / "deployment.yaml")["spec"]["template"]["metadata"]["annotations"][
        "prometheus.io/path"
    ]
    status, text = server.rest("GET", path)
    assert status == 200
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            # This parser adds OpenMetrics's suffix to the names of counters; Prometheus does not.
            name = family.name if family.type == "counter" else sample.name
            found.setdefault(name, {})[str(sample.labels)] = sample.value
    return found


@pytest.fixture(scope="module")
def by_script(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Server started by the export's serve.sh, with only the ports set."""
    folder = tmp_path_factory.mktemp("script")
    command = folder / "kseq-serve"
    command.write_text(f'#!/bin/sh\nexec {" ".join(KSEQ_SERVE)} "$@"\n')
    command.chmod(0o755)
    script = ["env", f"SERVER={command}", "sh", str(exported.base / "serve.sh")]
    server = ServerProcess(folder / "log", command=script)
    try:
        yield server.wait_ready()
    finally:
        assert server.stop() == 0


@pytest.fixture(scope="module")
def by_manifest(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Server started by the Deployment's command line, with the volume's path on this machine and free ports."""
    volume = tmp_path_factory.mktemp("volume")
    base = pathlib.Path(shutil.copytree(exported.base, volume / NAME))
    config = base / "models.config"
    config.write_text(config.read_text().replace("/models/", f"{volume}/"))
    (container,) = read_yaml(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    arguments = [argument.replace("/models/", f"{volume}/") for argument in container["args"]]
    arguments = [argument for argument in arguments if "port=" not in argument]
    server = ServerProcess(volume / "log", *arguments)
    try:
        yield server.wait_ready()
    finally:
        assert server.stop() == 0


@pytest.fixture(params=["script", "manifest"])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    return request.getfixturevalue(f"by_{request.param}")


def test_both_protocols_answer_as_the_model_does(server: ServerProcess, exported: Exported):
    for inputs in requests():
        status, body = over_rest(server, inputs)
        assert status == 200, body
        check_answer(body["outputs"], inputs, exported)
        check_answer(over_grpc(server, inputs), inputs, exported)


def test_requests_that_share_a_batch_get_their_own_answers(by_script: ServerProcess, exported: Exported):
    """Requests are padded to the longest of their batch; they are sent until some have shared a batch."""
    asked = requests() * 4
    deadline = time.monotonic() + 60
    with ThreadPoolExecutor(len(asked)) as pool:
        while True:
            for inputs, answer in zip(asked, pool.map(lambda x: over_grpc(by_script, x), asked), strict=True):
                check_answer(answer, inputs, exported)
            sizes = metrics(by_script)[":tensorflow:serving:batching_session:processed_batch_size_bucket"]
            alone, all_sizes = sizes["{'le': '1'}"], sizes["{'le': '+Inf'}"]
            if alone < all_sizes:
                break
            assert time.monotonic() < deadline, sizes


def test_a_batch_is_not_filled_up_and_has_the_largest_size_at_most(by_script: ServerProcess):
    """A batch of three rows runs as it is; five rows are refused."""
    three, five = (
        {"features": np.zeros((rows, 4, 3), "float32"), "lengths": np.full(rows, 4, "int32")} for rows in (3, 5)
    )
    padding = ":tensorflow:serving:batching_session:padding_size_bucket"
    label = "{'execution_batch_size': '3', 'le': '1'}"
    before = metrics(by_script).get(padding, {}).get(label, 0)
    assert over_rest(by_script, three)[0] == 200
    assert metrics(by_script)[padding][label] > before
    status, body = over_rest(by_script, five)
    assert (status, body["error"]) == (400, "Task size 5 is larger than maximum input batch size 4")


def test_the_probes_url_is_answered(by_manifest: ServerProcess):
    (container,) = read_yaml(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]["containers"]
    path = container["readinessProbe"]["httpGet"]["path"]
    status, body = by_manifest.rest("GET", path)
    assert (status, body["model_version_status"][0]["state"]) == (200, "AVAILABLE")
    assert by_manifest.rest("GET", path + "x")[0] == 404


def test_the_metric_that_pods_are_counted_by_is_there(by_manifest: ServerProcess):
    """The metric has the name in the adapter's rule, and grows with each request."""
    (rule,) = read_yaml(KUBERNETES / "prometheus-adapter-values.yaml")["rules"]["custom"]
    name = rule["name"]["matches"].strip("^$")
    label = str({"model_name": NAME, "status": "OK"})
    over_rest(by_manifest, requests()[0])
    before = metrics(by_manifest)[name][label]
    over_rest(by_manifest, requests()[0])
    assert metrics(by_manifest)[name][label] == before + 1


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_the_health_check_tells_a_served_model_from_others(by_manifest: ServerProcess):
    command = read_yaml(DEPLOY / "docker-compose.yaml")["services"]["serving"]["healthcheck"]["test"][1:]

    def check(model: str, port: int) -> int:
        there = [part.replace("${MODEL:-dates}", model).replace("8501", str(port)) for part in command]
        assert "${" not in there[-1]
        return subprocess.run(there, capture_output=True, timeout=20, check=False).returncode

    assert check(NAME, by_manifest.rest_port) == 0
    assert check("other", by_manifest.rest_port) != 0
    assert check(NAME, 1) != 0
