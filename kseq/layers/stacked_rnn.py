"""Recurrent layers on top of each other, as one recurrent layer."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.layers.carried_state import CarriedState
from kseq.layers.sequences import hold_outputs
from kseq.masking import check_mask, implicit_mask, zero_padding


@keras.saving.register_keras_serializable(package="kseq")
class StackedRNN(keras.layers.Layer):
    """Runs recurrent layers one after the other, each over the outputs of the one below, in one direction of time.

        x_1 = inputs;   x_{l+1} = norm_l(layer_l(drop(x_l))) + x_l

    with `drop` from the second layer on, `norm` with `layer_norm`, and `+ x_l` with `residual` from the second layer on
    where both have the same size. It is a recurrent layer itself: `kseq.layers.Bidirectional` takes one, or one for
    each direction, of unlike depths, and merges them above their top layers.

    Each layer runs over the whole sequence before the next. A stack of *cells*, which takes a step through all of them
    before the next step, as decoders need it, is a cell.

    Padding never changes an answer. A row without any real step returns its initial states, and zeros as its output.

    Args:
        layers: Recurrent layers, lowest first: `kseq.layers.LSTM(64)` and the like, or Keras's. What they return, and
            `stateful`, is set by the stack, whose own they are from then on.
        dropout: Share of the inputs of each layer but the first dropped in training, the same ones at all steps of a
            row.
        residual: Whether layers from the second on add their input to their output, where the sizes agree.
        layer_norm: Whether to normalise each layer's output (`keras.layers.LayerNormalization`).
        return_sequences: Whether to return the outputs of all steps, or the last one's.
        return_state: Whether to return the final states of all layers, lowest first, besides the output.
        go_backwards: Whether the whole stack runs from the last step to the first. Outputs come in the order of the
            run.
        stateful: Whether a batch starts from the states at which the one before ended.
        zero_output_for_mask: Whether the outputs at padding are zero, not those of the last real step; of a row that
            ends in padding the last output too, as of `kseq.layers.RNN`.
        seed: An int or `keras.random.SeedGenerator` for dropout.
        **kwargs: Those of `keras.layers.Layer`.

    Call arguments:
        sequences: Float `(batch, time, features)`.
        initial_state: List of tensors `(batch, units)`, one for each state of each layer, lowest layer first; zeros if
            not given.
        mask: Bool `(batch, time)`, True at the real steps.
        training: Whether dropout is on.

    Returns:
        The outputs `(batch, time, units)` with `return_sequences`, else the last real step's `(batch, units)`; with
        `return_state` a tuple of it and the final states.

    Raises:
        ValueError: If there is no layer; if one is not recurrent, is there twice, or has a direction or memory of its
            own; if the mask's shape is not `(batch, time)`, or `initial_state` has not a tensor for each state.

    Example:
        >>> stack = kseq.layers.StackedRNN([kseq.layers.LSTM(32), kseq.layers.LSTM(32)], residual=True, dropout=0.2)
        >>> kseq.layers.Bidirectional(stack)(np.zeros((2, 10, 8))).shape
        (2, 64)

    References:
        A. Graves, A. Mohamed, G. Hinton, "Speech recognition with deep recurrent neural networks", 2013.
        R. Pascanu, C. Gulcehre, K. Cho, Y. Bengio, "How to construct deep recurrent neural networks", 2014.
    """

    _carried: CarriedState | None = None  # the last output of a stateful stack, once it is built

    def __init__(
        self,
        layers: list[keras.layers.RNN],
        *,
        dropout: float = 0.0,
        residual: bool = False,
        layer_norm: bool = False,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        seed: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _check_layers(layers, stateful)
        self.layers = list(layers)
        self.dropout, self.residual, self.layer_norm = dropout, residual, layer_norm
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful = go_backwards, stateful
        self.zero_output_for_mask = zero_output_for_mask
        self.seed = seed
        self.supports_masking = True
        for layer in self.layers:
            layer.return_sequences = return_sequences or layer is not self.layers[-1]
            layer.return_state = True
            layer.stateful = stateful
        self.drop = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), seed=seed, dtype=self.dtype_policy)
        self.norms = [keras.layers.LayerNormalization(dtype=self.dtype_policy) for _ in layers if layer_norm]

    @property
    def state_size(self) -> list:
        """Units of each state of each layer, lowest first."""
        return [size for layer in self.layers for size in layer.state_size]

    def build(self, sequences_shape: tuple, initial_state_shape: Any = None) -> None:
        """Create the weights of all layers, and the variables of a stateful stack."""
        shape = sequences_shape
        for index, layer in enumerate(self.layers):
            layer.build(shape)
            shape, *_ = layer.compute_output_shape(shape)
            if self.layer_norm:
                self.norms[index].build(shape)
        if self.stateful:
            output = self.compute_output_shape(sequences_shape)
            output = output[0] if self.return_state else output
            self._carried = CarriedState([], keras.KerasTensor((output[0], output[-1]), self.compute_dtype))

    @property
    def variables(self) -> list:
        """All variables. What a stateful stack carries is among them, but not among the weights."""
        return super().variables + ([] if self._carried is None else self._carried.variables)

    def call(
        self,
        sequences: Tensor,
        initial_state: list | None = None,
        mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor | tuple:
        """Run all layers over all steps; the class says what goes in and out."""
        # Keras leaves the implicit mask behind where there are initial states.
        mask = check_mask(implicit_mask(sequences) if mask is None else mask, sequences)
        values = zero_padding(sequences, mask)
        if self.go_backwards:
            values = ops.flip(values, axis=1)
            mask = None if mask is None else ops.flip(mask, axis=1)
        final: list[Tensor] = []
        for index, (layer, state) in enumerate(zip(self.layers, self._split(initial_state), strict=True)):
            inputs = self.drop(values, training=training) if index else values
            outputs, *states = layer(inputs, initial_state=state, mask=mask, training=training)
            final += states
            if self.layer_norm:
                outputs = self.norms[index](outputs)
            if self.residual and index and outputs.shape[-1] == values.shape[-1]:
                # Padding has the values of the last real step, so the last step of all has them too.
                outputs = outputs + (values if len(outputs.shape) == len(values.shape) else values[:, -1])
            values = outputs
        values = ops.cast(self.read_out(values), self.compute_dtype)
        if mask is not None:
            goes_on = self._carried is not None and initial_state is None
            values = hold_outputs(
                values,
                mask,
                self._carried.last_output() if goes_on else None,
                zero_output_for_mask=self.zero_output_for_mask,
                return_sequences=self.return_sequences,
            )
        if self._carried is not None:
            self._carried.keep([], values[:, -1] if self.return_sequences else values)
        return (values, *final) if self.return_state else values

    def read_out(self, values: Tensor) -> Tensor:
        """Return the outputs, given those of the top layer, `(batch, time, units)` or `(batch, units)`."""
        return values

    def _split(self, states: list | tuple | None) -> list:
        """Return the states of each layer."""
        if states is None:
            return [None] * len(self.layers)
        given = list(states) if isinstance(states, list | tuple) else [states]
        if len(given) != len(self.state_size):
            raise ValueError(
                f"initial_state has {len(given)} tensors, but the {len(self.layers)} layers of this StackedRNN have "
                f"{len(self.state_size)} states. Give one tensor (batch, units) for each, lowest layer first."
            )
        parts = []
        for layer in self.layers:
            count = len(layer.state_size)
            parts.append(given[:count])
            given = given[count:]
        return parts

    def get_initial_state(self, batch_size: int | Tensor) -> list[Tensor]:
        """Return zeros, `(batch_size, units)` for each state of each layer."""
        return [state for layer in self.layers for state in layer.get_initial_state(batch_size)]

    @property
    def states(self) -> list | None:
        """The variables of a stateful stack, lowest layer first; None otherwise."""
        states = [layer.states for layer in self.layers]
        return None if None in states else [variable for own in states for variable in own]

    def reset_state(self, states: list | None = None) -> None:
        """Have a stateful stack go back to its initial states, or to `states`, given like `initial_state`."""
        for layer, own in zip(self.layers, self._split(states), strict=True):
            layer.reset_state() if own is None else layer.reset_state(own)
        if self._carried is not None:
            self._carried.reset([], at_start=states is None)

    reset_states = reset_state  # Keras's name of before

    def compute_output_shape(self, sequences_shape: tuple, initial_state_shape: Any = None) -> tuple:
        """Return the shape of the output, and with `return_state` those of the states."""
        shape, states = sequences_shape, []
        for layer in self.layers:
            shape, *own = layer.compute_output_shape(shape)
            states += own
        return (shape, *states) if self.return_state else shape

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | list | None:
        """Pass the mask on with sequences; states and last outputs have none."""
        output_mask = mask if self.return_sequences else None
        if output_mask is not None and self.go_backwards:
            output_mask = ops.flip(output_mask, axis=1)  # outputs are in the order of the run
        return [output_mask, *(None for _ in self.state_size)] if self.return_state else output_mask

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "layers": [keras.saving.serialize_keras_object(layer) for layer in self.layers],
            "dropout": self.dropout,
            "residual": self.residual,
            "layer_norm": self.layer_norm,
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "zero_output_for_mask": self.zero_output_for_mask,
            "seed": keras.saving.serialize_keras_object(self.seed),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "StackedRNN":
        """Make a stack from `get_config`."""
        parts = {key: keras.saving.deserialize_keras_object(config[key]) for key in ("layers", "seed")}
        return cls(**{**config, **parts})


def _check_layers(layers: list, stateful: bool) -> None:
    """Raise unless these are recurrent layers that leave direction and memory to the stack."""
    if not isinstance(layers, list | tuple) or not layers:
        raise ValueError(
            f"layers={layers!r}, but a StackedRNN needs a list of at least one recurrent layer, lowest first: "
            "StackedRNN([kseq.layers.LSTM(64), kseq.layers.LSTM(64)])."
        )
    for index, layer in enumerate(layers):
        if not isinstance(layer, keras.layers.RNN):
            raise ValueError(
                f"Layer {index} of a StackedRNN is a {type(layer).__name__}, but it takes recurrent layers in one "
                "direction. Cells are stacked by kseq.layers.RNN([cell, ...]); for both directions, put the stack into "
                "kseq.layers.Bidirectional."
            )
        if any(layer is other for other in layers[:index]):
            raise ValueError(f"Layer {index} of a StackedRNN, {layer.name}, is there twice. Make one for each place.")
        wanted = {"go_backwards": False, "zero_output_for_mask": False, "stateful": stateful}
        for option, value in wanted.items():
            if getattr(layer, option) and not value:
                raise ValueError(
                    f"Layer {index} of a StackedRNN, {layer.name}, has {option}=True, but that is for the whole stack: "
                    f"StackedRNN(layers, {option}=True)."
                )
