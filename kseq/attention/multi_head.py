"""Multi-head attention."""

import math
from typing import Any, Literal, get_args

import keras
from keras import ops

from kseq.attention.attention import NO_DRAWS, Attention, Draws, Memory
from kseq.attention.head_projection import HeadMerge, HeadProjection
from kseq.attention.key_value_cache import KeyValueCache, attend_to_cache, write
from kseq.attention.masked_softmax import SCORE_ZERO
from kseq.attention.relative import places_of, relative_scores
from kseq.attention.rotary import rotate
from kseq.attention.rows import join_rows, split_rows
from kseq.backend import Tensor, dropout_mask, under_xla
from kseq.inner_layers import freeze_inner_layers
from kseq.masking import implicit_mask, zero_padding
from kseq.numbers import flag, positive_int

Positions = Literal["rotary", "relative"]


@keras.saving.register_keras_serializable(package="kseq")
class MultiHeadAttention(Attention):
    """Multi-head attention: several scaled dot products of projected queries and keys at once.

    With h heads, of which head i has the projections Q_i, K_i, V_i (with biases) of queries q, keys and values m:

        context = sum over i of softmax(Q_i q . K_i m / sqrt(key_dim)) V_i m O_i + b

    The weights are those of `keras.layers.MultiHeadAttention`, or with `num_kv_heads` of
    `keras.layers.GroupQueryAttention`, in their order: `set_weights(keras_layer.get_weights())` gives equal outputs.
    (Initial kernels are drawn as matrices, `(features, heads * key_dim)`, and are larger than those of Keras.)

    - Cross-attention: `attention(query, memory)`, as with every mechanism.
    - Self-attention: `attention(values, values)`; with `causal=True` each step attends to itself and those before it.
    - Self-attention step by step, with an explicit cache: `attention.cached_step(values, cache)`, see there.

    Args:
        num_heads: Number of heads of the queries.
        key_dim: Size of each head's queries and keys.
        value_dim: Size of each head's values; None: `key_dim`.
        num_kv_heads: Number of heads of keys and values, each shared by `num_heads / num_kv_heads` heads of the
            queries (grouped-query attention, J. Ainslie et al. 2023); None: `num_heads`.
        use_bias: Whether the projections have biases.
        output_dim: Size of the context; None: the query's size.
        positions: "rotary" rotates queries and keys by their positions (J. Su et al. 2021). "relative" adds a learned
            score for each distance, `q . a`, shared by the heads (P. Shaw et al. 2018, without vectors for the values).
            None: the order of the steps does not matter. Only for self-attention.
        max_distance: With "relative", the distance from which on all distances are alike; None: 16.
        causal: Whether a step attends only to itself and the steps before it. Only for self-attention.
        head_weights: Whether to return the weights of all heads, not their mean.
        **kwargs: Arguments of `Attention` and of `keras.layers.Layer`.

    Call arguments:
        query: Float `(batch, query_dim)`, or `(batch, queries, query_dim)`.
        memory: A `Memory`, or the values, float `(batch, time, value_dim)`.
        state, memory_mask, training, draws, hypotheses: As in `Attention`.

    Returns:
        `(context, weights, state)`: context `(batch, [queries,] output_dim)`; weights `(batch, [queries,] time)`, the
        mean over the heads, or with `head_weights` `(batch, heads, [queries,] time)`; the state is empty.

    Raises:
        ValueError: If the heads do not divide, an option is out of range or does not apply, or a layer with `positions`
            or `causal` gets anything else than a whole sequence as query and memory; further as in `Attention`.

    Example:
        >>> attention = MultiHeadAttention(num_heads=4, key_dim=16, causal=True, positions="rotary")
        >>> values = np.zeros((2, 7, 64), "float32")
        >>> context, weights, _ = attention(values, values)
        >>> context.shape, weights.shape
        ((2, 7, 64), (2, 7, 7))

    References:
        - A. Vaswani et al., "Attention is all you need", 2017.
        - J. Ainslie et al., "GQA: training generalized multi-query Transformer models from multi-head checkpoints",
          2023.
        - J. Su et al., "RoFormer: enhanced Transformer with rotary position embedding", 2021.
        - P. Shaw, J. Uszkoreit, A. Vaswani, "Self-attention with relative position representations", 2018.
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        *,
        num_kv_heads: int | None = None,
        use_bias: bool = True,
        output_dim: int | None = None,
        positions: Positions | None = None,
        max_distance: int | None = None,
        causal: bool = False,
        head_weights: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_heads, self.key_dim = (
            positive_int(self, "num_heads", num_heads),
            positive_int(self, "key_dim", key_dim),
        )
        self.head_value_dim = key_dim if value_dim is None else positive_int(self, "value_dim", value_dim)
        self.num_kv_heads = num_heads if num_kv_heads is None else positive_int(self, "num_kv_heads", num_kv_heads)
        self.output_dim = None if output_dim is None else positive_int(self, "output_dim", output_dim)
        self.use_bias, self.causal = flag("use_bias", use_bias), flag("causal", causal)
        self.head_weights, self.positions = flag("head_weights", head_weights), positions
        self.max_distance = None if max_distance is None else positive_int(self, "max_distance", max_distance)
        _check_options(self)
        self.query_layer = self._heads(self.num_heads, self.key_dim, "query")
        self.key_layer = self._heads(self.num_kv_heads, self.key_dim, "key")
        self.value_layer = self._heads(self.num_kv_heads, self.head_value_dim, "value")
        self.output_layer: Any = None  # its size may be the query's
        freeze_inner_layers(self)

    def _heads(self, num_heads: int, head_dim: int, name: str) -> HeadProjection:
        return HeadProjection(num_heads, head_dim, name=name, **self._of_inner_layers())

    def _of_inner_layers(self) -> dict[str, Any]:
        return {
            "use_bias": self.use_bias,
            "kernel_initializer": self.new_initializer(),
            "kernel_regularizer": self.kernel_regularizer,
            "dtype": self.dtype_policy,
            "trainable": self.trainable,
        }

    def build(self, query_shape: tuple, memory_shape: tuple | Memory) -> None:
        """Create the weights, except those that `memory` has already built."""
        if isinstance(memory_shape, Memory):  # of heads, so that `memory` has built the layers of keys and values
            memory_shape = (None, None, self.key_layer.kernel.shape[0])
        super().build(query_shape, memory_shape)
        for layer, features in (
            (self.query_layer, self.query_dim),
            (self.key_layer, self.value_dim),
            (self.value_layer, self.value_dim),
        ):
            if not layer.built:
                layer.build((None, None, features))
        units = self.query_dim if self.output_dim is None else self.output_dim
        self.output_layer = HeadMerge(units or 0, name="output", **self._of_inner_layers())
        self.output_layer.build((None, self.num_heads, None, self.head_value_dim))
        if self.positions == "relative":
            shape = (2 * (self.max_distance or MAX_DISTANCE) + 1, self.key_dim)
            self.distances = self.add_weight(name="distances", shape=shape, initializer=self.new_initializer())

    def project_keys(self, values: Tensor) -> Tensor:
        """Return the keys, `(batch, kv_heads, time, key_dim)`, rotated if positions are."""
        keys = self.key_layer(values)
        return rotate(keys, _positions(values)) if self.positions == "rotary" else keys

    def project_values(self, values: Tensor) -> Tensor:
        """Return the heads' values, `(batch, kv_heads, time, value_dim)`."""
        return self.value_layer(values)

    def call(
        self,
        query: Tensor,
        memory: Memory | Tensor,
        state: Any = (),
        memory_mask: Tensor | None = None,
        training: bool | None = None,
        draws: Draws | None = None,
        hypotheses: bool = False,
    ) -> tuple[Tensor, Tensor, Any]:
        """Attend to the memory; see the class for arguments and results."""
        if self.causal or self.positions:
            _check_self_attention(self, query, memory)
        itself = query is memory or self.causal or self.positions
        memory = self.checked_memory(query, memory, memory_mask)
        single = len(query.shape) == 2
        query = query[:, None] if single else query
        query = zero_padding(query, memory.mask if itself else implicit_mask(query))
        state = self._checked_state(state, ops.shape(query)[0], ops.shape(memory.keys)[2])
        weights, factor = self._weigh_heads(query, memory)
        context = self._read(weights, memory, training, draws)
        context = context if factor is None else context * ops.cast(factor, context.dtype)
        context = self.output_layer(context)
        weights = self._shown(weights, factor)
        return (context[:, 0], weights[..., 0, :], state) if single else (context, weights, state)

    def step(
        self, query: Tensor, memory: Memory, state: Any, *, training: bool | None = False, draws: Draws = NO_DRAWS
    ) -> tuple[Tensor, Tensor, Any]:
        """Attend for one step of one or more hypotheses per source, as in `Attention`.

        The weights are `(rows, time)`, or with `head_weights` `(rows, heads, time)`.
        """
        if not self.head_weights:
            return super().step(query, memory, state, training=training, draws=draws)
        query = split_rows(query, ops.shape(memory.values)[0])
        context, weights, state = self(query, memory, state, training=training, draws=draws, hypotheses=True)
        return join_rows(context), join_rows(ops.swapaxes(weights, 1, 2)), state

    def draw(self, batch: Any, queries: Any, time: Any, training: bool | None) -> Draws:
        """Draw the dropout of `queries` steps, `(batch, queries, heads, time)`; only in training."""
        if not training or not self.dropout:
            return NO_DRAWS
        like = ops.ones((batch, queries, self.num_heads, time), dtype=self.compute_dtype)
        return Draws(dropout_mask(like, self.dropout, self.dropout_layer.seed_generator))

    def weigh(
        self, query: Tensor, memory: Memory, state: Any, *, training: bool | None = None, noise: Any = ()
    ) -> tuple[Tensor, Any]:
        """Return the weights that `call` returns, in float32 or float64, and the state."""
        weights, factor = self._weigh_heads(query, memory)
        return self._shown(weights, factor, dtype=weights.dtype), state

    def _weigh_heads(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor | None]:
        """Return weights `(batch, heads, queries, time)`, and a factor `(batch, 1 or heads, queries or 1, 1)` or None.

        Their product is the softmax of the scores, zero for a query that may attend to nothing, in float32 or float64.
        """
        heads = self._scaled_query(query)
        batch, _, queries, _ = ops.shape(heads)
        time = ops.shape(memory.keys)[2]
        shared = queries * (self.num_heads // self.num_kv_heads)  # of the heads that share keys, which are together
        grouped = ops.reshape(heads, (batch, self.num_kv_heads, shared, self.key_dim))
        scores = ops.matmul(grouped, ops.swapaxes(memory.keys, 2, 3))
        scores = ops.reshape(scores, (batch, self.num_heads, queries, time))
        if self.positions == "relative":
            scores = scores + relative_scores(heads, ops.cast(self.distances, heads.dtype), time)
        scores = ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
        allowed = self._allowed(memory.mask, queries, time)
        if allowed is not None:
            # Added, not selected by `where`: the gradient then passes over the scores once less. Scores of the padding
            # are finite because its values are zero.
            scores = scores + ops.where(allowed, ops.cast(0.0, scores.dtype), SCORE_ZERO)
        some = None if memory.mask is None else ops.any(allowed, axis=-1, keepdims=True)
        if under_xla() and scores.shape[-1] != 0:  # without a step, there is no largest score
            # The context is divided, not the weights: fewer passes over the weights. Elsewhere one operation makes all.
            weights = ops.exp(scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True)))
            factor = 1.0 / ops.sum(weights, axis=-1, keepdims=True)
            return weights, factor if some is None else ops.where(some, factor, 0.0)
        few = scores.shape[-1] in (0, 1)  # of one, Keras warns
        weights = ops.ones_like(scores) if few else ops.softmax(scores, axis=-1)
        return weights, None if some is None else ops.cast(some, weights.dtype)

    def _scaled_query(self, query: Tensor, positions: Tensor | None = None) -> Tensor:
        """Return the projected query, `(batch, heads, queries, key_dim)`, divided by the root of `key_dim`."""
        # Divided before the product with the keys, so that this does not overflow in float16.
        heads = self.query_layer(query, factor=1.0 / math.sqrt(self.key_dim))
        if self.positions != "rotary":
            return heads
        return rotate(heads, _positions(query) if positions is None else positions)

    def _allowed(self, mask: Tensor | None, queries: Any, time: Any) -> Tensor | None:
        """Return which keys each query may attend to, bool `(batch or 1, 1, queries or 1, time)`; None: all."""
        allowed = None if mask is None else mask[:, None, None, :]
        if self.causal:
            steps = ops.arange(time, dtype="int32")
            before = (steps <= ops.arange(queries, dtype="int32")[:, None])[None, None]
            allowed = before if allowed is None else ops.logical_and(allowed, before)
        return allowed

    def _read(self, weights: Tensor, memory: Memory, training: bool | None, draws: Draws | None) -> Tensor:
        """Return the mean of the values, `(batch, heads, queries, value_dim)`."""
        weights = ops.cast(weights, self.compute_dtype)
        if draws is not None and not isinstance(draws.dropout, tuple):
            weights = weights * ops.swapaxes(draws.dropout, 1, 2)
        elif draws is None and training and self.dropout:
            weights = weights * dropout_mask(weights, self.dropout, self.dropout_layer.seed_generator)
        batch, _, queries, time = ops.shape(weights)
        shared = queries * (self.num_heads // self.num_kv_heads)
        grouped = ops.reshape(weights, (batch, self.num_kv_heads, shared, time))
        context = ops.matmul(grouped, memory.values)
        return ops.reshape(context, (batch, self.num_heads, queries, self.head_value_dim))

    def _shown(self, weights: Tensor, factor: Tensor | None, dtype: Any = None) -> Tensor:
        """Return the weights of the answer, all or their mean over the heads."""
        weights = weights if factor is None else weights * factor
        shown = weights if self.head_weights else ops.mean(weights, axis=1)
        return ops.cast(shown, dtype or self.compute_dtype)

    def cache(self, batch: int | Tensor, max_length: int) -> KeyValueCache:
        """Return an empty cache with room for `max_length` positions of each row, in the compute dtype."""
        max_length = positive_int(self, "max_length", max_length)

        def zeros(dim: int) -> Tensor:
            return ops.zeros((batch, self.num_kv_heads, max_length, dim), dtype=self.compute_dtype)

        return KeyValueCache(zeros(self.key_dim), zeros(self.head_value_dim), ops.zeros((batch,), dtype="int32"))

    def cached_step(
        self, values: Tensor, cache: KeyValueCache, *, seen: Tensor | None = None
    ) -> tuple[Tensor, Tensor, KeyValueCache]:
        """Run causal self-attention at the next position; the steps together equal `call(values, values)`.

        Args:
            values: Float `(rows, dim)`, the inputs at that position.
            cache: The cache with the positions before, from `cache(rows, max_length)` or the last step.
            seen: For hypotheses of a beam whose cache is not moved: bool `(batch, beam, beam, max_length)`, as
                `kseq.decoding.look_back` returns it. None: each row attends to its own past.

        Returns:
            `(context, weights, cache)`: context `(rows, output_dim)`; weights `(rows, max_length)`, or with
            `head_weights` `(rows, heads, max_length)`, zero at positions that are not written; and the new cache.

        Raises:
            ValueError: If the layer is not causal, or the cache is known to be full. In a graph, the context of a
                position beyond the cache is NaN.

        Example:
            >>> attention = MultiHeadAttention(num_heads=4, key_dim=16, causal=True)
            >>> cache = attention.cache(batch=2, max_length=7)
            >>> for position in range(7):
            ...     context, weights, cache = attention.cached_step(values[:, position], cache)
        """
        if not self.causal:
            raise ValueError(
                "cached_step attends to the positions so far, so it needs MultiHeadAttention(causal=True)."
            )
        with keras.name_scope(self.name, caller=self):
            values = ops.cast(values, self.compute_dtype)[:, None]  # (rows, 1, dim)
            if not self.built:
                self.build(values.shape, values.shape)
            at = cache.position[:1]  # all rows are at one position
            keys = self.key_layer(values)
            keys = rotate(keys, at) if self.positions == "rotary" else keys
            cache, position = write(cache, keys, self.value_layer(values))
            room = cache.keys.shape[2]
            steps = ops.arange(room, dtype="int32")
            if seen is None:
                seen = ops.broadcast_to(steps <= position, (ops.shape(cache.keys)[0], 1, 1, room))
            query = self._scaled_query(values, at)
            query = ops.where(position < room, query, ops.cast(math.nan, query.dtype))
            distances = None
            if self.positions == "relative":
                table = ops.cast(self.distances, query.dtype)
                vectors = ops.take(table, places_of(steps - position, table), axis=0)
                distances = ops.matmul(query, ops.transpose(vectors))  # (rows, heads, 1, max_length)
            context, weights = attend_to_cache(query, cache, self.num_kv_heads, seen, distances)
            context = self.output_layer(context)[:, 0]
        return context, self._shown(weights, None)[..., 0, :], cache

    def compute_output_shape(self, query_shape: tuple, memory_shape: tuple | Memory) -> tuple[tuple, tuple]:
        """Return the shapes of context and weights."""
        time = memory_shape.values[2] if isinstance(memory_shape, Memory) else memory_shape[1]
        batch, *queries, dim = query_shape
        heads = [self.num_heads] if self.head_weights else []
        return (batch, *queries, self.output_dim or dim), (batch, *heads, *queries, time)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.head_value_dim,
            "num_kv_heads": self.num_kv_heads,
            "use_bias": self.use_bias,
            "output_dim": self.output_dim,
            "positions": self.positions,
            "max_distance": self.max_distance,
            "causal": self.causal,
            "head_weights": self.head_weights,
        }


