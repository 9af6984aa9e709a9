"""Selection and sampling by probability mass, by bisection: XLA's sorts and cumulative sums are slow on a CPU."""

from keras import ops

from kseq.backend import Tensor, bitcast, while_loop

FLOAT_BITS = 31  # of a float32 that is not negative: its bits, read as an int32, have the order of the floats


def boundary(keys: Tensor, masses: Tensor, needed: Tensor, bits: int) -> Tensor:
    """Return the least key up to which the masses reach the needed mass, int32 `(rows, 1)`.

    The key is found bit by bit, from the highest: a bit is set if the masses of lower keys alone do not reach `needed`.

    Args:
        keys: int32 `(rows, n)` or `(n,)`, at least 0, less than `2 ** bits`.
        masses: float32 `(rows, n)`, at least 0.
        needed: float32 `(rows, 1)`. If all masses together do not reach it, the answer is `2 ** bits - 1`.
        bits: At most 31.
    """

    def set_bit(state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        bit, least = state
        larger = least + bit
        below = ops.sum(ops.where(keys < larger, masses, 0.0), axis=-1, keepdims=True)
        return bit // 2, ops.where(below < needed, larger, least)

    start = ops.convert_to_tensor(2 ** (bits - 1), dtype="int32"), ops.zeros_like(needed, dtype="int32")
    _, least = while_loop(lambda state: state[0] > 0, set_bit, start)
    return least


def smallest_set(costs: Tensor, masses: Tensor, needed: Tensor | float) -> Tensor:
    """Return the fewest elements, taken by rising cost, that reach the needed mass: bool `(rows, n)`.

    Args:
        costs: float32 `(rows, n)`, at least 0. Of equal ones the lower index is taken first.
        masses: float32 `(rows, n)`, at least 0.
        needed: Above 0, a scalar or float32 `(rows, 1)`.
    """
    needed = ops.broadcast_to(ops.cast(needed, "float32"), (ops.shape(masses)[0], 1))
    order = bitcast(ops.abs(costs), "int32")  # -0.0 has the highest bit set
    last = boundary(order, masses, needed, FLOAT_BITS)
    below, equal = order < last, order == last
    rest = needed - ops.sum(ops.where(below, masses, 0.0), axis=-1, keepdims=True)
    index = ops.arange(costs.shape[-1], dtype="int32")
    taken = index <= boundary(index, ops.where(equal, masses, 0.0), rest, costs.shape[-1].bit_length())
    return ops.logical_or(below, ops.logical_and(equal, taken))


def draw(masses: Tensor, numbers: Tensor) -> Tensor:
    """Draw one index of each row with a probability proportional to its mass, int32 `(rows,)`.

    Args:
        masses: float32 `(rows, n)`, at least 0, and above 0 for one index of each row or more.
        numbers: float32 `(rows,)`, uniform in [0, 1).
    """
    index = ops.arange(masses.shape[-1], dtype="int32")
    # 1 - u is above 0, so that no index before the first mass is taken.
    needed = (1.0 - numbers)[:, None] * ops.sum(masses, axis=-1, keepdims=True)
    drawn = boundary(index, masses, needed, masses.shape[-1].bit_length())
    last = ops.max(ops.where(masses > 0, index, 0), axis=-1)  # rounding may leave the sum just below `needed`
    return ops.minimum(drawn[:, 0], last)
