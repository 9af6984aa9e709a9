"""The base class of attention mechanisms."""

from typing import Any, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.masking import check_mask, refuse_ragged, zero_padding
from kseq.numbers import plain_seed, share
from kseq.short_help import ShortHelp

SCORE_ZERO = -1e30  # finite: with -inf, a row without any real step would give -inf + inf = NaN


class Memory(NamedTuple):
    """A source prepared for attention, computed once per source by `Attention.memory`.

    The layer does not store it. In beam search it is not repeated per hypothesis: its first axis stays the batch.

    Attributes:
        keys: `(batch, time, key_dim)`, compared with queries.
        values: `(batch, time, value_dim)`, averaged by the attention weights; zero in the padding.
        mask: bool `(batch, time)`, True at the real steps, or None if all are real.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None = None


class Attention(keras.layers.Layer, metaclass=ShortHelp):
    """Base class of attention mechanisms: softmax weights over a source, and the weighted mean of its values.

    A mechanism defines how a query is scored against the keys:

    - `project_keys(values)`: the keys, that is, everything that does not depend on the query;
    - `score(query, keys)`: the scores, before the softmax;
    - `build(query_shape, memory_shape)`: its weights, after `super().build(...)` has set `query_dim` and `value_dim`.

    A mechanism whose weights depend on earlier weights overrides `initial_state` and `weigh`.

    A model that owns the layer calls `build(query_shape, memory_shape)` in its own `build`. Otherwise the weights are
    created on first use: `memory` builds those that project the values, `call` all others.

    In a functional model pass the values themselves to `call` instead of a `Memory`: the layer then calls `memory`, and
    respects the implicit Keras mask of the values.

    Padding, NaN included, changes neither outputs nor gradients. A row without a real step gives a zero context and
    zero weights. The softmax is computed in float32, or float64 in a float64 layer.

    Args:
        kernel_initializer: Initializer of the mechanism's matrices.
        kernel_regularizer: Regularizer of the mechanism's matrices.
        dropout: Fraction of the weights to drop in training, between 0 and 1. The returned weights are those before
            dropout.
        seed: Seed of the dropout.
        **kwargs: Arguments of `keras.layers.Layer` (`name`, `dtype`, `trainable`).

    Call arguments:
        query: float `(batch, query_dim)`, or `(batch, queries, query_dim)` for many queries per row.
        memory: A `Memory`, or the values, float `(batch, time, value_dim)`.
        state: The state that the previous call returned; `initial_state(batch)` in the first call.
        memory_mask: bool `(batch, time)`, only with plain values; a `Memory` has its own mask.
        training: Whether to apply dropout.

    Returns:
        `(context, weights, state)`: context `(batch, [queries,] value_dim)`, weights `(batch, [queries,] time)`, both
        in the layer's compute dtype, and the new state.

    Raises:
        ValueError: If query, values or mask have a wrong shape or are ragged, if there is a `memory_mask` besides a
            `Memory`, if `memory` is called while a functional model is built, or if `dropout` is no number from 0 to
            1.
    """

    def __init__(
        self,
        *,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.dropout = share(self, "dropout", dropout)
        self.seed = plain_seed(seed)
        self.dropout_layer = keras.layers.Dropout(self.dropout, seed=self.seed, dtype=self.dtype_policy, name="dropout")
        freeze_inner_layers(self)
        self.query_dim: int | None = None
        self.value_dim: int | None = None
        self.supports_masking = True  # the context has the mask of the queries

    def build(self, query_shape: tuple, memory_shape: tuple | Memory) -> None:
        """Create the weights for queries `(batch, [queries,] query_dim)` and values `(batch, time, value_dim)`."""
        values_shape = memory_shape.values if isinstance(memory_shape, Memory) else memory_shape
        self.query_dim, self.value_dim = query_shape[-1], values_shape[-1]
        if self.query_dim is None or self.value_dim is None:
            raise ValueError(
                f"{type(self).__name__} needs a static last dimension of query and values, but got query shape "
                f"{tuple(query_shape)} and values shape {tuple(values_shape)}."
            )

    def memory(self, values: Tensor, mask: Tensor | None = None) -> Memory:
        """Prepare a source for attention, once for all queries.

        Args:
            values: float `(batch, time, value_dim)`.
            mask: bool `(batch, time)`, True at the real steps; None if all are.

        Returns:
            The `Memory`, in the layer's compute dtype.
        """
        refuse_ragged(values, f"{type(self).__name__}.memory")
        if isinstance(values, keras.KerasTensor):
            raise ValueError(
                f"{type(self).__name__}.memory cannot be called while a functional model is built: the model could not "
                "be loaded again. Pass the values themselves: attention(query, values). Their Keras mask, or "
                "memory_mask, is respected."
            )
        values = ops.cast(values, self.compute_dtype)
        if len(values.shape) != 3:
            raise ValueError(
                f"{type(self).__name__}.memory needs values of shape (batch, time, value_dim), but got "
                f"{tuple(values.shape)}. Use return_sequences=True in the encoder's last layer."
            )
        mask = check_mask(mask, values)
        values = zero_padding(values, mask)
        with keras.name_scope(self.name, caller=self):
            return Memory(self.project_keys(values), values, mask)

    def initial_state(self, batch: int | Tensor) -> Any:
        """Return the state before the first call, a nest with `batch` rows; empty for a mechanism without state."""
        return ()

    def call(
        self,
        query: Tensor,
        memory: Memory | Tensor,
        state: Any = (),
        memory_mask: Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[Tensor, Tensor, Any]:
        """Attend to the memory; see the class for arguments and results."""
        if not isinstance(memory, Memory):
            memory = self.memory(memory, memory_mask)
        elif memory_mask is not None and any(mask is not None for mask in keras.tree.flatten(memory_mask)):
            raise ValueError(
                f"{type(self).__name__} got a Memory, which has a mask of its own, and a memory_mask. Give the mask to "
                "memory(values, mask)."
            )
        if len(query.shape) not in (2, 3):
            raise ValueError(
                f"{type(self).__name__} needs a query of shape (batch, query_dim) or (batch, queries, query_dim), but "
                f"got {tuple(query.shape)}."
            )
        single = len(query.shape) == 2
        weights, state = self.weigh(query[:, None] if single else query, memory, state)  # (batch, queries, time)
        weights = ops.cast(weights, self.compute_dtype)
        context = ops.matmul(self.dropout_layer(weights, training=training), memory.values)  # (batch, queries, dim)
        return (context[:, 0], weights[:, 0], state) if single else (context, weights, state)

    def weigh(self, query: Tensor, memory: Memory, state: Any) -> tuple[Tensor, Any]:
        """Return the weights `(batch, queries, time)` for `query` `(batch, queries, query_dim)`, and the new state."""
        return masked_softmax(self.score(query, memory.keys), memory.mask), state

    def new_initializer(self) -> Any:
        """Return a copy of the kernel initializer for another weight: reusing one would draw the same numbers."""
        initializer = self.kernel_initializer
        return initializer.clone() if isinstance(initializer, keras.initializers.Initializer) else initializer

    def new_projection(self, units: int, *, name: str, use_bias: bool = False) -> keras.layers.Dense:
        """Return a linear layer with the mechanism's initializer, regularizer and precision."""
        return keras.layers.Dense(
            units,
            use_bias=use_bias,
            kernel_initializer=self.new_initializer(),
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            trainable=self.trainable,
            name=name,
        )

    def project_keys(self, values: Tensor) -> Tensor:
        """Return the keys `(batch, time, key_dim)` of the values `(batch, time, value_dim)`."""
        return values

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the unnormalised scores `(batch, queries, time)`; scores in the padding may be any finite values."""
        raise NotImplementedError(f"{type(self).__name__} must define score(query, keys).")

    def compute_output_shape(self, query_shape: tuple, memory_shape: tuple | Memory) -> tuple[tuple, tuple]:
        """Return the shapes of context and weights."""
        values_shape = memory_shape.values if isinstance(memory_shape, Memory) else memory_shape
        leading = tuple(query_shape[:-1])
        return (*leading, values_shape[-1]), (*leading, values_shape[1])

    def compute_output_spec(self, query: Any, memory: Any, state: Any = (), **kwargs: Any) -> tuple:
        """Return context, weights and state as symbolic tensors; the new state has the shapes of the old one."""
        values = memory.values if isinstance(memory, Memory) else memory
        shapes = self.compute_output_shape(query.shape, values.shape)
        context, weights = (keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes)
        return context, weights, keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), state)

    def get_build_config(self) -> dict[str, Any]:
        """Return the arguments of `build_from_config`."""
        return {"query_dim": self.query_dim, "value_dim": self.value_dim}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Create the weights with the shapes of the saved layer."""
        if config["query_dim"] is not None:
            self.build((None, config["query_dim"]), (None, None, config["value_dim"]))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "dropout": self.dropout,
            "seed": self.seed,
        }


def masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Return the softmax over time of `scores` `(batch, queries, time)`, zero where `mask` `(batch, time)` is False.

    The result is float32 (float64 for float64 scores). A row without a real step gives zeros.
    """
    scores = ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
    if mask is None:
        return ops.softmax(scores, axis=-1)
    mask = mask[:, None, :]  # (batch, 1, time)
    scores = ops.where(mask, scores, SCORE_ZERO)
    largest = ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True, initial=SCORE_ZERO))
    exponentials = ops.where(mask, ops.exp(scores - largest), 0.0)
    total = ops.sum(exponentials, axis=-1, keepdims=True)  # (batch, queries, 1)
    return exponentials / ops.where(total > 0, total, 1.0)
