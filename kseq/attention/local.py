"""Attention to a window of the source."""

from typing import Any, Literal, NamedTuple

import keras
from keras import ops

from kseq.attention.attention import Attention, Memory
from kseq.attention.masked_softmax import at_least_float32, masked_softmax
from kseq.attention.wrapper import WrapperAttention
from kseq.backend import Tensor
from kseq.masking import lengths_from_mask
from kseq.numbers import positive_int

POSITIONS = ("monotonic", "predictive")


class LocalState(NamedTuple):
    """The state of a `LocalAttention`.

    Attributes:
        step: int32 `(batch,)`, the number of queries before; `()` with `position="predictive"`.
        mechanism: The inner mechanism's state; `()` if it has none.
    """

    step: Any
    mechanism: Any


@keras.saving.register_keras_serializable(package="kseq")
class LocalAttention(WrapperAttention):
    """A mechanism that sees only a window of the source: `window` steps before and after a position p.

    - `position="monotonic"` (Luong's local-m): p is the index of the query, or the last real step if the query's index
      is beyond it;
    - `position="predictive"` (local-p): `p = S sigmoid(v . tanh(W query))`, where S is the row's length and steps are
      counted from 1. The weights in the window are multiplied by `exp(-(s - p)^2 / (2 sigma^2))` at step s, with
      `sigma = window / 2`, so their sum is below 1.

    Args:
        mechanism: The inner mechanism: any of `kseq.attention`, except those with several heads.
        window: Number of steps on each side of p, at least 1.
        position: "monotonic" or "predictive".
        units: Number of hidden units of W, only with "predictive"; by default the query's size.
        **kwargs: Arguments of `Attention` and of `keras.layers.Layer`. Initializer and regularizer are those of W.

    Call arguments, returns: as in `Attention`. The state is a `LocalState`; `()` if nothing in it is needed.

    Raises:
        ValueError: As in `Attention`; if an option is out of range; if there are `units`, a `kernel_initializer` or a
            `kernel_regularizer` without "predictive"; if `mechanism` is no mechanism of this kind, or has dropout; give
            the dropout to this layer.

    Attributes:
        stateless: Whether the inner mechanism is, with `position="predictive"`.
        normalised: Whether the inner mechanism is, with `position="monotonic"`.

    Example:
        >>> attention = LocalAttention(DotProductAttention(), window=2)
        >>> memory = attention.memory(np.zeros((2, 7, 4), "float32"))
        >>> context, weights, state = attention(np.zeros((2, 3, 4), "float32"), memory)
        >>> weights[0, 0]
        [0.33, 0.33, 0.33, 0.0, 0.0, 0.0, 0.0]

    Reference: M. Luong, H. Pham, C. Manning, "Effective approaches to attention-based neural machine translation",
    2015.
    """

    def __init__(
        self,
        mechanism: Attention,
        window: int,
        position: Literal["monotonic", "predictive"] = "monotonic",
        *,
        units: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(mechanism, **kwargs)
        if position not in POSITIONS:
            raise ValueError(f"position={position!r}, but LocalAttention has the positions {', '.join(POSITIONS)}.")
        self.window, self.position = positive_int(self, "window", window), position
        self.units = units if units is None else positive_int(self, "units", units)
        if position == "monotonic" and (units is not None or self.has_matrix_options()):
            raise ValueError(
                "LocalAttention takes units, a kernel_initializer and a kernel_regularizer only with "
                "position='predictive': otherwise it has no matrix."
            )

    @property
    def stateless(self) -> bool:
        """Whether the weights of a query do not depend on earlier queries."""
        return self.position == "predictive" and self.mechanism.stateless

    @property
    def normalised(self) -> bool:
        """Whether weights sum to 1."""
        return self.position == "monotonic" and self.mechanism.normalised

    def build(self, query_shape: tuple, memory_shape: tuple) -> None:
        """Create the weights, except those that `memory` has already built."""
        super().build(query_shape, memory_shape)
        if self.position == "predictive":
            units = self.units or self.query_dim
            self.position_kernel = self.new_matrix("position_kernel", (self.query_dim, units))
            self.position_v = self.add_weight(name="position_v", shape=(units,), initializer=self.new_initializer())

    def initial_state(self, batch: int | Tensor, time: int | Tensor | None = None) -> Any:
        """Return the number of queries before the first one, 0, and the inner mechanism's state."""
        if self.stateless:
            return ()
        step = ops.zeros((batch,), dtype="int32") if self.position == "monotonic" else ()
        return LocalState(step, self.mechanism.initial_state(batch, time))

    def weigh(
        self, query: Tensor, memory: Memory, state: Any, *, training: bool | None = None, noise: Any = ()
    ) -> tuple[Tensor, Any]:
        """Return the weights `(batch, queries, time)`, and the new state of each query."""
        step, inner = LocalState((), ()) if self.stateless else LocalState(*state)
        distances = self._distances(query, memory, step)
        weights, inner = self._weigh_window(query, memory, distances, inner, training, noise)
        if self.stateless:
            return weights, ()
        return weights, LocalState(step if isinstance(step, tuple) else step + 1, inner)

    def weigh_sequence(
        self, query: Tensor, memory: Memory, state: Any, *, training: bool | None = None, noise: Any = ()
    ) -> tuple[Tensor, Any]:
        """Return the weights of consecutive queries, and the last state."""
        if self.stateless or not self.mechanism.stateless:
            return super().weigh_sequence(query, memory, state, training=training, noise=noise)
        queries = ops.shape(query)[1]
        steps = state[0][:, None] + ops.arange(queries, dtype="int32")  # (batch, queries)
        weights, _ = self.weigh(query, memory, LocalState(steps, ()), training=training, noise=noise)
        return weights, LocalState(state[0] + queries, ())

    def _distances(self, query: Tensor, memory: Memory, step: Any) -> Tensor:
        """Return the distance of each step from the position p of each query, float32 `(batch, queries, time)`."""
        time = ops.shape(memory.values)[1]
        lengths = (
            ops.full(ops.shape(query)[:1], time, "int32") if memory.mask is None else lengths_from_mask(memory.mask)
        )
        index = ops.arange(time, dtype="int32")
        if self.position == "monotonic":
            position = ops.minimum(step, ops.maximum(lengths - 1, 0)[:, None])  # (batch, queries)
            return ops.cast(index - position[..., None], at_least_float32(self.compute_dtype))
        hidden = ops.tanh(ops.matmul(query, self.position_kernel))  # (batch, queries, units)
        share = ops.sigmoid(ops.sum(hidden * self.position_v, axis=-1))
        share = ops.cast(share, at_least_float32(share.dtype))
        position = ops.cast(lengths, share.dtype)[:, None] * share
        return ops.cast(index + 1, share.dtype) - position[..., None]

    def _weigh_window(
        self, query: Tensor, memory: Memory, distances: Tensor, inner: Any, training: bool | None, noise: Any
    ) -> tuple[Tensor, Any]:
        """Return the weights within the window, and the inner mechanism's new states."""
        inside = ops.abs(distances) <= self.window
        mask = inside if memory.mask is None else ops.logical_and(inside, memory.mask[:, None])
        if type(self.mechanism).weigh is Attention.weigh:
            weights = masked_softmax(self.mechanism.score(query, memory.keys), mask)
        else:
            memory = Memory(memory.keys[:, None], memory.values, mask)
            weights, inner = self.weigh_apart(query, memory, inner, training=training, noise=noise)
        if self.position == "predictive":
            weights = weights * ops.exp(-2.0 * ops.square(distances / self.window))  # sigma = window / 2
        return weights, inner

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "window": self.window, "position": self.position, "units": self.units}
