import numpy as np
import pytest
import tensorflow as tf

from kseq_serving.protocol import tensors
from kseq_serving.protocol.dtypes import dtype_of
from kseq_serving.protocol.protos import TensorProto

DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES += ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]


def proto(dtype: tf.DType, shape: list[int], **values: object) -> TensorProto:
    message = TensorProto(dtype=dtype.as_datatype_enum, **values)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def to_proto(array: np.ndarray, *, as_content: bool = False) -> TensorProto:
    message = TensorProto()
    tensors.fill(message, array, dtype_of(array).as_datatype_enum, as_content=as_content)
    return message


@pytest.mark.parametrize("as_content", [False, True])
@pytest.mark.parametrize("name", DTYPES)
def test_numbers_there_and_back(name: str, as_content: bool):
    array = np.array([[0, 1], [3, 100]]).astype(tf.as_dtype(name).as_numpy_dtype)
    message = to_proto(array, as_content=as_content)
    assert bool(message.tensor_content) is as_content
    np.testing.assert_array_equal(tensors.to_array(message), array)
    np.testing.assert_array_equal(tf.make_ndarray(message), array)


@pytest.mark.parametrize("as_content", [False, True])
def test_strings_there_and_back(as_content: bool):
    array = np.array([[b"abc"], [b"\xff" * 200]], object)
    message = to_proto(array, as_content=as_content)
    assert list(message.string_val) == ([] if as_content else [b"abc", b"\xff" * 200])
    assert tensors.to_array(message).tolist() == array.tolist()


def test_a_scalar_has_a_shape():
    assert to_proto(np.float32(2)).HasField("tensor_shape")


@pytest.mark.parametrize(
    ("message", "values"),
    [
        (proto(tf.float32, [3], float_val=[1.5]), [1.5, 1.5, 1.5]),
        (proto(tf.float32, [3], float_val=[1, 2, 3, 4]), [1, 2, 3]),
        (proto(tf.int32, [2]), [0, 0]),
        (proto(tf.string, [2]), [b"", b""]),
        (proto(tf.int8, [2], int_val=[300, -1]), [44, -1]),
    ],
)
def test_too_few_or_too_many_values(message: TensorProto, values: list):
    assert tensors.to_array(message).tolist() == values


@pytest.mark.parametrize(
    "message",
    [
        TensorProto(),
        TensorProto(dtype=77),
        proto(tf.float32, [-1], float_val=[1]),
        proto(tf.float32, [2], tensor_content=b"123"),
        proto(tf.float32, [2**40], float_val=[1]),
        proto(tf.string, [2], tensor_content=b"\x01\x05ab"),
        proto(tf.string, [2], tensor_content=b"\x81"),
        proto(tf.float32, [1] * 65, float_val=[1]),
    ],
)
def test_what_is_no_tensor(message: TensorProto):
    with pytest.raises(ValueError, match=r".+"):
        tensors.to_array(message)


def test_dtypes_have_tensorflows_numbers():
    for number, dtype in tensors.DTYPES.items():
        assert np.dtype(tf.as_dtype(number).as_numpy_dtype) == dtype
