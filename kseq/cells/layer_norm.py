"""Layer normalisation inside a cell."""

import keras
from keras import ops

from kseq import backend
from kseq.backend import Tensor
from kseq.linear import dense


def normalise(values: Tensor, epsilon: float) -> Tensor:
    """Return `(v - mean(v)) / sqrt(variance(v) + epsilon)` over the last axis; in float32 at least.

    With n what is returned, s = 1 / sqrt(variance(v) + epsilon) and d the gradient of n, the gradient of v is
    `s * (d - mean(d) - n * mean(d * n))`. Written so it takes a step less time than differentiated automatically.

    Reference: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016.
    """

    def forward(values: Tensor) -> tuple[Tensor, tuple]:
        centred = values - _mean(values)
        scale = ops.rsqrt(_mean(ops.square(centred)) + epsilon)
        normalised = centred * scale
        return normalised, (normalised, scale)

    def backward(residuals: tuple, d: Tensor) -> tuple:
        normalised, scale = residuals
        return (scale * (d - _mean(d) - normalised * _mean(d * normalised)),)

    precise = ops.cast(values, keras.backend.result_type(values.dtype, "float32"))
    normalised = backend.custom_gradient(
        lambda values: forward(values)[0], forward, backward, (precise,), keep_residuals=True
    )
    return ops.cast(normalised, values.dtype)


def _mean(values: Tensor) -> Tensor:
    """Return the means over the last axis, which is kept.

    As a product: XLA sums a row up number by number on a processor, but multiplies many at a time.
    """
    units = values.shape[-1]
    return dense(values, ops.full((units, 1), 1.0 / units, dtype=values.dtype))
