"""Numbers and ids given as options: whatever NumPy and tensors write, Python's numbers are kept, and others refused."""

from dataclasses import dataclass

import numpy as np
import pytest
from keras import ops

from kseq.numbers import flag, id_sequences, ids, read_numbers, real, whole

THREE = [3, np.int8(3), np.uint64(3), np.array(3)]


@pytest.mark.every_backend
@pytest.mark.parametrize("value", [*THREE, "tensor"], ids=repr)
def test_whole_numbers(value):
    value = ops.convert_to_tensor(3) if isinstance(value, str) else value
    assert (whole("n", value), type(whole("n", value))) == (3, int)
    assert (real("n", value), type(real("n", value))) == (3.0, float)


@pytest.mark.parametrize("value", [0.5, np.float16(0.5), np.array(0.5, "float32"), ops.convert_to_tensor(0.5)], ids=str)
def test_real_numbers(value):
    assert (real("n", value), type(real("n", value))) == (0.5, float)
    with pytest.raises(ValueError, match=r"n must be a whole number, .* but got n="):
        whole("n", value)


@pytest.mark.parametrize("value", ["3", True, np.bool_(True), None, [3], np.array([3]), 3.0j, np.nan, np.inf], ids=str)
def test_other_values_are_no_numbers(value):
    with pytest.raises(ValueError, match="must be a whole number"):
        whole("n", value)
    with pytest.raises(ValueError, match="must be a finite number"):
        real("n", value)


def test_flags():
    assert [flag("on", value) for value in (True, np.bool_(False))] == [True, False]
    for value in (1, "yes", None):
        with pytest.raises(ValueError, match="on must be True or False, but got on="):
            flag("on", value)


@dataclass(frozen=True)
class Options:
    count: int
    share: float | None = None
    ends: int | tuple[int, ...] = ()
    on: bool = False


def test_fields_are_read_by_their_annotation():
    options = Options(np.int32(2), np.float32(0.5), (4, 5), np.bool_(True))
    read_numbers(options)
    assert options == Options(2, 0.5, (4, 5), True)
    assert [type(x) for x in (options.count, options.share, options.on)] == [int, float, bool]
    read_numbers(Options(2))
    with pytest.raises(ValueError, match=r"share must be a finite number.* share=nan .float.\. Use less\."):
        read_numbers(Options(2, float("nan")), hint="Use less.")


@pytest.mark.parametrize("values", [[1, 2], (1, 2), range(1, 3), np.array([1, 2], "uint8"), iter([1, np.int64(2)])])
def test_ids(values):
    read = ids("it", values)
    assert (read.tolist(), read.dtype) == ([1, 2], "int32")


@pytest.mark.parametrize("values", ["ab", [1.0], [True], [[1], [2, 3]], [[1]], 3, None, [2**40], ["a"]], ids=str)
def test_other_values_are_no_ids(values):
    with pytest.raises(ValueError, match="it must be a sequence of ids"):
        ids("it", values)


def test_sequences_of_ids():
    assert id_sequences("Words", [[1, 2], np.array([3]), []], "word") == [(1, 2), (3,), ()]
    for values in ("abc", 3, [1, 2], ["cat"]):
        with pytest.raises(ValueError, match=r"Words"):
            id_sequences("Words", values, "word")
