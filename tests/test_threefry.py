"""Random numbers as a function of a key and a counter."""

import keras
import numpy as np
import pytest
from keras import ops

from kseq.backend import fresh_seed
from kseq.threefry import Words, key_of, row_keys, threefry, uniform
from tests.support import BACKEND, compiled

# Known answers that the authors publish with their Random123 library: key, counter, 20 rounds.
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


def bits(*words):
    return threefry(Words(*words[:2]), Words(*words[2:]))


@pytest.mark.every_backend
@pytest.mark.parametrize("way", [lambda f: f, compiled], ids=["eager", "compiled"])
def test_gives_the_published_answers(way):
    words = np.array([(*key, *counter) for key, counter, _ in KNOWN], "uint32").T
    got = way(bits)(*(ops.convert_to_tensor(word, dtype="uint32") for word in words))
    np.testing.assert_array_equal(np.stack(got, axis=1), np.array([answer for *_, answer in KNOWN], "uint32"))


@pytest.mark.every_backend
@pytest.mark.parametrize(("seed", "words"), [(5, (5, 0)), (-5, (2**32 - 5, 2**32 - 1)), (2**40 + 3, (3, 256))])
def test_equal_seeds_make_equal_keys(seed, words):
    seeds = [seed, np.int64(seed), np.array(seed)]
    if abs(seed) < 2**31:
        seeds += [np.int32(seed), ops.convert_to_tensor(np.int32(seed))]
    for each in seeds:
        assert tuple(int(word) for word in key_of(each)) == words


def test_a_scalar_seed_begins_with_what_it_gives_a_row_alone():
    scalar = np.stack(row_keys(7, 3), axis=1)
    assert len({tuple(key) for key in scalar}) == 3
    np.testing.assert_array_equal(np.stack(row_keys(np.array([7, 8, 7]), 3), axis=1)[[0, 2]], scalar[[0, 0]])


def test_a_compiled_function_has_another_seed_at_each_call():
    seed = compiled(fresh_seed)
    assert int(seed()) != int(seed())


@pytest.mark.every_backend
def test_without_a_seed_keys_differ():
    assert tuple(np.asarray(row_keys(None, 1))) != tuple(np.asarray(row_keys(None, 1)))


@pytest.mark.parametrize(
    ("seed", "message"),
    [(np.float32(1.0), "dtype float32"), (np.zeros((2, 1), "int32"), r"shape \(2, 1\)"), (np.arange(3), r"\(3,\)")],
)
def test_says_what_is_wrong_with_a_seed(seed, message):
    with pytest.raises(ValueError, match=message):
        row_keys(seed, 2)


@pytest.mark.every_backend
def test_numbers_are_uniform():
    counter = Words(ops.cast(np.arange(4096), "uint32"), ops.cast(np.uint32(0), "uint32"))
    numbers = np.asarray(uniform(threefry(key_of(1), counter).first))
    assert np.asarray(uniform(ops.convert_to_tensor(np.array([0, 2**32 - 1], "uint32")))).tolist() == [0, 1 - 2**-23]
    counts = np.histogram(numbers, bins=16, range=(0, 1))[0]
    assert np.sum((counts - 256) ** 2 / 256) < 37.7  # chi-squared of 15 degrees, 0.1 %


def test_unsigned_seeds_are_the_ints_they_are():
    for value in (7, 2**31, 2**32 - 1):
        tensor = key_of(ops.convert_to_tensor(np.uint32(value), dtype="uint32"))
        assert [int(word) for word in tensor] == [int(word) for word in key_of(value)]


@pytest.mark.every_backend
def test_seeds_of_numpy_and_lists_are_those_of_python():
    expected = np.asarray(row_keys(7, 2))
    for seed in (np.int64(7), np.uint8(7), np.array(7), ops.convert_to_tensor(7)):
        np.testing.assert_array_equal(np.asarray(row_keys(seed, 2)), expected)
    np.testing.assert_array_equal(np.asarray(row_keys([7, 8], 2)), np.asarray(row_keys(np.array([7, 8]), 2)))


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "seed", [1.5, "7", True, 2**64, [0.5, 1.0], keras.random.SeedGenerator(1)], ids=lambda x: type(x).__name__
)
def test_says_what_is_no_seed(seed):
    with pytest.raises(ValueError, match="seed must "):
        row_keys(seed, 2)


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND != "jax", reason="keys of JAX")
def test_keys_of_jax_are_seeds():
    import jax

    keys = jax.random.split(jax.random.key(5), 2)
    one, other = (np.asarray(row_keys(jax.random.key(seed), 2)) for seed in (5, 6))
    assert (one != other).any()
    np.testing.assert_array_equal(np.asarray(row_keys(keys[1], 1))[:, 0], np.asarray(row_keys(keys, 2))[:, 1])
    np.testing.assert_array_equal(jax.jit(lambda key: row_keys(key, 2))(keys[0]), row_keys(keys[0], 2))
    rbg = [np.asarray(row_keys(jax.random.key(seed, impl="rbg"), 1)) for seed in (5, 6)]
    assert (rbg[0] != rbg[1]).any()
