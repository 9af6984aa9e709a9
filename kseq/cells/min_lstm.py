"""The minimal long short-term memory."""

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.parallel_cell import ParallelCell

LOWEST_LOGIT = -40.0  # exp(-40) is negligible next to 1, but not zero in float32


@keras.saving.register_keras_serializable(package="kseq")
class MinLSTMCell(ParallelCell):
    """Long short-term memory whose gates do not depend on the state, so that all steps run in parallel.

        [f, i, n] = x W + b
        f', i' = sigmoid(f) / (sigmoid(f) + sigmoid(i)), sigmoid(i) / (sigmoid(f) + sigmoid(i))
        h' = f' * h + i' * activation(n)

    Holds the kernel W `(features, 3 units)` and the bias b `(3 units,)`, in the order f, i, n. The state is the output:
    there is no output gate and no separate memory.

    The paper's plain form has no activation. Its log-space form has `activation=kseq.cells.positive`, which is optional
    here. The gates f' and i' add up to one for any f and i, even if both sigmoids are zero in floating point.

    Takes the arguments of `kseq.cells.parallel_cell.ParallelCell`.

    Example:
        >>> kseq.layers.RNN(kseq.cells.MinLSTMCell(16), return_sequences=True)(np.zeros((2, 1000, 8))).shape
        (2, 1000, 16)

    Reference: L. Feng, F. Tung, M. O. Ahmed, Y. Bengio, H. Hajimirsadeghi, "Were RNNs all we needed?", 2024.
    """

    gate_count = 3

    def coefficients(self, projected: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return `(f', i' * candidate)`."""
        f, i, n = projected
        # Far below zero sigmoid(x) is exp(x): adding the same number to f and i keeps their quotient and avoids 0 / 0.
        shift = ops.stop_gradient(ops.relu(LOWEST_LOGIT - ops.maximum(f, i)))
        f, i = ops.sigmoid(f + shift), ops.sigmoid(i + shift)
        keep = f / (f + i)
        return keep, (1.0 - keep) * self.activation(n)
