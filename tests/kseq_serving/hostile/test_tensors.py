"""Tensors in gRPC messages whose conversion must not cost more than their size."""

import tracemalloc

import numpy as np
import pytest

from kseq_serving.errors import Code, ServingError
from kseq_serving.protocol import tensors
from kseq_serving.protocol.protos import TensorProto
from tests.kseq_serving.hostile.counting import lines_run


def strings(content: bytes, *shape: int) -> TensorProto:
    message = TensorProto(dtype=tensors.STRING, tensor_content=content)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


HOSTILE = {
    "one length without an end": lambda n: strings(b"\xff" * n, 1),
    "as many lengths without an end as bytes": lambda n: strings(b"\xff" * n, n),
    "lengths of six bytes": lambda n: strings(b"\x80\x80\x80\x80\x80\x00" * n, n),
    "one length of six bytes among short ones": lambda n: strings(b"\x80\x80\x80\x80\x80" + b"\x00" * n, n),
    "lengths above what is left": lambda n: strings(b"\xff\xff\xff\xff\x7f" * n, n),
    "far more strings than bytes": lambda n: strings(b"\x00" * n, 2**40),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_wrong_lengths_of_strings_are_refused_in_steps_that_do_not_grow(make):
    steps = []
    for size in (2_000, 4_000):
        message = make(size)
        with pytest.raises(ValueError, match="length"):
            tensors.to_array(message)
        steps.append(lines_run(lambda message=message: tensors.to_array(message)))
    assert steps[1] <= steps[0] + 100  # some for the finalizer of the array


def test_right_lengths_of_all_sizes_are_read():
    texts = [b"", b"a", b"b" * 127, b"c" * 128, b"d" * 16_383, b"e" * 16_384, b"f" * 2_097_152]
    message = TensorProto()
    tensors.fill(message, np.array(texts, object), tensors.STRING, as_content=True)
    assert tensors.to_array(message).tolist() == texts
    assert tensors.to_array(strings(b"", 0)).tolist() == []


@pytest.mark.parametrize(
    ("dtype", "itemsize", "values"),
    [
        (1, 4, {}),
        (18, 16, {}),
        (tensors.STRING, 80, {}),
        (tensors.STRING, 1_000_000, {"string_val": [b"x" * 1_000_000]}),  # TensorFlow copies it to each element
        (tensors.STRING, 50_000, {"string_val": [b"", b"x" * 50_000]}),
    ],
)
def test_a_tensor_filled_from_one_value_is_bounded_in_bytes(dtype: int, itemsize: int, values: dict):
    message = TensorProto(dtype=dtype, **values)
    message.tensor_shape.dim.add(size=tensors.MAX_EXTRA_BYTES // itemsize + 2)
    with pytest.raises(ValueError, match="values for"):
        tensors.to_array(message)


@pytest.mark.parametrize("as_content", [False, True])
def test_many_short_strings_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch, as_content: bool):
    """Each takes a byte or two of the message, and some eighty of memory."""
    monkeypatch.setattr(tensors, "MAX_EXTRA_BYTES", 200_000)
    monkeypatch.setattr(tensors, "_extra_together", tensors.Budget(300_000, "Tensors"))
    count = 200_000 // 80

    def message(count: int) -> TensorProto:
        made = strings(b"\0" * count, count) if as_content else TensorProto(dtype=tensors.STRING)
        made.string_val.extend([] if as_content else [b""] * count)
        del made.tensor_shape.dim[:]
        made.tensor_shape.dim.add(size=count)
        return made

    with pytest.raises(ValueError, match=f"{count + 1} strings"):
        tensors.to_array(message(count + 1))
    held = tensors.to_array(message(count))
    with pytest.raises(ServingError, match="exceed 300000 bytes"):
        tensors.to_array(message(count))
    del held
    tracemalloc.start()
    try:
        assert tensors.to_array(message(count)).tolist() == [b""] * count
        assert tracemalloc.get_traced_memory()[1] < 2 * 200_000
    finally:
        tracemalloc.stop()


def test_filled_tensors_are_bounded_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tensors, "_extra_together", tensors.Budget(1_000_000, "Tensors"))
    message = TensorProto(dtype=1, float_val=[1.0])
    message.tensor_shape.dim.add(size=100_000)
    held = [tensors.to_array(message), tensors.to_array(message)]
    with pytest.raises(ServingError, match="exceed 1000000 bytes") as caught:
        tensors.to_array(message)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    held.pop()
    assert tensors.to_array(message).sum() == 100_000