MAX_DISTANCE = 16  # in steps; Shaw et al. found no difference from 2 on


def _positions(values: Tensor) -> Tensor:
    """Return the positions of the steps of `values` `(batch, time, dim)`."""
    return ops.arange(ops.shape(values)[1], dtype="int32")


def _check_options(layer: MultiHeadAttention) -> None:
    if layer.num_heads % layer.num_kv_heads:
        raise ValueError(
            f"num_heads={layer.num_heads} is no multiple of num_kv_heads={layer.num_kv_heads}, but each head of keys "
            "and values is shared by an equal number of heads of queries."
        )
    if layer.positions not in (None, *get_args(Positions)):
        raise ValueError(f"positions={layer.positions!r}, but it must be None or one of {get_args(Positions)}.")
    if layer.positions == "rotary" and layer.key_dim % 2:
        raise ValueError(
            f"key_dim={layer.key_dim}, but positions='rotary' rotates pairs of dimensions: give an even key_dim."
        )
    if layer.max_distance is not None and layer.positions != "relative":
        raise ValueError(
            f"max_distance={layer.max_distance} applies to positions='relative', but positions={layer.positions!r}."
        )


def _check_self_attention(layer: MultiHeadAttention, query: Tensor, memory: Any) -> None:
    """Raise ValueError unless query and memory can be one sequence."""
    shape = None if isinstance(memory, Memory) else tuple(memory.shape)
    fits = shape is not None and len(query.shape) == len(shape) == 3
    if not fits or (None not in (query.shape[1], shape[1]) and query.shape[1] != shape[1]):
        given = "a Memory" if shape is None else f"values of shape {shape}"
        options = f"causal={layer.causal} and positions={layer.positions!r}"
        raise ValueError(
            f"MultiHeadAttention with {options} compares the positions of one sequence, but got a query of shape "
            f"{tuple(query.shape)} and {given}. Call attention(values, values), or step by step "
            "attention.cached_step(values, cache); for cross-attention leave out causal and positions."
        )
