"""The recurrent encoder of tokens."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree

from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.cells.copies import config_of, copy_of
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import RNN, Bidirectional
from kseq.layers.step_runner import compiles_steps, run_steps
from kseq.masking import mask_from_lengths, zero_padding
from kseq.models.encoders.embedding_encoder import EmbeddingEncoder
from kseq.models.encoders.token_encoder import Encoded
from kseq.numbers import whole


@keras.saving.register_keras_serializable(package="kseq")
class Encoder(EmbeddingEncoder):
    """Embeds token ids and reads them with one or more recurrent layers.

    Args:
        vocabulary_size: Number of token ids.
        embedding_dim: Size of a token's embedding.
        cell: The recurrent cell; every layer and direction gets a copy with its own weights, in this layer's precision.
        num_layers: Number of recurrent layers, at least 1.
        bidirectional: Whether each layer reads in both directions and concatenates the outputs.
        dropout: Share of each layer's inputs dropped in training; a row's steps share one dropout mask (Y. Gal, Z.
            Ghahramani, "A theoretically grounded application of dropout in recurrent neural networks", 2016).
        residual: Whether each layer from the second on adds its input to its output.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: int `(batch, time)`.
        lengths: int `(batch,)`, the number of real tokens in each row. Padding never changes an answer.
        training: Whether dropout is on.

    Returns:
        `Encoded(values (batch, time, dim), mask, states)`. For a row of length 0, the values are zero and the states
        are the initial ones.

    Example:
        >>> encoder = kseq.models.Encoder(100, 32, kseq.cells.GRUCell(64), num_layers=2, residual=True)
        >>> encoder(np.ones((2, 7), "int32"), np.array([7, 3])).values.shape
        (2, 7, 128)
    """

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        cell: Cell,
        *,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.0,
        residual: bool = False,
        **kwargs: Any,
    ):
        super().__init__(vocabulary_size, embedding_dim, **kwargs)
        num_layers = whole("num_layers", num_layers)
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers}, but an encoder needs at least 1 recurrent layer.")
        self.cell_config = config_of(cell)
        self.num_layers, self.bidirectional = num_layers, bidirectional
        self.dropout, self.residual = float(dropout), residual
        self.input_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        self.layers = [self._layer(cell) for _ in range(num_layers)]
        freeze_inner_layers(self)

    def _layer(self, cell: Cell) -> keras.layers.Layer:
        cell = copy_of(cell, self.dtype_policy)
        layer = RNN(cell, return_sequences=True, return_state=True, zero_output_for_mask=True, dtype=self.dtype_policy)
        return Bidirectional(layer, dtype=self.dtype_policy) if self.bidirectional else layer

    @property
    def causal(self) -> bool:
        """Whether the values of a step depend on the steps before it, and on itself, alone."""
        return not self.bidirectional

    @property
    def carries_state(self) -> bool:
        """Whether `read_on` continues a text from a state."""
        return self.causal

    def build_reader(self) -> None:
        """Create the weights of the recurrent layers."""
        dim = self.input_dim
        for layer in self.layers:
            layer.build((None, None, dim))
            dim = layer.compute_output_shape((None, None, dim))[0][-1]

    def read(self, values: Tensor, lengths: Tensor, training: bool | None = None) -> Encoded:
        """Run the recurrent layers over `values` `(batch, time, input_dim)`."""
        return self._run(values, lengths, [None] * self.num_layers, training)[0]

    def _run(
        self, values: Tensor, lengths: Tensor, states: Sequence, training: bool | None
    ) -> tuple[Encoded, tuple[tuple, ...]]:
        """Return the `Encoded` and the final states of each layer, from its state in `states` or the initial one."""
        mask, finals = mask_from_lengths(lengths, ops.shape(values)[1]), []
        for index, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
            inputs = self.input_dropout(values, training=training)
            initial = None if state is None else list(state)
            outputs, *final = layer(inputs, initial_state=initial, mask=mask, training=training)
            values = outputs + values if self.residual and index > 0 else outputs
            finals.append(tuple(final))
        return Encoded(values, mask, finals[-1]), tuple(finals)

    def initial_state(self, batch: int | Tensor, max_length: int | None = None) -> tuple:
        """Return each layer's initial state, a tuple of tensors `(batch, units)`; `max_length` makes no difference."""
        if not self.built:
            self.build()
        return tuple(tuple(layer.get_initial_state(batch)) for layer in self.layers)

    def read_on(
        self,
        tokens: Tensor,
        lengths: Tensor,
        state: tuple,
        restart: Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[Encoded, tuple]:
        """Encode the next tokens of texts, see `TokenEncoder.read_on`.

        With `restart` the layers run step by step, which takes more time.
        """
        values = self.embed(tokens, None, None, training)
        if restart is None:
            return self._run(values, lengths, state, training)
        mask, batch = mask_from_lengths(lengths, ops.shape(tokens)[1]), ops.shape(tokens)[0]
        dims = [self.input_dim, *[layer.cell.output_size for layer in self.layers[:-1]]]
        ones = [ops.ones((batch, 1, dim), dtype=values.dtype) for dim in dims]
        dropped = tuple(self.input_dropout(each, training=training)[:, 0] for each in ones)

        def take(state: tuple, inputs: tuple, constants: tuple) -> tuple[tuple, Tensor]:
            (values, first, real), (start, dropped) = inputs, constants
            before = tree.map_structure(lambda new, old: ops.where(first[:, None], new, old), start, state)
            hidden, after = self._take(values, before, dropped, training)
            return tree.map_structure(lambda new, old: ops.where(real[:, None], new, old), after, state), hidden

        inputs = tree.map_structure(lambda x: ops.swapaxes(x, 0, 1), (values, restart, mask))
        compiles = compiles_steps(self, [values])
        constants = (self.initial_state(batch), dropped)
        final, outputs = run_steps(self, take, state, inputs, constants, training=bool(training), compiles=compiles)
        values = zero_padding(ops.swapaxes(outputs, 0, 1), mask)
        return Encoded(values, mask, final[-1]), final

    def step(self, tokens: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        """Run the layers at one more token of each text, see `TokenEncoder.step`."""
        return self._take(self.embedding(tokens), state, [1.0] * self.num_layers, False)

    def _take(
        self, values: Tensor, states: tuple, dropped: Sequence, training: bool | None
    ) -> tuple[Tensor, tuple[tuple, ...]]:
        """Run one step, with the inputs of each layer multiplied by its mask in `dropped`."""
        finals = []
        for index, (layer, state, mask) in enumerate(zip(self.layers, states, dropped, strict=True)):
            outputs, after = layer.cell(values * mask, list(state), training=training)
            values = outputs + values if self.residual and index > 0 else outputs
            finals.append(tuple(after))
        return values, tuple(finals)

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns."""
        shape, states = (None, None, self.input_dim), []
        for layer in self.layers:
            shape, *states = layer.compute_output_shape(shape)
        return Encoded(shape, (None, None), tuple(states))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "cell": self.cell_config,
            "num_layers": self.num_layers,
            "bidirectional": self.bidirectional,
            "dropout": self.dropout,
            "residual": self.residual,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Encoder":
        """Create an encoder from the result of `get_config`."""
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})
