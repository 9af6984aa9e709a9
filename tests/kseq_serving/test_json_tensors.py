"""Conversion of JSON bodies to arrays, and of arrays to JSON bodies."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from kseq_serving.errors import ServingError
from kseq_serving.rest import json_request, json_response

X32 = {"x": tf.float32}
TEXT = {"x": tf.string}
MULTI = {"a": tf.float32, "b": tf.int32, "c": tf.string, "d": tf.bool}


def read(body: str, dtypes: dict[str, tf.DType]) -> tuple[dict[str, np.ndarray], bool]:
    infos = {name: TensorInfo(dtype=dtype.as_datatype_enum) for name, dtype in dtypes.items()}
    document = json_request.parse(body.encode("utf-8", "surrogateescape"))
    return json_request.read_inputs(document, infos), json_request.is_in_rows(document)


def error(body: str, dtypes: dict[str, tf.DType]) -> str:
    with pytest.raises(ServingError) as caught:
        read(body, dtypes)
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "dtype", "value"),
    [
        ("1.5", tf.float32, 1.5),
        ("[1, -2.5, 3e2]", tf.float32, [1.0, -2.5, 300.0]),
        ("[[[1, 2], [3, 4]]]", tf.float64, [[[1.0, 2.0], [3.0, 4.0]]]),
        ("[]", tf.float32, []),
        ("[[], []]", tf.int32, [[], []]),
        ("[12345678901234567890123, 1e39]", tf.float32, [1.2345679e22, float("inf")]),
        ("[1e-45, -1e-45]", tf.float32, [0.0, -0.0]),
        ("[0, -2147483648]", tf.int32, [0, -(2**31)]),
        ("[40000, 70000]", tf.int16, [-25536, 4464]),
        ("[256, -1]", tf.uint8, [0, 255]),
        ("[9223372036854775807]", tf.int64, [2**63 - 1]),
        ("[0, 4294967295]", tf.uint32, [0, 2**32 - 1]),
        ("[0, 18446744073709551615]", tf.uint64, [0, 2**64 - 1]),
        ("[true, false]", tf.bool, [True, False]),
        ('["a", ""]', tf.string, [b"a", b""]),
        ('{"b64": "aGk="}', tf.string, b"hi"),
        ('[{"b64": "aGk"}, "p"]', tf.string, [b"hi", b"p"]),
    ],
)
def test_values(body: str, dtype: tf.DType, value: object):
    expected = np.array(value, object if dtype == tf.string else dtype.as_numpy_dtype)
    for inputs in (body, f'{{"x": {body}}}'):
        arrays, in_rows = read(f'{{"inputs": {inputs}}}', {"x": dtype})
        assert not in_rows
        assert arrays["x"].dtype == expected.dtype
        np.testing.assert_array_equal(arrays["x"], expected)
    if body.startswith("[") and body != "[]":
        arrays, in_rows = read(f'{{"instances": {body}}}', {"x": dtype})
        assert in_rows
        np.testing.assert_array_equal(arrays["x"], expected)


def test_rows_of_objects():
    body = (
        '{"instances": [{"a": 1.5, "b": 2, "c": "s", "d": true}, {"a": 0, "b": -1, "c": {"b64": "aGk="}, "d": false}]}'
    )
    arrays, _ = read(body, MULTI)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "a": [1.5, 0.0],
        "b": [2, -1],
        "c": [b"s", b"hi"],
        "d": [True, False],
    }


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (tf.int8, -(2**31), 2**31 - 1),  # narrow integers are read as int32
        (tf.int32, -(2**31), 2**31 - 1),
        (tf.int64, -(2**63), 2**63 - 1),
        (tf.uint32, 0, 2**32 - 1),
        (tf.uint64, 0, 2**64 - 1),
    ],
)
def test_the_next_integers_beyond_a_dtypes_range_are_refused(dtype: tf.DType, low: int, high: int):
    for value in (low - 1, high + 1):
        for body in (f'{{"inputs": {value}}}', f'{{"instances": [{value}]}}'):
            assert "not of expected type" in error(body, {"x": dtype})


def test_columns_need_not_be_of_one_size_and_may_have_strangers_among_them():
    body = '{"inputs": {"a": [1.5, 2.5], "b": [2], "c": "s", "d": [[true]], "e": 1}}'
    arrays, _ = read(body, MULTI)
    assert {name: array.shape for name, array in arrays.items()} == {"a": (2,), "b": (1,), "c": (), "d": (1, 1)}


ROW = "Failed to process element: "


@pytest.mark.parametrize(
    ("body", "dtypes", "message"),
    [
        ('{"instances": 1}', X32, "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array"),
        ('{"instances": []}', X32, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        ("{}", X32, "Missing 'inputs' or 'instances' key"),
        ('{"inputs": 1}', {}, "Failed to get input map for signature: DEFAULT"),
        ('{"instances": [[1], [2, 3]]}', X32, f"{ROW}1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor "
         "size: 1 but got: 2"),
        ('{"instances": [1, [2]]}', X32, f"{ROW}1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting shape [] but "
         "got: [1]"),
        ('{"instances": [{"x": 1}, 2]}', X32, "Expecting object but got list at item 1 of input list"),
        ('{"instances": [1, {"x": 2}]}', X32, "Expecting value/list but got object at item 1 of input list"),
        ('{"instances": [{"z": 1}]}', X32, f"{ROW}0 key: z of 'instances' list. Error: INVALID_ARGUMENT: JSON object: "
         "does not have named input: z"),
        ('{"instances": [{}]}', X32, f"{ROW}0 of 'instances' list. JSON object: {{}} keys must be equal to: x"),
        ('{"instances": [1.0]}', MULTI, "instances is a plain list, but expecting list of objects as multiple input "
         "tensors required as per tensorinfo_map"),
        ('{"inputs": [[1], 2]}', X32, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: "
         "2"),
        ('{"inputs": [[1, 2], [[3], 4]]}', X32, "Encountered list at unexpected level: 2 expected < 2"),
        ('{"inputs": [[1, 2], [3]]}', X32, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ('{"inputs": [true]}', X32, "JSON Value: true Type: True is not of expected type: float"),
        ('{"inputs": [1.0]}', {"x": tf.int32}, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ('{"inputs": [2147483648]}', {"x": tf.int32}, "JSON Value: 2147483648 Type: Number is not of expected type: "
         "int32"),
        ('{"inputs": [0]}', {"x": tf.bool}, "JSON Value: 0 Type: Number is not of expected type: bool"),
        ('{"inputs": [1]}', {"x": tf.uint16}, "Conversion of JSON Value: 1 to type: uint16"),
        ('{"inputs": [1.0]}', {"x": tf.float16}, "Conversion of JSON Value: 1.0 to type: half"),
        ('{"inputs": [{"b64": "_-8="}]}', TEXT, "Unable to base64 decode"),
        ('{"inputs": [{"b64": "a"}]}', TEXT, "Unable to base64 decode"),
        (f'{{"inputs": {"[" * 300}1{"]" * 300}}}', X32, "tensor parsing error: x"),
    ],
)  # fmt: skip
def test_errors(body: str, dtypes: dict[str, tf.DType], message: str):
    assert error(body, dtypes) == message


def test_the_signature_name_must_be_a_string():
    assert json_request.signature_name({"signature_name": "s"}) == "s"
    with pytest.raises(ServingError) as caught:
        json_request.signature_name({"signature_name": None})
    assert caught.value.message == (
        "JSON Value: {\n    \"signature_name\": null\n} not formatted correctly. 'signature_name' key must be a string "
        "value."
    )


STRINGS = np.array([[b"a", b"\xff"]], object)


@pytest.mark.parametrize(
    ("outputs", "rows", "text"),
    [
        ({"y": np.float32([2.5, 3])}, True, '{\n    "predictions": [2.5, 3.0\n    ]\n}'),
        ({"y": np.float32([[1, 2], [3, 4]])}, True, '{\n    "predictions": [[1.0, 2.0], [3.0, 4.0]\n    ]\n}'),
        ({"y": np.zeros((2, 0), np.float32)}, True, '{\n    "predictions": [[], []\n    ]\n}'),
        ({"y": np.zeros(0, np.float32)}, True, '{\n    "predictions": []\n}'),
        ({"y": np.float32(2.5)}, False, '{\n    "outputs": 2.5\n}'),
        ({"y": np.int32([[1], [2]])}, False, '{\n    "outputs": [\n        [\n            1\n        ],\n        [\n'
         "            2\n        ]\n    ]\n}"),
        ({"y": np.zeros((1, 0))}, False, '{\n    "outputs": [\n        []\n    ]\n}'),
        ({"a": np.bool_([True]), "b": np.int64([7])}, False, '{\n    "outputs": {\n        "a": [\n            true\n'
         '        ],\n        "b": [\n            7\n        ]\n    }\n}'),
        ({"s": STRINGS}, True, '{\n    "predictions": [["a", "\udcff"]\n    ]\n}'),
        ({"s_bytes": STRINGS}, True, '{\n    "predictions": [[{\n                "b64": "YQ=="\n            }, {\n'
         '                "b64": "/w=="\n            }]\n    ]\n}'),
    ],
)  # fmt: skip
def test_answers(outputs: dict[str, np.ndarray], rows: bool, text: str):
    outputs = {name: np.asarray(array) for name, array in outputs.items()}
    assert json_response.write(outputs, rows=rows) == text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.float32(1)}, "Tensor name: y has no shape information "),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
        ({"y": np.zeros(1, np.float16)}, "Failed to write JSON value for tensor type: half"),
    ],
)
def test_answers_that_have_no_rows(outputs: dict[str, np.ndarray], message: str):
    with pytest.raises(ServingError) as caught:
        json_response.write({name: np.asarray(array) for name, array in outputs.items()}, rows=True)
    assert caught.value.message == message
