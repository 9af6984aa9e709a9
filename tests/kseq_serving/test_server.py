"""Requests to the real server process, over REST and gRPC."""

import contextlib
import gzip
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from tests.kseq_serving.clients import ServerProcess

pytestmark = pytest.mark.server


def predict_request(model: str, inputs: dict[str, Any], signature: str = "", **spec: Any) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def grpc_error(server: ServerProcess, request: predict_pb2.PredictRequest) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        server.predict(request)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("", {"x": [1.0, 2.0, 0.1]}),
        ("upper", {"text": ["abc", "straße", "éÀ"]}),
        ("pair", {"a": [1.5, -2.0], "b": [3, 4]}),
    ],
)
def test_both_protocols_give_the_same_answer(server: ServerProcess, signature: str, inputs: dict[str, list]):
    status, answer = server.rest("POST", "/v1/models/toy:predict", {"signature_name": signature, "inputs": inputs})
    response = server.predict(predict_request("toy", inputs, signature))

    assert status == 200
    outputs = answer["outputs"] if len(response.outputs) > 1 else {next(iter(response.outputs)): answer["outputs"]}
    assert response.outputs.keys() == outputs.keys()
    for name, values in outputs.items():
        served = tf.make_ndarray(response.outputs[name]).tolist()
        assert [v.decode() if isinstance(v, bytes) else pytest.approx(v, rel=1e-6) for v in served] == values
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == (signature or "serving_default")


def test_text_ops_of_tensorflow_text_are_served(server: ServerProcess):
    pytest.importorskip("tensorflow_text")
    texts = ["Straße", "\N{LATIN SMALL LIGATURE FI}n", "ABC"]

    _, answer = server.rest("POST", "/v1/models/text:predict", {"instances": texts})
    response = server.predict(predict_request("text", {"text": texts}))

    assert answer == {"predictions": ["strasse", "fin", "abc"]}
    assert [text.decode() for text in response.outputs["folded"].string_val] == ["strasse", "fin", "abc"]


def test_row_answers_are_laid_out_as_recorded(server: ServerProcess):
    status, body = server.rest_bytes("/v1/models/toy:predict", b'{"instances": [1.0, 2.0, 5.0]}')
    assert (status, body) == (200, b'{\n    "predictions": [2.5, 3.0, 4.5\n    ]\n}')

    status, body = server.rest_bytes(
        "/v1/models/toy:predict", b'{"signature_name": "pair", "instances": [{"a": 1, "b": 2}]}'
    )
    row = '        {\n            "sum": 3.0,\n            "twice": 4\n        }'
    assert (status, body.decode()) == (200, f'{{\n    "predictions": [\n{row}\n    ]\n}}')


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("nope:predict", {"instances": [1.0]}, 404, "Servable not found for request: Latest(nope)"),
        ("toy/versions/9:predict", {"instances": [1.0]}, 404, "Servable not found for request: Specific(toy, 9)"),
        ("versioned/labels/no:predict", {"instances": [1.0]}, 400, "Unrecognized servable version label: no"),
        (
            "toy:predict",
            {"signature_name": "nope", "instances": [1.0]},
            400,
            'Serving signature name: "nope" not found in signature def',
        ),
        (
            "toy:predict",
            {"signature_name": "pair", "inputs": {"a": [1.0]}},
            400,
            "Missing named input: b in 'inputs' object.",
        ),
        (
            "toy:predict",
            {"signature_name": "pair", "instances": [{"a": 1.0}]},
            400,
            "Failed to process element: 0 of 'instances' list. JSON object: {\n    \"a\": 1.0\n} keys must be equal "
            "to: a,b",
        ),
        (
            "toy:predict",
            {"instances": ["a"]},
            400,
            "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"a\" Type: String "
            "is not of expected type: float",
        ),
        ("toy:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        ("toy:predict", b'{"instances": [1.0,]}', 400, "JSON Parse error: Invalid value. at offset: 19"),
        ("toy:predict", b"", 400, "JSON Parse error: The document is empty"),
        ("toy:predict?a=b", {}, 400, "Malformed request: POST /v1/models/toy:predict?a=b"),
        ("toy:PREDICT", {}, 400, "Malformed request: POST /v1/models/toy:PREDICT"),
        ("toy:train", {}, 400, "Malformed request: POST /v1/models/toy:train"),
    ],
)
def test_rest_errors(server: ServerProcess, path: str, body: Any, status: int, error: str):
    assert server.rest("POST", f"/v1/models/{path}", body) == (status, {"error": error})


