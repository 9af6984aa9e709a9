"""Attention with a coverage vector, the sum of all earlier weights."""

from typing import Any, NamedTuple

import keras
from keras import ops

from kseq.attention.attention import Attention, Memory
from kseq.attention.masked_softmax import at_least_float32
from kseq.attention.wrapper import WrapperAttention
from kseq.backend import Tensor


class CoverageState(NamedTuple):
    """The state of a `CoverageAttention`.

    Attributes:
        coverage: The sum of the weights of all queries before, float32 `(batch, time)`.
        mechanism: The inner mechanism's state; `()` if it has none.
    """

    coverage: Tensor
    mechanism: Any


@keras.saving.register_keras_serializable(package="kseq")
class CoverageAttention(WrapperAttention):
    """A mechanism that also sees the coverage: how much each step of the source has been attended to so far.

    The inner mechanism gets the keys `key + c w`, where c is the sum of the step's weights for all earlier queries and
    w a learned vector. With `AdditiveAttention` the score is that of See et al. 2017, `v . tanh(W query + U value + w c
    + b)`. With `DotProductAttention` it is `query . key + c (query . w)`: the coverage raises or lowers scores by a
    factor that depends on the query.

    The weights of queries, coverage or not, can be trained not to attend twice to the same steps by
    `kseq.losses.coverage_loss`, and beams be ranked by `BeamSearch(coverage_penalty=...)`.

    Args:
        mechanism: The inner mechanism: any of `kseq.attention`, except those with several heads.
        **kwargs: Arguments of `Attention` and of `keras.layers.Layer`. Initializer and regularizer are those of w.

    Call arguments, returns: as in `Attention`. The state is a `CoverageState`, of zeros at first.

    Raises:
        ValueError: As in `Attention`, if `mechanism` is no mechanism of this kind, or if it has dropout; give the
            dropout to this layer.

    Example:
        >>> attention = CoverageAttention(AdditiveAttention(units=16))
        >>> memory = attention.memory(np.zeros((2, 7, 5), "float32"))
        >>> context, weights, state = attention(np.zeros((2, 3, 4), "float32"), memory)
        >>> context.shape, weights.shape, state.coverage.shape
        ((2, 3, 5), (2, 3, 7), (2, 7))

    Reference: A. See, P. Liu, C. Manning, "Get to the point: summarization with pointer-generator networks", 2017.
    """

    stateless = False

    def __init__(self, mechanism: Attention, **kwargs: Any):
        super().__init__(mechanism, **kwargs)

    def build(self, query_shape: tuple, memory_shape: tuple) -> None:
        """Create the weights, except those that `memory` has already built."""
        super().build(query_shape, memory_shape)
        values = keras.KerasTensor((1, 1, self.value_dim), dtype=self.compute_dtype)
        keys = _Keys(self.mechanism).compute_output_spec(values)
        self.coverage_kernel = self.new_matrix("coverage_kernel", (1, keys.shape[-1]))

    def initial_state(self, batch: int | Tensor, time: int | Tensor | None = None) -> CoverageState:
        """Return zeros, and the inner mechanism's state."""
        coverage = ops.zeros((batch, self.known_time(time)), dtype=at_least_float32(self.compute_dtype))
        return CoverageState(coverage, self.mechanism.initial_state(batch, time))

    def weigh(
        self, query: Tensor, memory: Memory, state: CoverageState, *, training: bool | None = None, noise: Any = ()
    ) -> tuple[Tensor, CoverageState]:
        """Return the weights `(batch, queries, time)`, and the new state of each query."""
        coverage, inner = state
        covered = ops.cast(coverage, self.compute_dtype)[..., None] * self.coverage_kernel  # (..., time, key_dim)
        mask = None if memory.mask is None else memory.mask[:, None]
        memory = Memory(memory.keys[:, None] + covered, memory.values, mask)
        weights, inner = self.weigh_apart(query, memory, inner, training=training, noise=noise)
        return weights, CoverageState(coverage + ops.cast(weights, coverage.dtype), inner)


class _Keys(keras.Operation):
    """The keys of a mechanism, to infer their size."""

    def __init__(self, mechanism: Attention):
        super().__init__()
        self._mechanism = mechanism

    def call(self, values: Tensor) -> Tensor:
        return self._mechanism.project_keys(values)
