"""Layer normalisation inside a cell."""

import keras
from keras import ops

from kseq import backend
from kseq.backend import Tensor
from kseq.linear import dense


def normalise(values: Tensor, epsilon: float) -> Tensor:
    """Return `(v - mean(v)) / sqrt(variance(v) + epsilon)` over the last axis, computed in float32 at least.

    Its hand-written gradient makes a step of a recurrence faster than the automatic one.

    Reference: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016.
    """
    return backend.custom_gradient(
        lambda values: standardise(values, epsilon)[0],
        lambda values: (standardise(values, epsilon)[0], standardise(values, epsilon)),
        lambda residuals, d: (standardise_gradient(residuals[0], residuals[1], d),),
        (values,),
        keep_residuals=True,
    )


def standardise(values: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return `n = (v - mean(v)) * s` and `s = 1 / sqrt(variance(v) + epsilon)`, computed in float32 at least.

    Args:
        values: v, `(..., units)`.
        epsilon: Added to the variance.

    Returns:
        `(n (..., units) in the precision of v, s (..., 1) in float32 at least)`.
    """
    precise = _precise(values)
    centred = precise - _mean(precise)
    scale = ops.rsqrt(_mean(ops.square(centred)) + epsilon)
    return ops.cast(centred * scale, values.dtype), scale


def standardise_gradient(normalised: Tensor, scale: Tensor, d: Tensor) -> Tensor:
    """Return the gradient of v, `s * (d - mean(d) - n * mean(d * n))`, given the gradient d of n."""
    normalised, precise = _precise(normalised), _precise(d)
    return ops.cast(scale * (precise - _mean(precise) - normalised * _mean(precise * normalised)), d.dtype)


def _precise(values: Tensor) -> Tensor:
    return ops.cast(values, keras.backend.result_type(values.dtype, "float32"))


def _mean(values: Tensor) -> Tensor:
    """Return the means over the last axis, which stays as an axis of size 1.

    They are computed as a product with a matrix of one column: on a CPU, XLA's sum over a row adds one number at a
    time, but its product processes many at a time.
    """
    units = values.shape[-1]
    return dense(values, ops.full((units, 1), 1.0 / units, dtype=values.dtype))
