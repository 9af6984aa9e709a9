"""The real-gated linear recurrent unit."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.parallel_cell import ParallelCell

DECAY_POWER = 8.0  # the paper's c
SMALLEST = 1e-30  # under the root, whose slope at zero is infinite


@keras.saving.register_keras_serializable(package="kseq")
class RGLRUCell(ParallelCell):
    """Real-gated linear recurrent unit: each unit has a decay of its own, which a gate speeds up or slows down.

        [r, i, n] = x W + b
        a = sigmoid(decay_logit) ** (c * sigmoid(r)),   c = 8
        h' = a * h + sqrt(1 - a ** 2) * sigmoid(i) * activation(n)

    The square root keeps the state's variance that of the inputs, whatever the decay. Holds the kernel W
    `(features, 3 units)` and the bias b `(3 units,)`, in the order r, i, n, and decay_logit (the paper's Lambda)
    `(units,)`, drawn so that `sigmoid(decay_logit) ** c`, the decay at an open gate, is uniform in `decay_range`.

    In the paper n is the input itself, as wide as the state, which a linear layer of the block around it has made. Here
    that layer is part of the kernel, so inputs of any width do; there is no activation, as in the paper.

    Takes the arguments of `kseq.cells.parallel_cell.ParallelCell`, and

    Args:
        units: Size of the state and the output.
        decay_range: Between which decays the units begin, `(low, high)` with 0 < low < high < 1.
        **kwargs: The other arguments.

    Example:
        >>> kseq.layers.RNN(kseq.cells.RGLRUCell(16), return_sequences=True)(np.zeros((2, 1000, 8))).shape
        (2, 1000, 16)

    Reference: S. De et al., "Griffin: mixing gated linear recurrences with local attention for efficient language
    models", 2024.
    """

    gate_count = 3

    def __init__(self, units: int, *, decay_range: tuple[float, float] = (0.9, 0.999), **kwargs: Any):
        low, high = decay_range
        if not 0.0 < low < high < 1.0:
            raise ValueError(f"decay_range={decay_range}, but it must be (low, high) with 0 < low < high < 1.")
        super().__init__(units, **kwargs)
        self.decay_range = (low, high)

    def build(self, input_shape: tuple) -> None:
        """Create the weights for inputs `(batch, features)`."""
        super().build(input_shape)
        self.decay_logit = self.add_weight(
            shape=(self.units,),
            initializer=self._draw_decay_logit,
            autocast=False,  # near 1, half precision would take unlike decays for the same
            name="decay_logit",
        )

    def _draw_decay_logit(self, shape: tuple, dtype: Any = None) -> Tensor:
        decay = keras.random.uniform(shape, *self.decay_range, dtype=dtype, seed=self.seed_generator)
        # softplus(-logit) = -log(sigmoid(logit)) = -log(decay) / c
        return -ops.log(ops.expm1(-ops.log(decay) / DECAY_POWER))

    @property
    def gate_weights(self) -> tuple:
        """How fast each unit forgets at an open gate, -log(a)."""
        return (DECAY_POWER * ops.softplus(-ops.convert_to_tensor(self.decay_logit)),)

    def coefficients(self, projected: list[Tensor], speed: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(a, sqrt(1 - a ** 2) * i * candidate)`."""
        r, i, n = projected
        # With t = tanh(-log(a) / 2), a = (1 - t) / (1 + t) and 1 - a^2 = 4 t / (1 + t)^2: right for a next to 1 too.
        t = ops.tanh(0.5 * speed * ops.sigmoid(r))
        share = 2.0 * ops.sqrt(ops.maximum(t, SMALLEST)) / (1.0 + t)
        return (1.0 - t) / (1.0 + t), share * ops.sigmoid(i) * self.activation(n)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "decay_range": self.decay_range}
