"""Layer normalisation inside a cell."""

import keras
from keras import ops

from kseq.backend import Tensor


def normalise(values: Tensor, epsilon: float) -> Tensor:
    """Return `(v - mean(v)) / sqrt(variance(v) + epsilon)` over the last axis; in float32 at least.

    What `ops.layer_normalization` gives, in a form whose gradient takes less time in a loop under XLA.

    Reference: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016.
    """
    precise = ops.cast(values, keras.backend.result_type(values.dtype, "float32"))
    centred = precise - ops.mean(precise, axis=-1, keepdims=True)
    scale = ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + epsilon)
    return ops.cast(centred * scale, values.dtype)
