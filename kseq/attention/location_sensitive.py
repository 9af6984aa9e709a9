"""Location-sensitive attention."""

from typing import Any

import keras
from keras import ops

from kseq.attention.additive import AdditiveAttention
from kseq.attention.attention import Memory
from kseq.attention.masked_softmax import at_least_float32, masked_softmax
from kseq.backend import Tensor
from kseq.linear import dense
from kseq.numbers import flag, positive_int


@keras.saving.register_keras_serializable(package="kseq")
class LocationSensitiveAttention(AdditiveAttention):
    """Additive attention that also sees where earlier queries attended to.

    `score = v . tanh(W query + V value + U f + b)`, where f is a convolution (F * a) over the source's time of the
    weights a of the query before, or with `cumulative` of the sum of the weights of all queries before. So the
    mechanism can learn to move on along the source, for example from a phoneme to the next one of the same sound.

    Args:
        units: Number of hidden units.
        filters: Number of filters of the convolution F.
        kernel_size: Steps of the source that a filter sees, an odd number.
        cumulative: Whether the convolution is over the sum of all earlier weights.
        **kwargs: Arguments of `AdditiveAttention` (`use_bias`, `normalize`), of `Attention` and of
            `keras.layers.Layer`.

    Call arguments, returns: as in `Attention`. The state is the weights a, float32 `(batch, time)`, zeros at first.

    Raises:
        ValueError: As in `Attention`, and if `kernel_size` is even.

    Example:
        >>> attention = LocationSensitiveAttention(units=16, kernel_size=5)
        >>> memory = attention.memory(np.zeros((2, 7, 5), "float32"))
        >>> context, weights, state = attention(np.zeros((2, 4), "float32"), memory)
        >>> context, weights, state = attention(np.zeros((2, 4), "float32"), memory, state)
        >>> context.shape, weights.shape, state.shape
        ((2, 5), (2, 7), (2, 7))

    Reference: J. Chorowski et al., "Attention-based models for speech recognition", 2015.
    """

    stateless = False

    def __init__(
        self,
        units: int,
        filters: int = 32,
        kernel_size: int = 31,
        cumulative: bool = True,
        **kwargs: Any,
    ):
        super().__init__(units, **kwargs)
        self.filters = positive_int(self, "filters", filters)
        self.kernel_size = positive_int(self, "kernel_size", kernel_size)
        self.cumulative = flag("cumulative", cumulative)
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size={kernel_size}, but LocationSensitiveAttention needs an odd number, so that a filter sees "
                f"as many steps before as after. Use {self.kernel_size + 1}."
            )

    def build(self, query_shape: tuple, memory_shape: tuple) -> None:
        """Create the weights, except those that `memory` has already built."""
        super().build(query_shape, memory_shape)
        self.filter_kernel = self.new_matrix("filter_kernel", (self.kernel_size, self.filters))
        self.location_kernel = self.new_matrix("location_kernel", (self.filters, self.units))

    def initial_state(self, batch: int | Tensor, time: int | Tensor | None = None) -> Tensor:
        """Return zeros `(batch, time)`: no step has been attended to."""
        return ops.zeros((batch, self.known_time(time)), dtype=at_least_float32(self.compute_dtype))

    def weigh(
        self, query: Tensor, memory: Memory, state: Tensor, *, training: bool | None = None, noise: Any = ()
    ) -> tuple[Tensor, Tensor]:
        """Return the weights `(batch, queries, time)`, and the new state of each query, of the same shape."""
        keys = memory.keys[:, None] + self._location(state)  # (batch, queries, time, units)
        weights = masked_softmax(self.compare(query, keys), memory.mask)
        return weights, state + ops.cast(weights, state.dtype) if self.cumulative else ops.cast(weights, state.dtype)

    def _location(self, state: Tensor) -> Tensor:
        """Return U f of weights `(batch, queries, time)`, `(batch, queries, time, units)`."""
        # One product with the kernel of both linear maps: XLA's convolutions are slow on a processor.
        kernel = ops.matmul(self.filter_kernel, self.location_kernel)  # (kernel_size, units)
        windows = _windows(ops.cast(state, self.compute_dtype), self.kernel_size)
        return dense(ops.swapaxes(windows, -1, -2), kernel)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "cumulative": self.cumulative,
        }


def _windows(values: Tensor, size: int) -> Tensor:
    """Return `result[..., k, t] = values[..., t + k - size // 2]`, `(..., time)` to `(..., size, time)`.

    The padded values are repeated for each k. Read with rows that are longer by one step, each row begins one step
    later than the row before. The gradient of this is as cheap, while that of a gather is slow under XLA.
    """
    *leading, time = ops.shape(values)
    length = time + size - 1
    no_padding = [[0, 0]] * len(leading)
    padded = ops.pad(values, [*no_padding, [size // 2, size // 2]])
    # XLA could not compile the gradient of a broadcast to computed sizes in a loop.
    repeated = ops.tile(padded[..., None, :], [1] * len(leading) + [size, 1])
    flat = ops.pad(ops.reshape(repeated, (*leading, size * length)), [*no_padding, [0, size]])
    return ops.reshape(flat, (*leading, size, length + 1))[..., :time]
