"""Addresses, policies, JSON values and messages of the client, without a server."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from kseq_serving import KseqClient, RetryPolicy, TlsOptions
from kseq_serving.client import TensorSpec, json_arrays, messages
from kseq_serving.client.address import Address
from kseq_serving.protocol import protos


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


MESSAGES = [name for name in vars(messages) if hasattr(getattr(messages, name), "DESCRIPTOR")]


def different(own: Descriptor, published: Descriptor, path: str) -> list[str]:
    """The fields that are not the published message's, in this message and those inside it."""
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
