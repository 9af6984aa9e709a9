"""The real-gated linear recurrent unit."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.parallel_cell import ParallelCell

DECAY_POWER = 8.0  # the paper's c
SMALLEST = 1e-30  # lower bound under the square root, whose slope at zero is infinite


@keras.saving.register_keras_serializable(package="kseq")
class RGLRUCell(ParallelCell):
    """Real-gated linear recurrent unit: each unit has its own decay, which a gate modulates.

        [r, i, n] = x W + b
        a = sigmoid(decay_logit) ** (c * sigmoid(r)),   c = 8
        h' = a * h + sqrt(1 - a ** 2) * sigmoid(i) * activation(n)

    The square root keeps the variance of the state equal to that of the inputs, whatever the decay. The weights, in the
    order r, i, n, are: kernel W `(features, 3 units)`, bias b `(3 units,)`; then decay_logit (the paper's Lambda)
    `(units,)`. It is initialised so that `sigmoid(decay_logit) ** c`, the decay for sigmoid(r) = 1, is uniform in
    `decay_range`.

    In the paper n is the input itself, which a linear layer before this unit has made as wide as the state. Here the
    kernel contains that layer, so the inputs may have any width. As in the paper, there is no activation by default.

    Takes the arguments of `kseq.cells.parallel_cell.ParallelCell`, and `decay_range`.

    Args:
        units: Size of the state and the output.
        decay_range: Range of the initial decays, `(low, high)` with 0 < low < high < 1.
        **kwargs: The other arguments of `ParallelCell`.

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
            autocast=False,  # half precision would round different decays near 1 to the same
            name="decay_logit",
        )

    def _draw_decay_logit(self, shape: tuple, dtype: Any = None) -> Tensor:
        decay = keras.random.uniform(shape, *self.decay_range, dtype=dtype, seed=self.seed_generator)
        # softplus(-logit) = -log(sigmoid(logit)) = -log(decay) / c
        return -ops.log(ops.expm1(-ops.log(decay) / DECAY_POWER))

    @property
    def gate_weights(self) -> tuple:
        """The decay rate of each unit for sigmoid(r) = 1, -log(a)."""
        return (DECAY_POWER * ops.softplus(-ops.convert_to_tensor(self.decay_logit)),)

    def coefficients(self, projected: list[Tensor], speed: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(a, sqrt(1 - a ** 2) * i * candidate)`."""
        r, i, n = projected
        # With t = tanh(-log(a) / 2), a = (1 - t) / (1 + t) and 1 - a^2 = 4 t / (1 + t)^2: accurate for a near 1 too.
        t = ops.tanh(0.5 * speed * ops.sigmoid(r))
        share = 2.0 * ops.sqrt(ops.maximum(t, SMALLEST)) / (1.0 + t)
        return (1.0 - t) / (1.0 + t), share * ops.sigmoid(i) * self.activation(n)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "decay_range": self.decay_range}
