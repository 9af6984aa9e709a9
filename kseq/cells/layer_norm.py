"""Layer normalisation for the inside of cells.

A product of a kernel whose columns' mean was taken out has mean zero: it is normalised by its mean square alone, and
the mean costs nothing at each step (J. Ba, J. Kiros, G. Hinton, "Layer normalization", 2016).
"""

from keras import ops

from kseq.backend import Tensor


def centred(kernel: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """Return the kernel `(features, width)` without the mean of its columns in each block of them."""
    edges = [sum(blocks[: index + 1]) for index in range(len(blocks) - 1)]
    parts = ops.split(ops.convert_to_tensor(kernel), edges, axis=-1) if edges else [ops.convert_to_tensor(kernel)]
    return ops.concatenate([part - ops.mean(part, axis=-1, keepdims=True) for part in parts], axis=-1)


def inverse_norm(values: Tensor, epsilon: float) -> Tensor:
    """Return `1 / sqrt(mean(values^2) + epsilon)` over the last axis, kept; in float32 inside."""
    square = ops.mean(ops.square(ops.cast(values, "float32") if values.dtype != "float64" else values), -1, keepdims=True)
    return ops.cast(ops.rsqrt(square + epsilon), values.dtype)


def mean(values: Tensor) -> Tensor:
    """Return the mean over the last axis, kept; in float32 inside."""
    wide = values if values.dtype == "float64" else ops.cast(values, "float32")
    return ops.cast(ops.mean(wide, axis=-1, keepdims=True), values.dtype)


def normalised_gradient(d_normalised: Tensor, normalised: Tensor, scale: Tensor) -> Tensor:
    """Return the gradient of values by that of `normalised = values * scale`, `scale = inverse_norm(values)`."""
    return scale * (d_normalised - normalised * mean(d_normalised * normalised))
