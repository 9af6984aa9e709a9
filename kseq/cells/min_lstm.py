"""The minimal long short-term memory."""

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.parallel_cell import ParallelCell


@keras.saving.register_keras_serializable(package="kseq")
class MinLSTMCell(ParallelCell):
    """Long short-term memory whose gates do not look at the state, so that all steps are taken in parallel.

        [f, i, n] = x W + b
        f', i' = sigmoid(f) / (sigmoid(f) + sigmoid(i)), sigmoid(i) / (sigmoid(f) + sigmoid(i))
        h' = f' * h + i' * activation(n)

    Holds the kernel W `(features, 3 units)` and the bias b `(3 units,)`, in the order f, i, n. The state is the output:
    there is no output gate and no further memory.

    The paper's plain form has no activation; the one of its log-space form is `activation=kseq.cells.positive`, which
    nothing here needs. The gates are right for any f and i: shut both, they still share what is one.

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
        # f' = 1 / (1 + sigmoid(i) / sigmoid(f)), and log(sigmoid(x)) = -softplus(-x): nothing here is ever 0 / 0.
        keep = ops.sigmoid(ops.softplus(-i) - ops.softplus(-f))
        return keep, (1.0 - keep) * self.activation(n)
