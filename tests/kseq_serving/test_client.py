"""Client against the real server: both protocols give equal answers."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from kseq_serving import AsyncKseqClient, KseqClient, RetryPolicy
from kseq_serving.client import CallError, Signature, TensorSpec, VersionStatus
from kseq_serving.errors import Code
from kseq_serving.protocol.protos import ModelServerConfig
from tests.kseq_serving import toy_models
from tests.kseq_serving.clients import ServerProcess
from tests.kseq_serving.test_server_process import publish

pytestmark = pytest.mark.server

PROTOCOLS = ("grpc", "http")


def address(server: ServerProcess, protocol: str) -> str:
    return f"{protocol}://127.0.0.1:{server.port if protocol == 'grpc' else server.rest_port}"


@pytest.fixture(scope="module")
def clients(server: ServerProcess) -> Iterator[dict[str, KseqClient]]:
    opened = {protocol: KseqClient(address(server, protocol)) for protocol in PROTOCOLS}
    yield opened
    for client in opened.values():
        client.close()


@pytest.fixture(params=PROTOCOLS)
def client(clients: dict[str, KseqClient], request: pytest.FixtureRequest) -> KseqClient:
    return clients[request.param]


@pytest.mark.parametrize(
    ("signature_name", "inputs", "outputs"),
    [
        ("serving_default", {"x": [1, 2.5, -4]}, {"y": np.float32([2.5, 3.25, 0])}),
        ("serving_default", {"x": np.array([0.1])}, {"y": np.float32([0.1]) / 2 + 2}),
        ("serving_default", {"x": np.float32([np.nan, np.inf, -np.inf])}, {"y": np.float32([np.nan, np.inf, -np.inf])}),
        ("serving_default", {"x": []}, {"y": np.float32([])}),
        ("upper", {"text": ["abc", b"\xc3\xa9"]}, {"upper": np.array(["ABC", "É"], object)}),
        ("echo", {"text": ["a\0", b"\xff\x00", "ß"]}, {"text": np.array(["a\0", "\udcff\0", "ß"], object)}),
        ("pair", {"a": [1.5], "b": (3,)}, {"sum": np.float32([4.5]), "twice": np.int32([6])}),
    ],
)
def test_predict(client: KseqClient, signature_name: str, inputs: dict, outputs: dict):
    answer = client.predict("toy", inputs, signature_name=signature_name)
    assert answer.keys() == outputs.keys()
    for name, array in outputs.items():
        assert answer[name].dtype == array.dtype
        np.testing.assert_array_equal(answer[name], array)


def test_every_dtype_comes_back_as_it_went(client: KseqClient):
    inputs = {}
    for name in toy_models.KINDS:
        dtype = np.dtype(name)
        ends = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype) if dtype.kind == "f" else None
        inputs[name] = np.array([ends.min, 1, ends.max] if ends else [True, False, True], dtype)
    answer = client.predict("kinds", inputs | {"string": ["a", "b", "c"]})
    assert answer.pop("same_string").tolist() == ["a", "b", "c"]
    for name, array in inputs.items():
        assert answer[f"same_{name}"].dtype == array.dtype, name
        np.testing.assert_array_equal(answer[f"same_{name}"], array, name)


def test_an_output_that_is_no_text_is_bytes(client: KseqClient):
    answer = client.predict("kinds", {"text": [b"\xff", "é"]}, signature_name="blob")
    assert answer["blob_bytes"].tolist() == [b"\xff", "é".encode()]


def test_an_empty_answer_has_its_shape(client: KseqClient):
    answer = client.predict("kinds", {"x": []}, signature_name="table")["y"]
    assert (answer.shape, answer.dtype) == ((0, 3), np.float32)


def test_half_precision_needs_grpc(clients: dict[str, KseqClient]):
    answer = clients["grpc"].predict("kinds", {"x": [1.5]}, signature_name="half")["y"]
    assert (answer.dtype, answer.tolist()) == (np.float16, [3.0])
    with pytest.raises(CallError, match=r"Conversion of JSON Value: 1\.5 to type: half") as caught:
        clients["http"].predict("kinds", {"x": [1.5]}, signature_name="half")
    assert (caught.value.code, caught.value.http_status) == (Code.UNIMPLEMENTED, 501)


def test_both_protocols_give_equal_floats(clients: dict[str, KseqClient]):
    x = np.random.default_rng(0).standard_normal(1000).astype(np.float32) * 10.0 ** np.arange(-10, 10).repeat(50)
    over_grpc, over_rest = (clients[name].predict("toy", {"x": x})["y"] for name in PROTOCOLS)
    np.testing.assert_array_equal(over_grpc, over_rest)


def test_versions_and_labels(client: KseqClient):
    asked: list[dict[str, Any]] = [{}, {"version": 1}, {"label": "stable"}]
    answers = [client.predict("versioned", {"x": [1.0]}, **which)["y"].tolist() for which in asked]
    assert answers == [[12.0], [11.0], [11.0]]
    with pytest.raises(ValueError, match="by its number or by its label, got version=1, label='stable'"):
        client.predict("versioned", {"x": [1.0]}, version=1, label="stable")


def test_output_filter(client: KseqClient):
    def ask(*names: str) -> dict[str, np.ndarray]:
        return client.predict("toy", {"a": [1.0], "b": [2]}, signature_name="pair", output_filter=names)

    assert {name: value.tolist() for name, value in ask("twice").items()} == {"twice": [4]}
    with pytest.raises(CallError) as caught:
        ask("nope")
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == (
        "output tensor alias not found in signature: nope Outputs expected to be in the set {sum,twice}."
    )


NOT_FOUND = "Servable not found for request: "


@pytest.mark.parametrize(
    ("model", "arguments", "grpc", "rest"),
    [
        ("nope", {}, (Code.NOT_FOUND, f"{NOT_FOUND}Latest(nope)"), (Code.NOT_FOUND, 404, f"{NOT_FOUND}Latest(nope)")),
        (
            "toy",
            {"version": 9},
            (Code.NOT_FOUND, f"{NOT_FOUND}Specific(toy, 9)"),
            (Code.NOT_FOUND, 404, f"{NOT_FOUND}Specific(toy, 9)"),
        ),
        (
            "toy",
            {"signature_name": "nope"},
            (Code.FAILED_PRECONDITION, 'Serving signature key "nope" not found.'),
            (Code.INVALID_ARGUMENT, 400, 'Serving signature name: "nope" not found in signature def'),
        ),
        (
            "toy",
            {"signature_name": "pair"},
            (
                Code.INVALID_ARGUMENT,
                "input size does not match signature: 1!=2 len({x}) != len({a,b}). Sent extra: {x}. Missing but "
                "required: {a,b}.",
            ),
            (Code.INVALID_ARGUMENT, 400, "Missing named input: a in 'inputs' object."),
        ),
    ],
)
def test_errors_are_the_servers(
    clients: dict[str, KseqClient], model: str, arguments: dict[str, Any], grpc: tuple, rest: tuple
):
    with pytest.raises(CallError) as caught:
        clients["grpc"].predict(model, {"x": [1.0]}, **arguments)
    assert (caught.value.code, caught.value.message) == grpc
    with pytest.raises(CallError) as caught:
        clients["http"].predict(model, {"x": [1.0]}, **arguments)
    assert (caught.value.code, caught.value.http_status, caught.value.message) == rest


def test_an_error_says_where_and_what_to_do(client: KseqClient, server: ServerProcess):
    with pytest.raises(CallError) as caught:
        client.predict("nope", {"x": [1.0]})
    where = caught.value.address + (", HTTP 404" if caught.value.http_status else "")
    assert caught.value.address in [address(server, protocol) for protocol in PROTOCOLS]
    assert str(caught.value) == (
        f"NOT_FOUND: {NOT_FOUND}Latest(nope) ({where}) status(model) tells which versions are served."
    )


@pytest.mark.parametrize(
    ("signature_name", "inputs", "message"),
    [
        ("serving_default", {"x": [[1.0], [1.0, 2.0]]}, "Input 'x' is ragged"),
        ("echo", {"text": [["a"], ["b", "c"]]}, "Input 'text' is ragged"),
        ("serving_default", {"x": ["1"]}, "Input 'x' takes float32, got strings"),
        ("echo", {"text": ["a", 1]}, "Input 'text' takes strings, got int"),
        ("echo", {"text": np.ones(1)}, "Input 'text' takes strings, got float"),
        ("divide", {"x": [1.5]}, "Input 'x' takes int32, got float64"),
        ("divide", {"x": [2**40]}, "Input 'x' has values that int32 cannot hold: 1099511627776 to 1099511627776"),
    ],
)
def test_inputs_that_cannot_be_sent(client: KseqClient, signature_name: str, inputs: dict, message: str):
    with pytest.raises(ValueError, match=message):
        client.predict("toy", inputs, signature_name=signature_name)


def test_metadata(client: KseqClient):
    metadata = client.metadata("versioned", label="stable")
    assert (metadata.name, metadata.version) == ("versioned", 1)
    x, y = (TensorSpec(np.dtype(np.float32), (None,)) for _ in "xy")
    assert metadata.signatures["serving_default"] == Signature({"x": x}, {"y": y}, "tensorflow/serving/predict")
    kinds = client.metadata("kinds").signatures["serving_default"].inputs
    assert kinds.pop("string") == TensorSpec(np.dtype(object), (None,))
    assert kinds == {name: TensorSpec(np.dtype(name), (None,)) for name in toy_models.KINDS}


def test_status(client: KseqClient):
    assert client.status("versioned") == [VersionStatus(2, "AVAILABLE"), VersionStatus(1, "AVAILABLE")]
    assert client.status("versioned", version=1) == [VersionStatus(1, "AVAILABLE")]
    assert [client.is_ready("toy"), client.is_ready("toy", version=2), client.is_ready("nope")] == [True, False, False]
    with pytest.raises(
        TypeError, match=r"KseqClient.is_ready has no argument 'timeout'. Its arguments are .*'timeout_s'"
    ):
        client.is_ready("toy", timeout=1)
    client.wait_until_ready("toy", timeout_s=1)
    with pytest.raises(CallError, match=r"nope is not ready after 0\.3 s; at last: NOT_FOUND: Could not find any"):
        client.wait_until_ready("nope", timeout_s=0.3)


def test_classify_and_regress(client: KseqClient):
    examples = [{"x": 1.0}, {"x": np.float32([0.1])}, {"x": [2]}]
    labelled = client.classify("examples", examples[:2], signature_name="classify")
    tenth, fifth = float(np.float32(0.1)), float(np.float32(0.2))
    assert labelled == [[("low", 1.0), ("high", 2.0)], [("low", tenth), ("high", fifth)]]
    numbers = client.regress("examples", [{}, {"x": 3.0}], context={"x": 1.5}, signature_name="regress")
    assert (numbers.dtype, numbers.tolist()) == (np.float32, [3.0, 6.0])
    with pytest.raises(CallError, match=r"Data types don't match\. Data type: int64 but expected type: float"):
        client.regress("examples", examples[2:], signature_name="regress")
    with pytest.raises(ValueError, match="Feature 'x' takes str, bytes, int or float"):
        client.regress("examples", [{"x": [1, 2.0]}], signature_name="regress")


def test_many_threads_share_a_client(client: KseqClient):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda x: client.predict("toy", {"x": [x]})["y"].tolist(), range(64)))
    assert answers == [[x / 2 + 2] for x in range(64)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_many_calls_at_once(server: ServerProcess, protocol: str):
    async def ask() -> list[dict[str, np.ndarray]]:
        async with AsyncKseqClient(address(server, protocol)) as client:
            return await asyncio.gather(*(client.predict("toy", {"x": [x]}) for x in range(50)))

    assert [answer["y"].tolist() for answer in asyncio.run(ask())] == [[x / 2 + 2] for x in range(50)]


def test_reload_and_a_version_of_another_signature(models: Path, tmp_path: Path):
    """The client fetches a changed signature again by itself; the user sends each call once."""
    base = tmp_path / "m"
    base.mkdir()
    process = ServerProcess(tmp_path / "log", "--model_name=m", f"--model_base_path={base}")
    try:
        publish(models / "versioned" / "1", base / "1")
        opened = [KseqClient(address(process, protocol)) for protocol in PROTOCOLS]
        for client in opened:
            client.wait_until_ready("m")
            assert client.predict("m", {"x": [1]})["y"].tolist() == [11.0]
        _save_text_version(base / "2.new")
        (base / "2.new").rename(base / "2")
        opened[0].wait_until_ready("m", version=2)
        assert [client.predict("m", {"x": ["a"]})["y"].tolist() for client in opened] == [["A"], ["A"]]

        config = 'model_config_list { config { name: "%s" base_path: "%s" model_platform: "tensorflow" } }'
        opened[0].reload(config % ("n", models / "toy"))
        assert [client.is_ready("n") for client in opened] == [True, True]
        message = ModelServerConfig()
        message.model_config_list.config.add(name="o", base_path=str(models / "toy"), model_platform="tensorflow")
        opened[0].reload(message)
        assert [client.is_ready("o") for client in opened] == [True, True]
        with pytest.raises(CallError) as caught:
            opened[1].reload(message)
        assert caught.value.code is Code.UNIMPLEMENTED
        with pytest.raises(ValueError, match="not a ModelServerConfig in text format: 1:1"):
            opened[0].reload("models: m")
        for client in opened:
            client.close()
    finally:
        process.stop()


def _save_text_version(folder: Path) -> None:
    upper = tf.function(lambda x: {"y": tf.strings.upper(x)}, [tf.TensorSpec([None], tf.string, name="x")])
    module = tf.Module()
    module.upper = upper
    tf.saved_model.save(module, str(folder), {"serving_default": upper.get_concrete_function()})


def test_a_closed_client_says_so(server: ServerProcess):
    client = KseqClient(address(server, "grpc"), retry=RetryPolicy(max_attempts=1))
    assert client.is_ready("toy")
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="This KseqClient is closed"):
        client.is_ready("toy")


def test_closing_ends_the_calls_under_way():
    """The call in progress is one that waits between two attempts to reach a server."""
    client = KseqClient("http://127.0.0.1:1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait_until_ready, "toy", timeout_s=60)
        time.sleep(0.3)
        client.close()
        with pytest.raises(RuntimeError, match="was closed while the call was under way"):
            waiting.result(timeout=10)


def test_a_dtype_that_no_tensor_has_is_refused(server: ServerProcess):
    with (
        KseqClient(address(server, "grpc")) as client,
        pytest.raises(ValueError, match=r"Input no_such_input has dtype datetime64\[s\]"),
    ):
        client.predict("toy", {"no_such_input": np.array(["2020-01-01"], "datetime64[s]")})


def test_it_is_imported_without_tensorflow():
    code = (
        "import sys, kseq_serving; kseq_serving.KseqClient('grpc://127.0.0.1:1').close(); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