@pytest.mark.parametrize(
    ("model", "signature", "inputs", "code", "message"),
    [
        ("nope", "", {"x": [1.0]}, "NOT_FOUND", "Servable not found for request: Latest(nope)"),
        ("toy", "nope", {"x": [1.0]}, "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
        (
            "toy",
            "pair",
            {"a": [1.0]},
            "INVALID_ARGUMENT",
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: "
            "{b}.",
        ),
        ("toy", "", {"x": [1]}, "INVALID_ARGUMENT", "Expects arg[0] to be float but int32 is provided"),
    ],
)
def test_grpc_errors(server: ServerProcess, model: str, signature: str, inputs: dict, code: str, message: str):
    assert grpc_error(server, predict_request(model, inputs, signature)) == (code, message)


def test_a_failing_op_is_the_clients_error(server: ServerProcess):
    status, answer = server.rest("POST", "/v1/models/toy:predict", {"signature_name": "divide", "instances": [0]})
    code, message = grpc_error(server, predict_request("toy", {"x": [0]}, "divide"))

    assert (status, code) == (400, "INVALID_ARGUMENT")
    assert answer["error"].startswith("Integer division by zero")
    assert message == answer["error"]


def test_grpc_without_a_model_spec(server: ServerProcess):
    assert grpc_error(server, predict_pb2.PredictRequest()) == ("INVALID_ARGUMENT", "Missing ModelSpec")


def test_output_filter(server: ServerProcess):
    request = predict_request("toy", {"a": [1.0], "b": [2]}, "pair")
    request.output_filter.append("twice")
    assert list(server.predict(request).outputs) == ["twice"]

    request.output_filter.append("nope")
    code, message = grpc_error(server, request)
    assert code == "INVALID_ARGUMENT"
    assert message == "output tensor alias not found in signature: nope Outputs expected to be in the set {sum,twice}."


def test_versions_and_labels(server: ServerProcess):
    def rest(path: str) -> list[float]:
        return server.rest("POST", f"/v1/models/versioned{path}:predict", {"instances": [1.0]})[1]["predictions"]

    assert (rest(""), rest("/versions/1"), rest("/labels/stable")) == ([12.0], [11.0], [11.0])
    response = server.predict(predict_request("versioned", {"x": [1.0]}, label="stable"))
    assert (response.model_spec.version.value, response.outputs["y"].float_val) == (1, [11.0])


def test_status(server: ServerProcess):
    health = {"error_code": "OK", "error_message": ""}
    expected = [{"version": version, "state": "AVAILABLE", "status": health} for version in ("2", "1")]
    assert server.rest("GET", "/v1/models/versioned") == (200, {"model_version_status": expected})

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "versioned"
    response = server.call("GetModelStatus", request)
    assert [(s.version, s.state) for s in response.model_version_status] == [(2, 30), (1, 30)]

    error = {"error": "Could not find any versions of model none"}
    assert server.rest("GET", "/v1/models/none") == (404, error)


def test_metadata(server: ServerProcess):
    status, answer = server.rest("GET", "/v1/models/toy/metadata")
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert status == 200
    assert answer["model_spec"] == {"name": "toy", "version": "1", "signature_name": ""}
    assert signatures["serving_default"]["inputs"]["x"]["dtype"] == "DT_FLOAT"

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "toy"
    by_name = get_model_metadata_pb2.SignatureDefMap()
    server.call("GetModelMetadata", request).metadata["signature_def"].Unpack(by_name)
    assert by_name.signature_def.keys() == signatures.keys()


def test_bytes_that_are_not_utf8_pass_through(server: ServerProcess):
    body = b'{"signature_name": "echo", "instances": ["\xff\xfe", {"b64": "//4A"}]}'
    status, answer = server.rest_bytes("/v1/models/toy:predict", body)
    assert (status, answer) == (200, b'{\n    "predictions": ["\xff\xfe", "\xff\xfe\\u0000"\n    ]\n}')


def test_compressed_bodies(server: ServerProcess):
    headers = {"Content-Encoding": "gzip"}
    body = gzip.compress(json.dumps({"instances": [1.0]}).encode())
    assert server.rest("POST", "/v1/models/toy:predict", body, headers) == (200, {"predictions": [2.5]})
    error = {"error": "JSON Parse error: The document is empty"}
    assert server.rest("POST", "/v1/models/toy:predict", body[:-9], headers) == (400, error)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v2/x", 404), ("GET", "v1/models/toy", 404), ("TRACE", "/v1/x", 501)],
)
def test_what_is_no_call_gets_a_page(server: ServerProcess, method: str, path: str, status: int):
    found, page = server.rest(method, path)
    assert found == status
    assert page.startswith(f"<HTML><HEAD>\n<TITLE>{status} ".encode())


