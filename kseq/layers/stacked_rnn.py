"""A stack of recurrent layers, as one recurrent layer."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.layers.carried_state import CarriedState
from kseq.layers.sequences import hold_outputs
from kseq.masking import check_mask, implicit_mask, refuse_ragged, zero_padding
from kseq.numbers import plain_seed, share
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class StackedRNN(keras.layers.Layer, metaclass=ShortHelp):
    """Runs recurrent layers one after the other, each over the outputs of the one below, in one direction of time.

        x_1 = inputs;   x_{l+1} = norm_l(layer_l(drop(x_l))) + x_l

    where `drop` applies from the second layer on, `norm` with `layer_norm`, and `+ x_l` with `residual`, from the
    second layer on, if both have the same size. The stack is itself a recurrent layer: `kseq.layers.Bidirectional`
    takes one stack, or one for each direction (their depths may differ), and merges the outputs of their top layers.

    Each layer runs over the whole sequence before the next. Decoders need a stack that takes one step through all
    levels before the next step: see `kseq.cells.StackedCells`.

    Padding never changes a result. A row without real steps returns its initial states, and zeros as its output.

    Args:
        layers: Recurrent layers, lowest first: kseq's, such as `kseq.layers.LSTM(64)`, or Keras's. The stack sets their
            `return_sequences`, `return_state` and `stateful`; do not use them outside it.
        dropout: Share of the inputs of each layer but the first that is dropped in training. Each row drops the same
            ones at all steps.
        residual: Whether layers from the second on add their input to their output, where the sizes agree.
        layer_norm: Whether to normalise each layer's output (`keras.layers.LayerNormalization`).
        return_sequences: Whether to return the outputs of all steps, or only the last output.
        return_state: Whether to return the final states of all layers, lowest first, besides the output.
        go_backwards: Whether the whole stack runs from the last step to the first. Outputs are in the order in which
            steps ran.
        stateful: Whether a batch starts from the final states of the previous batch.
        zero_output_for_mask: Whether outputs at padding are zero instead of that of the last real step. As in
            `kseq.layers.RNN`, this includes the last output of a row that ends in padding.
        seed: An int or `keras.random.SeedGenerator` for dropout.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        sequences: Float `(batch, time, features)`.
        initial_state: List of tensors `(batch, units)`, one for each state of each layer, lowest layer first. By
            default the layers' own initial states.
        mask: Bool `(batch, time)`, True at the real steps.
        training: Whether dropout is on.

    Returns:
        The outputs `(batch, time, units)` with `return_sequences`, else that of the last real step `(batch, units)`.
        With `return_state`, a tuple of the outputs and the final states.

    Raises:
        ValueError: If there are no layers; if a layer is not recurrent, is listed twice, or has `go_backwards`,
            `zero_output_for_mask` or `stateful` of its own; if the mask's shape is not `(batch, time)`; or if
            `initial_state` does not have one tensor for each state.

    Example:
        >>> stack = kseq.layers.StackedRNN([kseq.layers.LSTM(32), kseq.layers.LSTM(32)], residual=True, dropout=0.2)
        >>> kseq.layers.Bidirectional(stack)(np.zeros((2, 10, 8))).shape
        (2, 64)

    References:
        A. Graves, A. Mohamed, G. Hinton, "Speech recognition with deep recurrent neural networks", 2013.
        R. Pascanu, C. Gulcehre, K. Cho, Y. Bengio, "How to construct deep recurrent neural networks", 2014.
    """

    _carried: CarriedState | None = None  # the last output of a stateful stack, set when it is built

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
        self.dropout = share(self, "dropout", dropout)
        self.residual, self.layer_norm = residual, layer_norm
        self.return_sequences, self.return_state = return_sequences, return_state
        self.go_backwards, self.stateful = go_backwards, stateful
        self.zero_output_for_mask = zero_output_for_mask
        self.seed = plain_seed(seed)
        self.supports_masking = True
        for layer in self.layers:
            layer.return_sequences = return_sequences or layer is not self.layers[-1]
            layer.return_state = True
            layer.stateful = stateful
            layer.supports_masking = True  # from Keras 3.16 on, its layers warn without it when they get a mask
        self.drop = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), seed=self.seed, dtype=self.dtype_policy)
        self.norms = [keras.layers.LayerNormalization(dtype=self.dtype_policy) for _ in layers if layer_norm]
        freeze_inner_layers(self)

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
        """All variables, including the carried output of a stateful stack, which is not among the weights."""
        return super().variables + ([] if self._carried is None else self._carried.variables)

    def call(
        self,
        sequences: Tensor,
        initial_state: list | None = None,
        mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor | tuple:
        """Run all layers over all steps; see the class for arguments and results."""
        refuse_ragged(sequences, type(self).__name__)
        # Keras does not pass the implicit mask if there are initial states.
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
                # Padded steps have the values of the last real step, and so has the last step.
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
        """Return the outputs, given those of the top layer `(batch, time, units)` or `(batch, units)`."""
        return values

    def _split(self, states: list | tuple | None) -> list:
        """Return the states of each layer, or None for each layer if there are none."""
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
        """Return the layers' initial states, `(batch_size, units)` each, lowest layer first."""
        return [state for layer in self.layers for state in layer.get_initial_state(batch_size)]

    @property
    def states(self) -> list | None:
        """The variables of a stateful stack, lowest layer first; None otherwise."""
        states = [layer.states for layer in self.layers]
        return None if None in states else [variable for own in states for variable in own]

    def reset_state(self, states: list | None = None) -> None:
        """Reset a stateful stack to its initial states, or to `states`, in the form of `initial_state`."""
        for layer, own in zip(self.layers, self._split(states), strict=True):
            layer.reset_state() if own is None else layer.reset_state(own)
        if self._carried is not None:
            self._carried.reset([], at_start=states is None)

    reset_states = reset_state  # the former name in Keras

    def compute_output_shape(self, sequences_shape: tuple, initial_state_shape: Any = None) -> tuple:
        """Return the shape of the output, and with `return_state` those of the states."""
        shape, states = sequences_shape, []
        for layer in self.layers:
            shape, *own = layer.compute_output_shape(shape)
            states += own
        return (shape, *states) if self.return_state else shape

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | list | None:
        """Return the mask of the output sequences; states and last outputs have none."""
        output_mask = mask if self.return_sequences else None
        if output_mask is not None and self.go_backwards:
            output_mask = ops.flip(output_mask, axis=1)  # outputs are in the order in which steps ran
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
    """Raise unless these are recurrent layers that leave the options of the whole stack to it."""
    if not isinstance(layers, list | tuple) or not layers:
        raise ValueError(
            f"layers={layers!r}, but a StackedRNN needs a list of at least one recurrent layer, lowest first: "
            "StackedRNN([kseq.layers.LSTM(64), kseq.layers.LSTM(64)])."
        )
    for index, layer in enumerate(layers):
        if not isinstance(layer, keras.layers.RNN):
            came = f"the class {layer.__name__}" if isinstance(layer, type) else f"a {type(layer).__name__}"
            raise ValueError(
                f"Layer {index} of a StackedRNN is {came}, but it takes recurrent layers in one "
                "direction. Cells are stacked by kseq.layers.RNN([cell, ...]); for both directions, put the stack into "
                "kseq.layers.Bidirectional."
            )
        if any(layer is other for other in layers[:index]):
            raise ValueError(f"Layer {index} of a StackedRNN, {layer.name}, is listed twice. Make one for each.")
        wanted = {"go_backwards": False, "zero_output_for_mask": False, "stateful": stateful}
        for option, value in wanted.items():
            if getattr(layer, option) and not value:
                raise ValueError(
                    f"Layer {index} of a StackedRNN, {layer.name}, has {option}=True, an option of the whole stack: "
                    f"StackedRNN(layers, {option}=True)."
                )
