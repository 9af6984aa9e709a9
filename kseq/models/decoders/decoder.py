"""The recurrent decoder of a sequence-to-sequence model."""

from typing import Any, ClassVar, Literal, NamedTuple

import keras
from keras import ops, tree

from kseq.attention import AdditiveAttention
from kseq.attention.attention import NO_DRAWS, Attention, Draws
from kseq.attention.memory_checks import check_reads_memory
from kseq.attention.rows import repeat_for_rows
from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.cells.copies import config_of, copy_of
from kseq.decoding import StepOutput
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import RNN
from kseq.layers.step_runner import compiles_steps, constants_of, memory_of, padded_source, run_steps
from kseq.linear import apply_dense
from kseq.models.decoders.bridge import Bridge, check_source_is_read, make_bridge
from kseq.models.decoders.tied_logits import TiedLogits
from kseq.models.encoders.encoder import Encoded
from kseq.numbers import flag, whole
from kseq.short_help import ShortHelp


class DecoderMemory(NamedTuple):
    """The part of an encoded source that all decoding steps read, batch first.

    Attributes:
        attended: The attention's `Memory` of the encoder's values; `()` without attention.
        context: The encoder's final states, concatenated, `(batch, units)`, with `context="every_step"`; else `()`.
        copies: The target id of each source token, int32 `(batch, time)`, in a `PointerDecoder`; else `()`.
    """

    attended: Any
    context: Any
    copies: Any = ()


class DecoderState(NamedTuple):
    """The state that a decoding step updates, rows (batch x hypotheses) first.

    Attributes:
        cells: A tuple of state tensors `(rows, units)` for each layer.
        feed: The last attentional vector, `(rows, units)`, with input feeding; else `()`.
        attention: The state of the attention, `()` if it has none.
    """

    cells: tuple
    feed: Any
    attention: Any


