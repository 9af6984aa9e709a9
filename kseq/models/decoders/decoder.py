"""The recurrent decoder of a sequence-to-sequence model."""

from typing import Any, Literal, NamedTuple

import keras
from keras import ops, tree

from kseq import backend
from kseq.attention import AdditiveAttention, Memory
from kseq.attention.attention import Attention
from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.cells.copies import config_of, copy_of
from kseq.decoding import StepOutput
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import RNN
from kseq.models.decoders.bridge import Bridge
from kseq.models.encoders.encoder import Encoded
from kseq.numbers import whole
from kseq.short_help import ShortHelp


class DecoderMemory(NamedTuple):
    """The part of an encoded source that all decoding steps read, batch first.

    Attributes:
        attended: The attention's `Memory` of the encoder's values; `()` without attention.
        context: The encoder's final states, concatenated, `(batch, units)`, with `context="every_step"`; else `()`.
    """

    attended: Any
    context: Any


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
    the initial state alone (Sutskever et al. 2014). In all cases a learned `Bridge` maps the encoder's final states to
    the decoder's initial states.

    Without input feeding, and with an attention that has no state, training runs each recurrent layer over the whole
    sequence, then the attention with all queries in one product. Otherwise training runs step by step.

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
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: int `(batch, time)`, the previous token of each step; the first is the begin token.
        encoded: The encoder's `Encoded`.
        training: Whether dropout is on.

    Returns:
        Logits, float32 `(batch, time, vocabulary)`.

    Raises:
        ValueError: If an option is out of range, or options exclude each other.

    References:
        - M.-T. Luong, H. Pham, C. Manning, "Effective approaches to attention-based neural machine translation", 2015.
        - K. Cho et al., "Learning phrase representations using RNN encoder-decoder for statistical machine
          translation", 2014.
        - I. Sutskever, O. Vinyals, Q. Le, "Sequence to sequence learning with neural networks", 2014.
    """

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
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        vocabulary_size = whole("vocabulary_size", vocabulary_size)
        embedding_dim, num_layers = whole("embedding_dim", embedding_dim), whole("num_layers", num_layers)
        _check_options(num_layers, context, attention, input_feeding)
        if input_feeding:
            _check_dropout_in_loop(cell, attention)
        self.vocabulary_size, self.embedding_dim = vocabulary_size, embedding_dim
        self.cell_config = config_of(cell)
        self.num_layers, self.context, self.input_feeding = num_layers, context, input_feeding
        self.dropout, self.residual = float(dropout), residual
        self.units = cell.output_size
        self.embedding = keras.layers.Embedding(vocabulary_size, embedding_dim, dtype=self.dtype_policy)
        self.layers = [self._layer(cell) for _ in range(num_layers)]
        self.attention: Any = attention
        if context == "attention":
            self.attention = attention or AdditiveAttention(self.units, dtype=self.dtype_policy)
            self.combine = keras.layers.Dense(self.units, activation="tanh", dtype=self.dtype_policy)
        self.bridge = Bridge([size for layer in self.layers for size in layer.state_size], dtype=self.dtype_policy)
        self.unit_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        self.to_logits = keras.layers.Dense(vocabulary_size, dtype="float32")
        freeze_inner_layers(self)

    def _layer(self, cell: Cell) -> RNN:
        return RNN(copy_of(cell, self.dtype_policy), return_sequences=True, return_state=True, dtype=self.dtype_policy)

    def build(self, tokens_shape: tuple, encoded_shape: Encoded) -> None:
        """Create the weights for an encoder's output of the shapes `encoded_shape`, see `Encoder.encoded_shape()`."""
        encoded_shape = Encoded(*encoded_shape)  # a list, if it comes from a saved file
        self.embedding.build((None, None))
        self.bridge.build(encoded_shape.states)
        width = self.embedding_dim
        width += self.units if self.input_feeding else 0
        width += sum(shape[-1] for shape in encoded_shape.states) if self.context == "every_step" else 0
        for layer in self.layers:
            layer.build((None, None, width))
            width = self.units
        if self.attention is not None:
            if not self.attention.built:  # a part loaded from a file is built already
                self.attention.build((None, self.units), tuple(encoded_shape.values))
            self.combine.build((None, None, self.units + encoded_shape.values[-1]))
        self.to_logits.build((None, None, self.units))

    def initial_state(self, encoded: Encoded) -> DecoderState:
        """Return the state before the first token, `(batch, ...)` each."""
        states = iter(self.bridge(encoded.states))
        cells = tuple(tuple(next(states) for _ in layer.state_size) for layer in self.layers)
        feed = ops.zeros_like(cells[-1][0]) if self.input_feeding else ()
        batch = ops.shape(encoded.values)[0]
        return DecoderState(cells, feed, () if self.attention is None else self.attention.initial_state(batch))

    def memory(self, encoded: Encoded) -> DecoderMemory:
        """Return the part of the source that all steps read."""
        attended = () if self.attention is None else self.attention.memory(encoded.values, encoded.mask)
        every_step = self.context == "every_step"
        return DecoderMemory(attended, ops.concatenate(encoded.states, axis=-1) if every_step else ())

    def call(self, tokens: Tensor, encoded: Encoded, training: bool | None = None) -> Tensor:
        """Return the logits of every step, given the true previous tokens (teacher forcing)."""
        encoded = Encoded(*encoded)
        state, memory = self.initial_state(encoded), self.memory(encoded)
        embedded = self.embedding(tokens)
        if self.input_feeding or tree.flatten(state.attention):
            hidden = self._run_step_by_step(embedded, state, memory, training)
        else:
            hidden = self._run_layer_by_layer(embedded, state, memory, training)
        return self.to_logits(self.unit_dropout(hidden, training=training))

    def _run_layer_by_layer(
        self, values: Tensor, state: DecoderState, memory: DecoderMemory, training: bool | None
    ) -> Tensor:
        for index, (layer, initial) in enumerate(zip(self.layers, state.cells, strict=True)):
            inputs = self.unit_dropout(values, training=training)
            if index == 0 and self.context == "every_step":
                context = ops.broadcast_to(memory.context[:, None], (*ops.shape(values)[:2], memory.context.shape[-1]))
                inputs = ops.concatenate([inputs, context], axis=-1)
            outputs, *_ = layer(inputs, initial_state=list(initial), training=training)
            values = outputs + values if self.residual and index > 0 else outputs
        if self.attention is None:
            return values
        read, _, _ = self.attention(values, memory.attended, state.attention, training=training)
        return self.combine(ops.concatenate([values, read], axis=-1))

    def _run_step_by_step(
        self, embedded: Tensor, state: DecoderState, memory: DecoderMemory, training: bool | None
    ) -> Tensor:
        # Random numbers are drawn before the loop: a loop's body must be pure.
        batch = ops.shape(embedded)[0]
        masks = [
            self.unit_dropout(ops.ones((batch, 1, width), dtype=embedded.dtype), training=training)[:, 0]
            for width in (self.embedding_dim, *([self.units] * (self.num_layers - 1)))
        ]

        def step(state: DecoderState, inputs: Tensor) -> tuple[DecoderState, Tensor]:
            hidden, state, _ = self._step(inputs, state, memory, masks)
            return state, hidden

        _, hidden = backend.scan(step, state, ops.transpose(embedded, (1, 0, 2)))
        return ops.transpose(hidden, (1, 0, 2))

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
        hidden, state, weights = self._step(self.embedding(tokens), state, memory)
        return StepOutput(self.to_logits(hidden), state, weights, hidden)

    def _step(
        self, embedded: Tensor, state: DecoderState, memory: DecoderMemory, masks: list[Tensor] | None = None
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Run one step from `embedded` `(rows, embedding_dim)` to the logits' inputs, `(rows, units)`."""
        values, cells = embedded, []
        for index, (layer, before) in enumerate(zip(self.layers, state.cells, strict=True)):
            inputs = values if masks is None else values * masks[index]
            if index == 0:
                inputs = self._join(inputs, state.feed, memory.context)
            outputs, after = layer.cell(inputs, list(before), training=False)  # no dropout: a loop's body must be pure
            cells.append(tuple(after))
            values = outputs + values if self.residual and index > 0 else outputs
        if self.attention is None:
            return values, DecoderState(tuple(cells), (), ()), None
        read, weights, attention_state = self._attend(values, memory.attended, state.attention)
        hidden = self.combine(ops.concatenate([values, read], axis=-1))
        return hidden, DecoderState(tuple(cells), hidden if self.input_feeding else (), attention_state), weights

    def _join(self, inputs: Tensor, feed: Any, context: Any) -> Tensor:
        parts = [inputs]
        if self.input_feeding:
            parts.append(feed)
        if self.context == "every_step":
            parts.append(_rows_from_batch(context, inputs))
        return ops.concatenate(parts, axis=-1) if len(parts) > 1 else inputs

    def _attend(self, values: Tensor, attended: Memory, state: Any) -> tuple[Tensor, Tensor, Any]:
        """Attend with a source's hypotheses as its queries, so that the memory is not repeated."""
        batch, rows = ops.shape(attended.values)[0], ops.shape(values)[0]
        queries = ops.reshape(values, (batch, _hypotheses(rows, batch), self.units))
        read, weights, state = self.attention(queries, attended, state, training=False)
        return ops.reshape(read, (rows, read.shape[-1])), ops.reshape(weights, (rows, ops.shape(weights)[-1])), state

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
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Decoder":
        """Create a decoder from the result of `get_config`."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("cell", "attention")}
        return cls(**{**config, **parts})


def _hypotheses(rows: Any, batch: Any) -> Any:
    """Return the number of hypotheses per source."""
    if isinstance(rows, int) and isinstance(batch, int):
        return rows // max(batch, 1)
    return rows // ops.maximum(batch, 1)


def _rows_from_batch(values: Tensor, rows: Tensor) -> Tensor:
    """Return `values` `(batch, dim)` repeated for every hypothesis, with as many rows as `rows`."""
    batch, count = ops.shape(values)[0], ops.shape(rows)[0]
    repeated = ops.broadcast_to(values[:, None], (batch, _hypotheses(count, batch), values.shape[-1]))
    return ops.reshape(repeated, (count, values.shape[-1]))


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


def _check_dropout_in_loop(cell: Cell, attention: Attention | None) -> None:
    """Raise ValueError for dropout that would draw random numbers inside the loop of input feeding."""
    rates = {
        "the cell's dropout": getattr(cell, "dropout", 0.0),
        "the cell's recurrent_dropout": getattr(cell, "recurrent_dropout", 0.0),
        "the attention's dropout": 0.0 if attention is None else attention.dropout,
    }
    for name, rate in rates.items():
        if rate:
            raise ValueError(f"input_feeding=True excludes {name}, which is {rate}. Use the decoder's own dropout=.")
