"""Layer normalisation inside a cell."""

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.linear import dense


def normalise(values: Tensor, epsilon: float) -> Tensor:
    """Return `(v - mean(v)) / sqrt(variance(v) + epsilon)` over the last axis; in float32 at least.

    Reference: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016.
    """
    precise = ops.cast(values, keras.backend.result_type(values.dtype, "float32"))
    centred = precise - _mean(precise)
    scale = ops.rsqrt(_mean(ops.square(centred)) + epsilon)
    return ops.cast(centred * scale, values.dtype)


def _mean(values: Tensor) -> Tensor:
    """Return the means over the last axis, which is kept.

    As a product: XLA sums a row up number by number on a processor, but multiplies many at a time.
    """
    units = values.shape[-1]
    return dense(values, ops.full((units, 1), 1.0 / units, dtype=values.dtype))
