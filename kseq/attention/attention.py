"""The base class of attention mechanisms."""

from typing import Any, ClassVar, NamedTuple

import keras
from keras import ops

from kseq.attention.masked_softmax import at_least_float32, masked_softmax
from kseq.attention.rows import join_rows, scan_queries, split_rows
from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.masking import check_mask, implicit_mask, refuse_ragged, set_implicit_mask, zero_padding
from kseq.numbers import plain_seed, share
from kseq.short_help import ShortHelp


class Memory(NamedTuple):
    """A source prepared for attention, computed once per source by `Attention.memory`.

    The layer does not store it. In beam search it is not repeated per hypothesis: its first axis stays the batch.

    Attributes:
        keys: `(batch, time, key_dim)`, compared with queries; of several heads `(batch, heads, time, key_dim)`.
        values: `(batch, time, value_dim)`, averaged by the attention weights; zero in the padding. Of several heads
            projected, `(batch, heads, time, value_dim)`.
        mask: bool `(batch, time)`, True at the real steps, or None if all are real.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None = None


class Draws(NamedTuple):
    """The random numbers of attention in training, drawn by `Attention.draw` before any loop over steps.

    Attributes:
        dropout: `(batch, queries, time)`, what the weights are multiplied by: 0 where dropped; `()` without dropout.
        noise: `(batch, queries, time)`, the noise of mechanisms that add some to their scores; else `()`.
    """

    dropout: Any = ()
    noise: Any = ()


NO_DRAWS = Draws()


class Attention(keras.layers.Layer, metaclass=ShortHelp):
    """Base class of attention mechanisms: weights over a source, and the weighted mean of its values.

    A mechanism defines how a query is scored against the keys:

    - `project_keys(values)`: the keys, that is, everything that does not depend on the query;
    - `score(query, keys)`: the scores, before the softmax;
    - `build(query_shape, memory_shape)`: its weights, after `super().build(...)` has set `query_dim` and `value_dim`.

    A mechanism whose weights depend on earlier steps sets `stateless = False` and overrides `initial_state` and
    `weigh`, which runs one step. If much of its work does not depend on the state, it also overrides `weigh_sequence`,
    which runs all steps of a sequence.

    A model that owns the layer calls `build(query_shape, memory_shape)` in its own `build`. Otherwise the weights are
    created on first use: `memory` builds those that project the values, `call` all others.

    In a functional model pass the values themselves to `call` instead of a `Memory`: the layer then calls `memory`, and
    respects the implicit Keras mask of the values.

    `call` with many queries reads them as consecutive steps, and `step` reads its queries as alternative hypotheses of
    the same step. For a mechanism without state there is no difference.

    Padding, NaN included, changes neither outputs nor gradients. A row without a real step gives a zero context and
    zero weights. The softmax is computed in float32, or float64 in a float64 layer.

    Args:
        kernel_initializer: Initializer of the mechanism's matrices.
        kernel_regularizer: Regularizer of the mechanism's matrices.
        dropout: Fraction of the weights to drop in training, between 0 and 1. The returned weights are those before
            dropout.
        seed: Seed of the dropout and of a mechanism's noise.
        **kwargs: Arguments of `keras.layers.Layer` (`name`, `dtype`, `trainable`).

    Call arguments:
        query: float `(batch, query_dim)`, or `(batch, queries, query_dim)` for many consecutive queries per row.
        memory: A `Memory`, or the values, float `(batch, time, value_dim)`.
        state: The state that the previous call returned; `()`, or `initial_state(batch, time)`, in the first call.
        memory_mask: bool `(batch, time)`, only with plain values; a `Memory` has its own mask.
        training: Whether to apply dropout, and what else the mechanism does in training alone.
        draws: The random numbers, if the caller has drawn them with `draw`.
        hypotheses: Whether the queries are alternatives of one step, each with a state of its own, `(batch, queries,
            ...)`, instead of consecutive steps. `step` calls the layer so.

    Returns:
        `(context, weights, state)`: context `(batch, [queries,] value_dim)`, weights `(batch, [queries,] time)`, both
        in the layer's compute dtype, and the new state.

    Raises:
        ValueError: If query, values or mask have a wrong shape or are ragged, if there is a `memory_mask` besides a
            `Memory`, if a mechanism without state gets one, if `memory` is called while a functional model is built,
            or if `dropout` is no number from 0 to 1.

    Attributes:
        stateless: Whether the weights of a step do not depend on earlier steps.
        normalised: Whether the weights of a query sum to 1, if the row has a real step.
    """

    stateless: ClassVar[bool] = True
    normalised: ClassVar[bool] = True

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
        self._convert_input_args = False  # `__call__` does it
        self._allow_non_tensor_positional_args = True  # a state may be of NumPy arrays

    def __call__(self, query: Any, memory: Any, state: Any = (), *args: Any, **kwargs: Any) -> Any:
        """Call the layer as Keras does, with the state in its own precision.

        Keras itself would round the state to the layer's precision at every step.
        """
        query, memory, args, kwargs = keras.tree.map_structure(self._converted, (query, memory, args, kwargs))
        return super().__call__(query, memory, state, *args, **kwargs)

    def _converted(self, value: Any) -> Any:
        """Return an argument as Keras converts it: floats in the layer's precision, with their implicit mask."""
        mask = implicit_mask(value)
        value = self.dtype_policy.convert_input(value, self.autocast, self.input_dtype)
        if mask is not None:
            set_implicit_mask(value, mask)
        return value

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
            return Memory(self.project_keys(values), self.project_values(values), mask)

    def initial_state(self, batch: int | Tensor, time: int | Tensor | None = None) -> Any:
        """Return the state before the first step, a nest of tensors with `batch` rows; `()` without state.

        Args:
            batch: Number of rows.
            time: Number of the memory's time steps. A mechanism without state does not need it.
        """
        return ()

    def known_time(self, time: int | Tensor | None) -> int | Tensor:
        """Return the argument `time` of `initial_state`, or raise ValueError for None, if the state needs it."""
        if time is None:
            raise ValueError(
                f"{type(self).__name__}.initial_state needs the number of the memory's steps: "
                "initial_state(batch, time)."
            )
        return time

    def draw(self, batch: Any, queries: Any, time: Any, training: bool | None) -> Draws:
        """Draw the random numbers of `queries` steps; only in training."""
        if not training:
            return NO_DRAWS
        shape = (batch, queries, time)
        dropout = self.dropout_layer(ops.ones(shape, dtype=self.compute_dtype), training=True) if self.dropout else ()
        return Draws(dropout, self.draw_noise(shape))

    def draw_noise(self, shape: tuple) -> Any:
        """Return the noise `(batch, queries, time)` of a mechanism that adds some to its scores in training."""
        return ()

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
        memory = self.checked_memory(query, memory, memory_mask)
        single = len(query.shape) == 2
        query = query[:, None] if single else query
        batch, queries, time = *ops.shape(query)[:2], ops.shape(memory.values)[-2]
        draws = self.draw(batch, queries, time, training) if draws is None else Draws(*draws)
        weigh = self.weigh if hypotheses else self.weigh_sequence
        state = self._checked_state(state, batch, time)
        weights, state = weigh(query, memory, state, training=training, noise=draws.noise)
        context, weights = self.read(weights, memory, draws)
        return (context[:, 0], weights[:, 0], state) if single else (context, weights, state)

    def checked_memory(self, query: Tensor, memory: Memory | Tensor, memory_mask: Tensor | None) -> Memory:
        """Return the memory of a call, prepared if it is plain values, or raise ValueError if the inputs do not fit."""
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
        return memory

    def step(
        self, query: Tensor, memory: Memory, state: Any, *, training: bool | None = False, draws: Draws = NO_DRAWS
    ) -> tuple[Tensor, Tensor, Any]:
        """Attend for one step of one or more hypotheses per source, without repeating the memory.

        Args:
            query: float `(rows, query_dim)`, rows = batch x hypotheses.
            memory: The `Memory`, batch first.
            state: A nest of tensors with `rows` rows.
            training: As in `call`; but the random numbers are those in `draws`, because a loop's body must be pure.
            draws: Of this step: what `draw` returned, `(batch, hypotheses, time)`.

        Returns:
            Context `(rows, value_dim)`, weights `(rows, time)`, and the new state.
        """
        batch, time = ops.shape(memory.values)[0], ops.shape(memory.values)[-2]
        state = self._checked_state(state, ops.shape(query)[0], time)
        query, state = keras.tree.map_structure(lambda x: split_rows(x, batch), (query, state))
        results = self(query, memory, state, training=training, draws=draws, hypotheses=True)
        return keras.tree.map_structure(join_rows, results)

    def read(self, weights: Tensor, memory: Memory, draws: Draws) -> tuple[Tensor, Tensor]:
        """Return the contexts `(batch, queries, value_dim)` for weights `(batch, queries, time)`, and the weights."""
        weights = ops.cast(weights, self.compute_dtype)
        used = weights if isinstance(draws.dropout, tuple) else weights * draws.dropout
        return ops.matmul(used, memory.values), weights

    def weigh(
        self, query: Tensor, memory: Memory, state: Any, *, training: bool | None = None, noise: Any = ()
    ) -> tuple[Tensor, Any]:
        """Return the weights of queries that do not depend on each other, and the new states.

        Args:
            query: `(batch, queries, query_dim)`.
            memory: The `Memory`.
            state: A nest of tensors `(batch, queries, ...)`.
            training: As in `call`.
            noise: What `draw_noise` returned; `()` outside of training.

        Returns:
            The weights `(batch, queries, time)`, at least in float32, and the state after each query.
        """
        return masked_softmax(self.score(query, memory.keys), memory.mask), state

    def weigh_sequence(
        self, query: Tensor, memory: Memory, state: Any, *, training: bool | None = None, noise: Any = ()
    ) -> tuple[Tensor, Any]:
        """Return the weights of consecutive queries, and the state after the last; arguments as in `weigh`.

        `state` has the batch alone in front, `(batch, ...)`.
        """
        if self.stateless:
            return self.weigh(query, memory, state, training=training, noise=noise)

        def step(state: Any, inputs: Any) -> tuple[Any, Tensor]:
            query, noise, state = keras.tree.map_structure(lambda x: x[:, None], (*inputs, state))
            weights, state = self.weigh(query, memory, state, training=training, noise=noise)
            weights, state = keras.tree.map_structure(lambda x: x[:, 0], (weights, state))
            return state, weights

        time, dtype = ops.shape(memory.values)[-2], at_least_float32(self.compute_dtype)
        return scan_queries(step, state, (query, noise), time, dtype)

    def _checked_state(self, state: Any, batch: Any, time: Any) -> Any:
        """Return the state, the initial one for `()`; raise ValueError if a mechanism without state got one."""
        if keras.tree.flatten(state):
            if self.stateless:
                raise ValueError(
                    f"{type(self).__name__} has no state, but got one: {state}. Pass what it returned, or nothing."
                )
            return state
        return self.initial_state(batch, time)

    def has_matrix_options(self) -> bool:
        """Return whether options of matrices were given; a mechanism without matrices refuses them."""
        is_default = isinstance(self.kernel_initializer, keras.initializers.GlorotUniform)  # also in configurations
        return self.kernel_regularizer is not None or not is_default

    def new_initializer(self) -> Any:
        """Return a copy of the kernel initializer for another weight: reusing one would draw the same numbers."""
        initializer = self.kernel_initializer
        return initializer.clone() if isinstance(initializer, keras.initializers.Initializer) else initializer

    def new_matrix(self, name: str, shape: tuple) -> keras.Variable:
        """Return a matrix with the mechanism's initializer and regularizer."""
        initializer, regularizer = self.new_initializer(), self.kernel_regularizer
        return self.add_weight(name=name, shape=shape, initializer=initializer, regularizer=regularizer)

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

    def project_values(self, values: Tensor) -> Tensor:
        """Return the values to average, `(batch, time, value_dim)`."""
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
        """Return context, weights and state as symbolic tensors."""
        if not self.stateless and not keras.tree.flatten(state):
            return keras.Operation.compute_output_spec(self, query, memory, state, **kwargs)
        values = memory.values if isinstance(memory, Memory) else memory
        shapes = self.compute_output_shape(query.shape, values.shape)
        context, weights = (keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes)
        return context, weights, keras.tree.map_structure(lambda x: keras.KerasTensor(x.shape, dtype=x.dtype), state)

    def get_build_config(self) -> dict[str, Any] | None:
        """Return the arguments of `build_from_config`, or None before the layer is built."""
        return None if self.query_dim is None else {"query_dim": self.query_dim, "value_dim": self.value_dim}

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
