"""The minimal gated recurrent unit."""

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.parallel_cell import ParallelCell


@keras.saving.register_keras_serializable(package="kseq")
class MinGRUCell(ParallelCell):
    """Gated recurrent unit whose gate does not depend on the state, so that all steps run in parallel.

        [z, n] = x W + b
        h' = (1 - sigmoid(z)) * h + sigmoid(z) * activation(n)

    Holds the kernel W `(features, 2 units)` and the bias b `(2 units,)`, in the order z, n.

    The paper's plain form has no activation. Its log-space form needs positive candidates: it has
    `activation=kseq.cells.positive`. Here that activation is optional, because nothing is computed in log space.

    Takes the arguments of `kseq.cells.parallel_cell.ParallelCell`.

    Example:
        >>> kseq.layers.RNN(kseq.cells.MinGRUCell(16), return_sequences=True)(np.zeros((2, 1000, 8))).shape
        (2, 1000, 16)

    Reference: L. Feng, F. Tung, M. O. Ahmed, Y. Bengio, H. Hajimirsadeghi, "Were RNNs all we needed?", 2024.
    """

    gate_count = 2

    def coefficients(self, projected: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return `(1 - z, z * candidate)`."""
        z, n = projected
        keep = ops.sigmoid(-z)
        return keep, (1.0 - keep) * self.activation(n)


@keras.saving.register_keras_serializable(package="kseq")
def positive(x: Tensor) -> Tensor:
    """Return `x + 1/2` where x is positive and `sigmoid(x)` elsewhere, a positive and increasing function.

    It is the function g of the log-space forms in "Were RNNs all we needed?".
    """
    return ops.where(x >= 0.0, x + 0.5, ops.sigmoid(x))