@keras.saving.register_keras_serializable(package="kseq")
class Decoder(keras.layers.Layer, metaclass=ShortHelp):
    """Predicts each token from the tokens before it and an encoded source.

    With `context="attention"` the top layer's output h is the query of an attention over the encoder's values. Its
    result c and h give the attentional vector `tanh(W [h; c] + b)` (Luong et al. 2015). With `input_feeding` this
    vector is concatenated to the next step's input, so the decoder knows its previous alignment. `context="every_step"`
    concatenates the encoder's final states to each step's input (Cho et al. 2014); `context="initial"` uses them for
    the initial state alone (Sutskever et al. 2014). In all cases a `Bridge` makes the decoder's initial states of the
    encoder's output.

    Without input feeding, training runs each recurrent layer over the whole sequence, then the attention with all
    queries. With it, training runs step by step.

    Args:
        vocabulary_size: Number of token ids.
        embedding_dim: Size of a token's embedding.
        cell: The recurrent cell; every layer gets a copy with its own weights, in this layer's precision.
        num_layers: Number of recurrent layers, at least 1.
        context: How the decoder uses the source, see above.
        attention: Attention mechanism, only with `context="attention"`; the default is `AdditiveAttention` with the
            cell's units.
        input_feeding: Whether the attentional vector is part of the next step's input. Only with attention.
        dropout: Share of each layer's inputs, and of the logits' inputs, dropped in training; a row's steps share one
            dropout mask (Gal & Ghahramani 2016).
        residual: Whether each layer from the second on adds its input to its output.
        bridge: How the encoder's output becomes the initial states: "dense", "copy", "zero", "last" or "mean", see
            `Bridge`; or a `Bridge` of your own.
        tie_embeddings: Whether the kernel of the logits is the transpose of the embedding, which needs an
            `embedding_dim` equal to the cell's units (Press & Wolf 2017).
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: int `(batch, time)`, the previous token of each step; the first is the begin token.
        encoded: The encoder's `Encoded`.
        training: Whether dropout is on.
        embedded: Float `(batch, time, embedding_dim)`, used in place of the tokens' embeddings if it is given.
        return_weights: Whether to return the attention weights too.

    Returns:
        Logits, float32 `(batch, time, vocabulary)`; with `return_weights` a tuple of them and the attention weights,
        float `(batch, time, source time)`.

    Raises:
        ValueError: If an option is out of range, or options exclude each other.

    References:
        - M.-T. Luong, H. Pham, C. Manning, "Effective approaches to attention-based neural machine translation", 2015.
        - K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
          translation", 2014.
        - I. Sutskever, O. Vinyals, Q. Le, "Sequence to sequence learning with neural networks", 2014.
        - O. Press, L. Wolf, "Using the output embedding to improve language models", 2017.

    Attributes:
        reads_weights: Whether the logits depend on the attention's weights.
    """

    reads_weights: ClassVar[bool] = False

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        cell: Cell,
        *,
        num_layers: int = 1,
        context: Literal["attention", "every_step", "initial"] = "attention",
        attention: Attention | None = None,
        input_feeding: bool = False,
        dropout: float = 0.0,
        residual: bool = False,
        bridge: str | Bridge = "dense",
        tie_embeddings: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        vocabulary_size = whole("vocabulary_size", vocabulary_size)
        embedding_dim, num_layers = whole("embedding_dim", embedding_dim), whole("num_layers", num_layers)
        _check_options(num_layers, context, attention, input_feeding)
        check_source_is_read(bridge, context)
        self.vocabulary_size, self.embedding_dim = vocabulary_size, embedding_dim
        self.cell_config = config_of(cell)
        self.num_layers, self.context, self.input_feeding = num_layers, context, input_feeding
        self.dropout, self.residual = float(dropout), residual
        self.units = cell.output_size
        self.embedding = self._embedding_layer()
        self.layers = [self._layer(cell) for _ in range(num_layers)]
        self.attention: Any = attention
        if context == "attention":
            self.attention = attention or AdditiveAttention(self.units, dtype=self.dtype_policy)
            self.combine = keras.layers.Dense(self.units, activation="tanh", dtype=self.dtype_policy)
        self.bridge_is_named = isinstance(bridge, str)
        sizes = [size for layer in self.layers for size in layer.state_size]
        self.bridge = make_bridge(bridge, sizes, self.dtype_policy)
        self.unit_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        self.tie_embeddings = flag("tie_embeddings", tie_embeddings)
        self.to_logits = self._logits_layer()
        freeze_inner_layers(self)

    def _embedding_layer(self) -> keras.layers.Embedding:
        return keras.layers.Embedding(self.vocabulary_size, self.embedding_dim, dtype=self.dtype_policy)

    def _logits_layer(self) -> keras.layers.Layer:
        if not self.tie_embeddings:
            return keras.layers.Dense(self.vocabulary_size, dtype="float32")
        if self.embedding_dim != self.units:
            raise ValueError(
                f"tie_embeddings=True needs embedding_dim equal to the cell's units, but embedding_dim="
                f"{self.embedding_dim} and the units are {self.units}."
            )
        return TiedLogits(self.embedding, dtype="float32")

    def _layer(self, cell: Cell) -> RNN:
        return RNN(copy_of(cell, self.dtype_policy), return_sequences=True, return_state=True, dtype=self.dtype_policy)

    @property
    def num_tokens(self) -> int:
        """Number of the ids that a target may have, which is that of the logits."""
        return self.vocabulary_size

    def build(self, tokens_shape: tuple, encoded_shape: Encoded) -> None:
        """Create the weights for an encoder's output of the shapes `encoded_shape`, see `Encoder.encoded_shape()`."""
        encoded_shape = Encoded(*encoded_shape)  # a list, if it comes from a saved file
        self.embedding.build((None, None))
        if not self.bridge.built:  # a part loaded from a file is built already
            self.bridge.build(encoded_shape.states, encoded_shape.values)
        width = self.embedding_dim
        width += self.units if self.input_feeding else 0
        width += sum(shape[-1] for shape in encoded_shape.states) if self.context == "every_step" else 0
        for layer in self.layers:
            layer.build((None, None, width))
            width = self.units
        if self.attention is not None:
            if not self.attention.built:  # a part loaded from a file is built already
                self.attention.build((None, self.units), tuple(encoded_shape.values))
            context_shape, _ = self.attention.compute_output_shape((None, self.units), tuple(encoded_shape.values))
            self.combine.build((None, None, self.units + context_shape[-1]))
        self.to_logits.build((None, None, self.units))

    def initial_state(self, encoded: Encoded) -> DecoderState:
        """Return the state before the first token, `(batch, ...)` each."""
        states = self.bridge(encoded.states, encoded.values, encoded.mask)
        states = iter([ops.cast(each, self.compute_dtype) for each in states])  # a bridge may have a dtype of its own
        cells = tuple(tuple(next(states) for _ in layer.state_size) for layer in self.layers)
        feed = ops.zeros_like(cells[-1][0]) if self.input_feeding else ()
        batch, time = ops.shape(encoded.values)[:2]
        return DecoderState(cells, feed, () if self.attention is None else self.attention.initial_state(batch, time))

    def memory(self, encoded: Encoded) -> DecoderMemory:
        """Return the part of the source that all steps read."""
        attended = () if self.attention is None else self.attention.memory(encoded.values, encoded.mask)
        every_step = self.context == "every_step"
        return DecoderMemory(attended, ops.concatenate(encoded.states, axis=-1) if every_step else ())

    def call(
        self,
        tokens: Tensor,
        encoded: Encoded,
        training: bool | None = None,
        embedded: Tensor | None = None,
        return_weights: bool = False,
    ) -> Any:
        """Return the logits of every step, given the true previous tokens (teacher forcing)."""
        encoded = Encoded(*encoded)
        embedded = self.embedding(tokens) if embedded is None else embedded
        compiles = self.input_feeding and compiles_steps(self, [embedded, encoded.values])
        read = encoded
        if compiles:
            values, mask = padded_source(encoded.values, encoded.mask)
            read = encoded._replace(values=values, mask=mask)
        state, memory = self.initial_state(read), self.memory(read)
        needs_weights = return_weights or self.reads_weights
        if self.input_feeding:
            hidden, weights = self._run_step_by_step(embedded, state, memory, bool(training), needs_weights, compiles)
        else:
            hidden, weights = self._run_layer_by_layer(embedded, state, memory, training, needs_weights)
        if compiles and needs_weights:
            weights = weights[..., : ops.shape(encoded.values)[1]]
        hidden = self.unit_dropout(hidden, training=training)
        logits = self.logits(hidden, embedded, weights, memory)
        return (logits, weights) if return_weights else logits

    def logits(self, hidden: Tensor, embedded: Tensor, weights: Tensor | None, memory: DecoderMemory) -> Tensor:
        """Return the logits of steps.

        Args:
            hidden: Float `(..., units)`, what the attention, or without it the top layer, made of the step.
            embedded: Float `(..., embedding_dim)`, the embeddings of the previous tokens.
            weights: Float `(..., source time)`, the attention's weights; None without attention, and in training if
                the class does not set `reads_weights`.
            memory: The part of the source that all steps read.
        """
        return self.to_logits(hidden)

    def _run_layer_by_layer(
        self, values: Tensor, state: DecoderState, memory: DecoderMemory, training: bool | None, return_weights: bool
    ) -> tuple[Tensor, Any]:
        values = self._run_layers(values, state, memory, training)
        if self.attention is None:
            return values, None
        read, weights, _ = self.attention(values, memory.attended, state.attention, training=training)
        return self.combine(ops.concatenate([values, read], axis=-1)), weights

    def _run_layers(self, values: Tensor, state: DecoderState, memory: DecoderMemory, training: bool | None) -> Tensor:
        """Return the top layer's outputs `(batch, time, units)`."""
        for index, (layer, initial) in enumerate(zip(self.layers, state.cells, strict=True)):
            inputs = self.unit_dropout(values, training=training)
            if index == 0 and self.context == "every_step":
                context = ops.broadcast_to(memory.context[:, None], (*ops.shape(values)[:2], memory.context.shape[-1]))
                inputs = ops.concatenate([inputs, context], axis=-1)
            outputs, *_ = layer(inputs, initial_state=list(initial), training=training)
            values = outputs + values if self.residual and index > 0 else outputs
        return values

    def _run_step_by_step(
        self,
        embedded: Tensor,
        state: DecoderState,
        memory: DecoderMemory,
        training: bool,
        return_weights: bool,
        compiles: bool,
    ) -> tuple[Tensor, Any]:
        batch, time = ops.shape(embedded)[:2]
        masks = [  # of the layers' inputs
            self.unit_dropout(ops.ones((batch, 1, width), dtype=embedded.dtype), training=training)[:, 0]
            for width in (self.embedding_dim, *([self.units] * (self.num_layers - 1)))
        ]
        draws = self.attention.draw(batch, time, ops.shape(memory.attended.values)[-2], training)

        def step(state: DecoderState, inputs: tuple, constants: tuple) -> tuple[DecoderState, Any]:
            (embedded, draws), (attended, context, masks) = inputs, constants
            memory = DecoderMemory(memory_of(attended), context)
            draws = tree.map_structure(lambda x: x[:, None], draws)  # of one hypothesis
            hidden, state, weights = self._step(embedded, state, memory, masks, draws, training=training)
            return state, (hidden, weights if return_weights else ())

        inputs = tree.map_structure(lambda x: ops.swapaxes(x, 0, 1), (embedded, draws))
        constants = (constants_of(memory.attended), memory.context, masks)
        _, outputs = run_steps(self, step, state, inputs, constants, training=training, compiles=compiles)
        hidden, weights = tree.map_structure(lambda x: ops.swapaxes(x, 0, 1), outputs)
        return hidden, weights

    def step(self, tokens: Tensor, state: DecoderState, memory: DecoderMemory) -> StepOutput:
        """Run one decoding step for every hypothesis; the search strategies of `kseq.decoding` call this method.

        Args:
            tokens: int `(rows,)`, the previous tokens; rows = batch x hypotheses.
            state: Tensors `(rows, ...)`.
            memory: Tensors `(batch, ...)`.

        Returns:
            Logits, float32 `(rows, vocabulary)`; the new state; the attention's weights `(rows, source time)` or None;
            and the inputs of the logits' layer, `(rows, units)`.
        """
        return self.step_embedded(self.embedding(tokens), state, memory)

    def step_embedded(self, embedded: Tensor, state: DecoderState, memory: DecoderMemory) -> StepOutput:
        """Run `step` with embeddings of the previous tokens, float `(rows, embedding_dim)`, in place of the tokens."""
        hidden, state, weights = self._step(embedded, state, memory)
        return StepOutput(self.logits(hidden, embedded, weights, memory), state, weights, hidden)

    def _step(
        self,
        embedded: Tensor,
        state: DecoderState,
        memory: DecoderMemory,
        masks: list[Tensor] | None = None,
        draws: Draws = NO_DRAWS,
        *,
        training: bool | None = False,
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Run one step from `embedded` `(rows, embedding_dim)` to the logits' inputs, `(rows, units)`."""
        values, cells = self._step_layers(embedded, state, memory, masks, training)
        if self.attention is None:
            return values, DecoderState(cells, (), ()), None
        attended, state = memory.attended, state.attention
        read, weights, state = self.attention.step(values, attended, state, training=training, draws=draws)
        hidden = apply_dense(self.combine, ops.concatenate([values, read], axis=-1))
        return hidden, DecoderState(cells, hidden if self.input_feeding else (), state), weights

    def _step_layers(
        self,
        values: Tensor,
        state: DecoderState,
        memory: DecoderMemory,
        masks: list[Tensor] | None = None,
        training: bool | None = False,
    ) -> tuple[Tensor, tuple]:
        """Return the top layer's outputs `(rows, units)` of one step, and the states of all layers."""
        cells = []
        for index, (layer, before) in enumerate(zip(self.layers, state.cells, strict=True)):
            inputs = values if masks is None else values * masks[index]
            if index == 0:
                inputs = self._join(inputs, state.feed, memory.context)
            outputs, after = layer.cell(inputs, list(before), training=training)
            cells.append(tuple(after))
            values = outputs + values if self.residual and index > 0 else outputs
        return values, tuple(cells)

    def _join(self, inputs: Tensor, feed: Any, context: Any) -> Tensor:
        parts = [inputs]
        if self.input_feeding:
            parts.append(feed)
        if self.context == "every_step":
            parts.append(repeat_for_rows(context, ops.shape(inputs)[0]))
        return ops.concatenate(parts, axis=-1) if len(parts) > 1 else inputs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "embedding_dim": self.embedding_dim,
            "cell": self.cell_config,
            "num_layers": self.num_layers,
            "context": self.context,
            "attention": None if self.attention is None else keras.saving.serialize_keras_object(self.attention),
            "input_feeding": self.input_feeding,
            "dropout": self.dropout,
            "residual": self.residual,
            "bridge": self.bridge.kind if self.bridge_is_named else keras.saving.serialize_keras_object(self.bridge),
            "tie_embeddings": self.tie_embeddings,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Decoder":
        """Create a decoder from the result of `get_config`."""
        names = [name for name in ("cell", "attention", "bridge") if name in config]  # older files have no bridge
        return cls(**{**config, **{name: keras.saving.deserialize_keras_object(config[name]) for name in names}})


def _check_options(num_layers: int, context: str, attention: Attention | None, input_feeding: bool) -> None:
    if num_layers < 1:
        raise ValueError(f"num_layers={num_layers}, but a decoder needs at least 1 recurrent layer.")
    if context not in ("attention", "every_step", "initial"):
        raise ValueError(f"context={context!r}, but it must be 'attention', 'every_step' or 'initial'.")
    if context != "attention" and (attention is not None or input_feeding):
        raise ValueError(
            f"context={context!r} excludes attention, but attention={attention} and input_feeding={input_feeding} "
            "were given. Use context='attention'."
        )
    check_reads_memory(attention, "decoder", head_weights=False)