def raw_exchange(server: ServerProcess, *parts: bytes) -> bytes:
    """Send parts of a request, each after a response to the one before, and return all that is received."""
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=10) as connection:
        received = b""
        for index, part in enumerate(parts):
            received += connection.recv(4096) if index else b""
            connection.sendall(part)
        while chunk := connection.recv(4096):
            received += chunk
    return received


def test_a_client_may_wait_for_leave_to_send(server: ServerProcess):
    head = (
        b"POST /v1/models/toy:predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 19\r\n"
        b"Expect: 100-continue\r\n\r\n"
    )
    answer = raw_exchange(server, head, b'{"instances":[1.0]}')
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("head", [b"\x16\x03\x01 no HTTP", b"GET /v1/x HTTP/1.1\r\nA: " + b"a" * 20_000])
def test_what_is_no_http_is_refused(server: ServerProcess, head: bytes):
    assert raw_exchange(server, head + b"\r\n\r\n").split(b" ", 2)[1] == b"400"
    assert server.rest("POST", "/v1/models/toy:predict", {"instances": [1.0]})[0] == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server: ServerProcess):
    with contextlib.closing(server.connection()) as connection:
        connection.putrequest("POST", "/v1/models/toy:predict")
        connection.putheader("Content-Length", str(2**30))
        connection.endheaders()
        response = connection.getresponse()
        error = {"error": "The body is larger than 536870912 bytes."}
        assert (response.status, json.loads(response.read())) == (413, error)


def test_a_version_beyond_int64_has_no_body(server: ServerProcess):
    for version in (2**63, "9" * 5000):  # Python parses no number of more than 4,300 digits
        assert server.rest_bytes(f"/v1/models/toy/versions/{version}:predict", b"{}") == (400, b"")


def test_deadlines_reach_the_run(server: ServerProcess):
    with pytest.raises(grpc.RpcError) as caught:
        server.predict(predict_request("toy", {"n": [100_000]}, "slow"), timeout_s=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_call_may_have_no_deadline(server: ServerProcess):
    response = server.predict(predict_request("toy", {"x": [1.0]}), timeout_s=None)
    assert response.outputs["y"].float_val == [2.5]


def test_a_compiled_signature_is_refused_without_the_flag(server: ServerProcess):
    code, message = grpc_error(server, predict_request("compiled", {"x": [1.0]}))
    assert code == "INTERNAL"
    assert message.startswith("XLA compilation disabled")
    assert message.endswith(
        "without --xla_cpu_compilation_enabled. Start it with that flag, or ask a signature that is not compiled."
    )


def test_many_clients_at_once(server: ServerProcess):
    def ask(number: int) -> bool:
        if number % 2:
            return server.rest("POST", "/v1/models/toy:predict", {"instances": [number]})[1] == {
                "predictions": [number / 2 + 2]
            }
        return server.predict(predict_request("toy", {"x": [float(number)]})).outputs["y"].float_val == [number / 2 + 2]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(64)))


@pytest.mark.long
def test_a_call_that_suddenly_takes_long_holds_up_no_other(server: ServerProcess):
    """A slow call does not hold up others, even if earlier calls of its kind were fast."""
    body = {"signature_name": "slow", "instances": [0]}
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        assert server.rest("POST", "/v1/models/toy:predict", body) == (200, {"predictions": [0]})
        assert server.predict(predict_request("toy", {"n": [0]}, "slow")).outputs["n"].int_val == [0]
    body["instances"] = [1000]
    with ThreadPoolExecutor(2) as pool:
        slow = [
            pool.submit(server.rest, "POST", "/v1/models/toy:predict", body),
            pool.submit(server.predict, predict_request("toy", {"n": [1000]}, "slow")),
        ]
        time.sleep(0.05)
        assert server.rest("GET", "/v1/models/toy")[0] == 200
        assert not any(call.done() for call in slow)
        assert slow[0].result() == (200, {"predictions": [1000]})
        assert slow[1].result().outputs["n"].int_val == [1000]


def test_deep_nesting_is_a_client_error(server: ServerProcess):
    status, answer = server.rest("POST", "/v1/models/toy:predict", b'{"inputs": ' + b"[" * 100_000)
    assert status == 400
    assert answer["error"].startswith("JSON Parse error: Nested deeper than")
