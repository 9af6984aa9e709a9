"""Threefry-2x32: random numbers as a function of a key and a counter, in integer operations.

The same key and counter give the same bits eagerly, in a graph, under XLA and on every backend, and loops carry no
state of a generator.

Reference: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor, fresh_seed, random_key_words

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))  # of four rounds each, in turn
GROUPS_OF_ROUNDS = 5  # 20 rounds
PARITY = 0x1BD11BDA  # combined with the words of the key to a third word
LOW_BITS = 2**32 - 1
UNIFORM_BITS = 23  # so that u * total, rounded to float32, stays below total


class Words(NamedTuple):
    """Two words of 32 bits, a key, a counter or random bits: uint32 tensors that broadcast against each other."""

    first: Tensor
    second: Tensor


def threefry(key: Words, counter: Words) -> Words:
    """Return 64 random bits of each key and counter, of their broadcast shape."""
    keys = (key.first, key.second, key.first ^ key.second ^ _word(PARITY))
    x, y = counter.first + keys[0], counter.second + keys[1]
    for group in range(1, GROUPS_OF_ROUNDS + 1):
        for rotation in ROTATIONS[(group - 1) % 2]:
            x = x + y
            y = _rotate(y, rotation) ^ x
        x = x + keys[group % 3]
        y = y + keys[(group + 1) % 3] + _word(group)
    return Words(x, y)


def key_of(seed: int | Tensor | Words) -> Words:
    """Return the key of a seed, an int or integers of 32 or 64 bits; equal values have equal keys.

    On JAX the seed may also be a key of `jax.random.key`, or one for each row.

    Raises:
        ValueError: If the seed is not an integer or integers.
    """
    if isinstance(seed, Words):
        return seed
    if isinstance(seed, int) and not isinstance(seed, bool):
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"seed must have 64 bits at most, but got seed={seed}. Give seed % 2**64.")
        return Words(*(ops.convert_to_tensor(seed >> shift & LOW_BITS, dtype="uint32") for shift in (0, 32)))
    words = random_key_words(seed)
    if words is not None:
        return Words(words[..., 0], words[..., 1])
    if isinstance(seed, list | tuple):
        seed = np.asarray(seed)
    dtype = getattr(seed, "dtype", None)
    dtype = getattr(dtype, "name", str(dtype))
    if "int" not in dtype:
        raise ValueError(
            f"seed must be an int or a tensor of ints, but got {seed!r} ({type(seed).__name__}"
            + (")." if dtype == "None" else f" of dtype {dtype}).")
            + " Give an int, one int for each row, or, on JAX, a key of jax.random.key."
        )
    if isinstance(seed, np.integer | np.ndarray):  # before JAX truncates it to 32 bits
        words = seed.astype("int64").astype("uint64")
        halves = (words & np.uint64(LOW_BITS), words >> np.uint64(32))  # NumPy 1 turns uint64 and an int into floats
        return Words(*(ops.convert_to_tensor(half.astype("uint32")) for half in halves))
    if dtype in ("int64", "uint64"):
        high = ops.bitwise_and(ops.right_shift(seed, 32), LOW_BITS)
        return Words(ops.cast(ops.bitwise_and(seed, LOW_BITS), "uint32"), ops.cast(high, "uint32"))
    low = ops.cast(seed, "uint32")
    return Words(
        low, ops.zeros_like(low) if dtype.startswith("uint") else ops.cast(ops.right_shift(seed, 31), "uint32")
    )


def row_keys(seed: int | Tensor | Words | None, batch: int | Tensor) -> Words:
    """Return a key for each row, `(batch,)`: from the row's own seed, or from the scalar seed and the row's index.

    Args:
        seed: A scalar or `(batch,)`, as a seed or a key. None draws a fresh one.
        batch: The number of rows.

    Raises:
        ValueError: If the seed is neither an integer nor one for each row.
    """
    if seed is None:
        seed = fresh_seed()
    key = key_of(seed)
    shape = tuple(key.first.shape)
    known = [size for size in (*shape, batch) if isinstance(size, int)]
    if shape and (len(shape) != 1 or len(set(known)) > 1):
        raise ValueError(
            f"seed must be an int or int (batch,), here ({batch},), but has shape {shape}. The two numbers of an old "
            "jax.random.PRNGKey are no seed: give jax.random.key or an int."
        )
    rows = ops.arange(batch, dtype="int32")
    index = ops.cast(ops.zeros_like(rows) if shape else rows, "uint32")
    return threefry(key, Words(index, ops.zeros_like(index)))


def uniform(bits: Tensor) -> Tensor:
    """Return uint32 bits as float32 numbers in [0, 1), multiples of 2 ** -23."""
    return ops.cast(ops.right_shift(bits, 32 - UNIFORM_BITS), "float32") * 2.0**-UNIFORM_BITS


def inside_uniform(bits: Tensor) -> Tensor:
    """Return uint32 bits as float32 numbers strictly between 0 and 1, at distances of 2 ** -23."""
    return uniform(bits) + 2.0 ** -(UNIFORM_BITS + 1)


def gumbel(bits: Tensor) -> Tensor:
    """Return uint32 bits as float32 numbers with the standard Gumbel distribution."""
    return -ops.log(-ops.log(inside_uniform(bits)))


def _word(value: int) -> Tensor:
    return ops.cast(ops.convert_to_tensor(value, dtype="uint32"), "uint32")


def _rotate(word: Tensor, count: int) -> Tensor:
    return ops.left_shift(word, _word(count)) | ops.right_shift(word, _word(32 - count))
