"""Matrix products over tensors of any rank."""

from keras import ops

from kseq.backend import Tensor


def dense(inputs: Tensor, kernel: Tensor) -> Tensor:
    """Return `inputs @ kernel`, `(..., features)` to `(..., units)`, as *one* product of two matrices.

    With the leading axes kept, it would be a batch of small products whose gradient is a sum over the batch. Keras's
    Dense layer uses a product that XLA cannot compile inside a loop if the batch size is unknown.
    """
    *leading, features = ops.shape(inputs)
    flat = ops.matmul(ops.reshape(inputs, (-1, features)), kernel)
    return ops.reshape(flat, (*leading, kernel.shape[-1]))
