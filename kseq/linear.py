"""Matrix products over tensors of any rank."""

from keras import ops

from kseq.backend import Tensor


def dense(inputs: Tensor, kernel: Tensor) -> Tensor:
    """Return `inputs @ kernel`, `(..., features)` to `(..., units)`, as *one* product of two matrices.

    A product with the leading axes kept would be a batch of small products, with a gradient that adds them up, and
    Keras's Dense one that XLA cannot compile inside a loop of unknown batch.
    """
    *leading, features = ops.shape(inputs)
    flat = ops.matmul(ops.reshape(inputs, (-1, features)), kernel)
    return ops.reshape(flat, (*leading, kernel.shape[-1]))
