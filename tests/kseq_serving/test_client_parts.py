"""Addresses, policies, calls, JSON values and messages of the client, without a server."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from kseq_serving import AsyncKseqClient, CallError, KseqClient, RetryPolicy, TlsOptions
from kseq_serving.client import TensorSpec, arrays, json_arrays, messages
from kseq_serving.client.address import Address
from kseq_serving.client.calls import Prediction
from kseq_serving.client.grpc_calls import GrpcCalls
from kseq_serving.client.model_info import ModelSpec, Signature
from kseq_serving.client.rest_calls import RestCalls, RestRequest
from kseq_serving.protocol import protos


@pytest.fixture(scope="module")
def idle() -> Iterator[KseqClient]:
    """Client of an address at which nothing answers."""
    with KseqClient("grpc://127.0.0.1:1", retry=RetryPolicy(max_attempts=1)) as client:
        yield client


@pytest.mark.parametrize(
    ("text", "is_rest", "is_secure", "target"),
    [
        ("grpc://host:8500", False, False, "host:8500"),
        ("grpcs://[::1]:8500", False, True, "[::1]:8500"),
        ("unix:/run/s", False, False, "unix:/run/s"),
        ("unix:///run/s", False, False, "unix:/run/s"),
        ("http://host:8501/", True, False, "http://host:8501"),
        ("https://host/models", True, True, "https://host/models"),
    ],
)
def test_addresses(text: str, is_rest: bool, is_secure: bool, target: str):
    assert Address.parse(text) == Address(text, is_rest, is_secure, target)


@pytest.mark.parametrize(
    "text",
    ["", "host:8500", "grpc://host", "grpc://host:x", "grpc://host:1/path", "unix:s", "ftp://host", "http://",
     "http://host?a=b", "http://me:secret@host"],
)  # fmt: skip
def test_what_is_no_address(text: str):
    with pytest.raises(ValueError, match=r"An address is grpc://HOST:PORT, .*; got "):
        KseqClient(text)


def test_tls_options_that_cannot_be_meant(tmp_path: Path):
    with pytest.raises(ValueError, match="TlsOptions are for grpcs:// and https://, and grpc://a:1 would not use them"):
        KseqClient("grpc://a:1", tls=TlsOptions())
    with pytest.raises(ValueError, match="A client's certificate goes with its key"):
        TlsOptions(certificate_file="a.pem")
    with pytest.raises(FileNotFoundError, match="There is no PEM file"):
        TlsOptions(ca_file=tmp_path / "a.pem")


ONE = {"text": ["a"]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.predict("m", "a text"), "inputs must be a dict of arrays .*; got 'a text' of type str"),
        (lambda c: c.predict("m", ["a"]), r"inputs must be a dict .*; got \['a'\] of type list"),
        (lambda c: c.predict("m", None), "inputs must be a dict .*; got None"),
        (lambda c: c.predict("m", {1: ["a"]}), "A name in inputs must be a str; got 1 of type int"),
        (lambda c: c.predict(None, ONE), "model must be a str; got None"),
        (lambda c: c.predict("m", ONE, version="1"), "version must be a whole number.* got '1' of type str"),
        (lambda c: c.predict("m", ONE, version=True), "version must be a whole number"),
        (lambda c: c.predict("m", ONE, label=1), "label must be a str; got 1"),
        (lambda c: c.predict("m", ONE, signature_name=None), "signature_name must be a str; got None"),
        (lambda c: c.predict("m", ONE, output_filter="text"), r"output_filter must be a list .*; got 'text'"),
        (lambda c: c.predict("m", ONE, output_filter=[1]), r"output_filter\[0\] must be a str; got 1"),
        (lambda c: c.predict("m", ONE, timeout_s="2"), "timeout_s must be a number; got '2'"),
        (lambda c: c.classify("m", {"a": 1}), "examples must be a list of dicts"),
        (lambda c: c.regress("m", ["a"]), r"examples\[0\] must be a dict of features"),
        (lambda c: c.regress("m", [{}], context=[1]), "context must be a dict of features"),
        (lambda c: c.reload(None), "The configuration.* must be a str; got None"),
        (lambda c: c.metadata(3), "model must be a str; got 3"),
        (lambda c: c.wait_until_ready("m", timeout_s=None), "timeout_s must be a number; got None"),
    ],
)
def test_arguments_of_other_kinds_are_refused_before_anything_is_sent(idle: KseqClient, call: Any, message: str):
    with pytest.raises(TypeError, match=message):
        call(idle)


def test_an_address_is_a_text():
    with pytest.raises(TypeError, match="The address must be a str; got 8501 of type int"):
        KseqClient(8501)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("a text", r"Input 'text' takes shape \(any,\), got \(\). Put one row into a list."),
        ([["a"]], r"Input 'text' takes shape \(any,\), got \(1, 1\)\.$"),
        ({"a": "b"}, "Input 'text' takes strings, got dict"),
        (None, "Input 'text' takes strings, got NoneType"),
    ],
)
def test_inputs_that_do_not_fit_the_signature(value: Any, message: str):
    signature = Signature({"text": TensorSpec(arrays.STRINGS, (None,))}, {}, "")
    assert arrays.to_arrays({"text": ["a"], "other": "b"}, signature)["text"].tolist() == [b"a"]
    with pytest.raises(ValueError, match=message):
        arrays.to_arrays({"text": value}, signature)


def test_delays_grow_to_the_longest():
    policy = RetryPolicy(first_delay_s=0.1, factor=3.0, max_delay_s=1.0)
    for attempts, longest in ((1, 0.1), (2, 0.3), (3, 0.9), (4, 1.0), (10_000, 1.0)):
        delays = [policy.delay_s(attempts) for _ in range(100)]
        assert longest / 2 <= min(delays) < max(delays) <= longest
    with pytest.raises(ValueError, match="max_attempts >= 1"):
        RetryPolicy(max_attempts=0)


def spec(dtype: Any, *shape: int | None) -> TensorSpec:
    return TensorSpec(np.dtype(dtype), shape)


@pytest.mark.parametrize(
    ("value", "of", "expected"),
    [
        ([[1.5], [float("inf")]], spec("float32", None, 1), np.float32([[1.5], [np.inf]])),
        ([1, 2**64 - 1], spec("uint64", None), np.array([1, 2**64 - 1], np.uint64)),
        (True, spec("bool"), np.array(True)),
        ([], spec("int32", None, None, 2), np.zeros((0, 0, 2), np.int32)),
        (["\udcff", {"b64": "/w=="}], spec(object, None), np.array([b"\xff", b"\xff"], object)),
    ],
)
def test_values_of_answers(value: Any, of: TensorSpec, expected: np.ndarray):
    array = json_arrays.read(value, of)
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize(
    ("value", "of"),
    [
        ([1.5], spec("int32", None)),
        ([1], spec("float32", None)),
        ([1.0], spec("uint64", None)),
        (["a"], spec("float32", None)),
        ([1.0], spec(object, None)),
        ([[1.0], [1.0, 2.0]], spec("float32", None, None)),
        ([["a"], ["a", "b"]], spec(object, None, None)),
    ],
)
def test_values_of_another_kind_are_not_taken(value: Any, of: TensorSpec):
    with pytest.raises(ValueError, match=r".+"):
        json_arrays.read(value, of)


@pytest.mark.parametrize("array", [np.complex64([1]), np.zeros((2, 0, 3))])
def test_arrays_that_json_cannot_say(array: np.ndarray):
    with pytest.raises(ValueError, match="Use a grpc:// address"):
        json_arrays.write(array)


def test_both_clients_have_the_same_calls():
    for name, method in vars(AsyncKseqClient).items():
        if not name.startswith("_") and name != "close":
            assert inspect.signature(getattr(KseqClient, name)) == inspect.signature(method), name
            assert not inspect.iscoroutinefunction(getattr(KseqClient, name)), name


def test_calls_are_built_and_read_without_a_server():
    x = spec("float32", None)
    signature = Signature({"x": x}, {"y": x, "z": x}, "")
    prediction = Prediction(ModelSpec("a/b", version=3), "run", ("z",))
    over_rest = RestCalls("http://a").predict(prediction, {"x": np.float32([0.5])}, signature)
    body = b'{"signature_name": "run", "inputs": {"x": [0.5]}}'
    assert over_rest.request == RestRequest("POST", "/v1/models/a%2Fb/versions/3:predict", body)
    assert {n: a.tolist() for n, a in over_rest.read({"outputs": {"y": [1.0], "z": [2.0]}}).items()} == {"z": [2.0]}
    with pytest.raises(CallError, match=r"there are inputs \['q'\], but the signature 'run' takes \['x'\]"):
        RestCalls("http://a").predict(prediction, {"x": np.float32([0.5]), "q": np.float32([1])}, signature)
    over_grpc = GrpcCalls("grpc://a").predict(prediction, {"x": np.float32([0.5])}, signature)
    sent = protos.PredictRequest.FromString(over_grpc.request.message.SerializeToString())
    assert (sent.model_spec.name, sent.model_spec.version.value, sent.output_filter) == ("a/b", 3, ["z"])
    assert list(sent.inputs["x"].float_val) == [0.5]


MESSAGES = [name for name in vars(messages) if hasattr(getattr(messages, name), "DESCRIPTOR")]


def different(own: Descriptor, published: Descriptor, path: str) -> list[str]:
    """Return the fields, also of nested messages, that differ from the published message's."""
    found: list[str] = []
    for field in own.fields:
        at = f"{path}.{field.name}"
        original = published.fields_by_name.get(field.name)
        if original is None or facts(field) != facts(original):
            found.append(at)
        elif field.message_type is not None:
            found += different(field.message_type, original.message_type, at)
        elif field.enum_type is not None:
            numbers = original.enum_type.values_by_name
            wrong = [
                v.name for v in field.enum_type.values if v.name not in numbers or numbers[v.name].number != v.number
            ]
            found += [f"{at}: {name}" for name in wrong]
    return found


def facts(field: FieldDescriptor) -> tuple:
    is_map = bool(field.message_type and field.message_type.GetOptions().map_entry)
    return field.number, field.type, field.is_repeated, is_map


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_are_the_published_ones(name: str):
    assert not different(getattr(messages, name).DESCRIPTOR, getattr(protos, name).DESCRIPTOR, name)


def test_all_messages_are_compared():
    assert len(MESSAGES) == 16
