"""Matrix products over tensors of any rank, and their observation while a step of a loop is traced."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from keras import ops

from kseq.backend import Tensor

Multiply = Callable[[Tensor, Any], Tensor]


class _Multiplication(threading.local):
    """How `product` multiplies in this thread."""

    def __init__(self):
        self.by: Multiply = ops.matmul


_MULTIPLICATION = _Multiplication()


@contextlib.contextmanager
def multiplied_by(multiply: Multiply) -> Iterator[None]:
    """Have `product` and `dense` call `multiply` within this context, with the kernel that they were given."""
    before, _MULTIPLICATION.by = _MULTIPLICATION.by, multiply
    try:
        yield
    finally:
        _MULTIPLICATION.by = before


def product(inputs: Tensor, kernel: Any) -> Tensor:
    """Return `inputs @ kernel`, `(rows, features)` to `(rows, units)`."""
    return _MULTIPLICATION.by(inputs, kernel)


def dense(inputs: Tensor, kernel: Any) -> Tensor:
    """Return `inputs @ kernel`, `(..., features)` to `(..., units)`, as *one* product of two matrices.

    With the leading axes kept, it would be a batch of small products whose gradient is a sum over the batch. Keras's
    Dense layer uses a product that XLA cannot compile inside a loop if the batch size is unknown.
    """
    *leading, features = ops.shape(inputs)
    flat = product(ops.reshape(inputs, (-1, features)), kernel)
    return ops.reshape(flat, (*leading, kernel.shape[-1]))


def apply_dense(layer: Any, inputs: Tensor) -> Tensor:
    """Return what a `keras.layers.Dense` computes, by `dense`."""
    outputs = dense(inputs, layer.kernel)
    outputs = outputs if layer.bias is None else ops.add(outputs, layer.bias)
    return layer.activation(outputs)
