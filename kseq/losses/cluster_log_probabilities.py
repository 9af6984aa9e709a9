"""Log-probabilities of tokens within a cluster of a vocabulary, computed for the tokens of that cluster alone.

The number of these tokens is only known when a graph runs, but XLA compiles for fixed sizes. So they are gathered in
chunks of a fixed size, in a loop of as many steps as there are chunks, with a hand-written gradient that computes each
chunk again: time and memory are those of the tokens in the cluster, and the logits of all of them are never stored.
"""

from keras import ops

from kseq import backend
from kseq.backend import Tensor
from kseq.compiled_parts import Differentiable, compiles_parts
from kseq.eager_calls import sizes_of
from kseq.padded_sizes import pad_unknown

CHUNK = 128  # tokens: few enough that a half empty chunk costs little, enough for fast products of matrices


def cluster_log_probabilities(hidden: Tensor, first: Tensor, second: Tensor, places: Tensor) -> Tensor:
    """Return log softmax(hidden first second) at each token's place in the cluster, float32 `(tokens,)`.

    Args:
        hidden: Float32 `(tokens, units)`.
        first: Float32 `(units, size)`.
        second: Float32 `(size, cluster)`.
        places: int32 `(tokens,)`, the place in the cluster; -1 for tokens outside it, whose answer is 0 and which have
            no gradient.
    """

    def used() -> list[Tensor]:
        return [hidden, first, second]

    count = ops.shape(places)[0]
    compiled = compiles_parts(used, call=lambda: (cluster_log_probabilities, sizes_of(hidden)))
    found = backend.custom_gradient(
        *(_COMPILED if compiled else _PLAIN),
        (pad_unknown(hidden, 0), first, second, pad_unknown(places + 1, 0)),
        keep_residuals=True,
        differentiable=(_forward, _backward),
    )
    return found[:count]


def _primal(hidden: Tensor, first: Tensor, second: Tensor, numbers: Tensor) -> Tensor:
    return _forward(hidden, first, second, numbers)[0]


def _forward(hidden: Tensor, first: Tensor, second: Tensor, numbers: Tensor) -> tuple[Tensor, tuple]:
    """Return the log-probabilities; `numbers` are the places, counted from 1, and 0 outside the cluster."""
    order, count = _gathered(numbers)

    def goes_on(state: tuple) -> Tensor:
        return state[0] * CHUNK < count

    def next_chunk(state: tuple) -> tuple:
        step, own, total = state
        _, _, logits, labels, _ = _chunk(step, order, count, hidden, first, second, numbers)
        top = ops.max(logits, axis=-1)
        sums = top + ops.log(ops.sum(ops.exp(logits - top[:, None]), axis=-1))
        of_labels = ops.sum(ops.where(_is_label(labels, logits), logits, 0.0), axis=-1)
        start = (step * CHUNK,)
        return step + 1, ops.slice_update(own, start, of_labels - sums), ops.slice_update(total, start, sums)

    empty = ops.zeros_like(order, dtype="float32")
    _, own, total = backend.while_loop(goes_on, next_chunk, (ops.zeros((), "int32"), empty, empty))
    found = ops.where(numbers > 0, ops.take(own, _ranks(numbers)), 0.0)
    return found, (hidden, first, second, numbers, order, count, total)


def _backward(residuals: tuple, d_found: Tensor) -> tuple:
    hidden, first, second, numbers, order, count, total = residuals

    def goes_on(state: tuple) -> Tensor:
        return state[0] * CHUNK < count

    def next_chunk(state: tuple) -> tuple:
        step, d_hidden, d_first, d_second = state
        rows, small, logits, labels, real = _chunk(step, order, count, hidden, first, second, numbers)
        places = ops.slice(order, (step * CHUNK,), (CHUNK,))
        weight = ops.where(real, ops.take(d_found, places), 0.0)[:, None]
        softmax = ops.exp(logits - ops.slice(total, (step * CHUNK,), (CHUNK,))[:, None])
        d_logits = (ops.where(_is_label(labels, logits), 1.0, 0.0) - softmax) * weight
        d_small = ops.matmul(d_logits, ops.transpose(second))
        d_first = d_first + ops.matmul(ops.transpose(rows), d_small)
        d_second = d_second + ops.matmul(ops.transpose(small), d_logits)
        d_rows = ops.matmul(d_small, ops.transpose(first))
        return step + 1, ops.slice_update(d_hidden, (step * CHUNK, 0), d_rows), d_first, d_second

    empty = ops.zeros((ops.shape(order)[0], hidden.shape[1]), "float32")
    start = ops.zeros((), "int32"), empty, ops.zeros_like(first), ops.zeros_like(second)
    _, d_hidden, d_first, d_second = backend.while_loop(goes_on, next_chunk, start)
    d_hidden = ops.where((numbers > 0)[:, None], ops.take(d_hidden, _ranks(numbers), axis=0), 0.0)
    return d_hidden, d_first, d_second, None


def _gathered(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of the tokens, those of the cluster first, a whole number of chunks; and how many these are."""
    tokens = ops.shape(numbers)[0]
    place = ops.arange(tokens, dtype="int32")
    order = ops.cast(ops.argsort(ops.where(numbers > 0, place, tokens + place)), "int32")
    order = ops.pad(order, [(0, (tokens + CHUNK - 1) // CHUNK * CHUNK - tokens)])
    return order, ops.sum(ops.cast(numbers > 0, "int32"))


def _ranks(numbers: Tensor) -> Tensor:
    """Return the place of each token of the cluster among them, int32 `(tokens,)`."""
    return ops.maximum(ops.cumsum(ops.cast(numbers > 0, "int32")) - 1, 0)


def _chunk(
    step: Tensor, order: Tensor, count: Tensor, hidden: Tensor, first: Tensor, second: Tensor, numbers: Tensor
) -> tuple[Tensor, ...]:
    """Return the rows of a chunk, what the first product makes of them, logits, labels, and which rows are real."""
    places = ops.slice(order, (step * CHUNK,), (CHUNK,))
    real = step * CHUNK + ops.arange(CHUNK, dtype="int32") < count
    # Rows that only complete the chunk may hold NaN.
    rows = ops.where(real[:, None], ops.take(hidden, places, axis=0), 0.0)
    small = ops.matmul(rows, first)
    return rows, small, ops.matmul(small, second), ops.maximum(ops.take(numbers, places) - 1, 0), real


def _is_label(labels: Tensor, logits: Tensor) -> Tensor:
    return ops.arange(logits.shape[-1], dtype="int32") == labels[:, None]


_PLAIN = Differentiable(_primal, _forward, _backward)
_COMPILED = _PLAIN.compiled()
