"""Convolutions over time, as sums over the places of their kernels."""

import numpy as np


def convolved(values, kernels):
    """Return `max(0, W x + b)` of convolutions side by side, for `values` `(time, dim)`.

    Each of `kernels` is `(kernel (width, dim, filters), bias (filters,))`. Step t reads the steps from
    `t - (width - 1) // 2` on; steps outside of the values are zeros.
    """
    time = len(values)
    outputs = []
    for kernel, bias in kernels:
        of_kernel = np.zeros((time, kernel.shape[2]))
        for step in range(time):
            of_kernel[step] = bias
            for place in range(len(kernel)):
                read = step - (len(kernel) - 1) // 2 + place
                if 0 <= read < time:
                    of_kernel[step] += values[read] @ kernel[place]
        outputs.append(np.maximum(of_kernel, 0.0))
    return np.concatenate(outputs, axis=-1)
