"""A recurrent layer in both directions of time."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.cells.copies import classes_known, nothing_shared
from kseq.inner_layers import freeze_inner_layers
from kseq.layers.sequences import cast_floats
from kseq.masking import implicit_mask
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class Bidirectional(keras.layers.Bidirectional, metaclass=ShortHelp):
    """`keras.layers.Bidirectional` with its arguments: runs a layer forwards and its copy backwards in time.

    Args:
        layer: The forward layer, for example `kseq.layers.LSTM(...)`. With `return_sequences` the outputs at padding
            are zero. With `return_state` the states of the forward layer are returned, then those of the backward
            layer.
        merge_mode: `"concat"`, `"sum"`, `"ave"`, `"mul"`, or None for a tuple of both outputs.
        weights: Initial weights, set when the layer is built: a list of arrays, the forward layer's first, in the order
            of `get_weights`. Keras accepts the argument and ignores it.
        backward_layer: The backward layer, with `go_backwards=True`; by default a copy of `layer`. Under `"concat"` and
            None its units may differ.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        sequences: Float `(batch, time, features)`.
        initial_state: The forward layer's states, then the backward layer's.
        mask: Bool `(batch, time)`, True at the real steps. The backward layer starts at each row's last real step.
        training: Whether dropout is on.

    Raises:
        ValueError: If a layer is not a recurrent layer in one direction, if the number or the shapes of
            `weights` are not those of the two layers, if the number of initial states is not that of the two layers
            together, or outputs that are added or multiplied have different sizes.

    Example:
        >>> kseq.layers.Bidirectional(kseq.layers.GRU(16, return_sequences=True))(np.zeros((2, 10, 8))).shape
        (2, 10, 32)

    Reference: M. Schuster, K. Paliwal, "Bidirectional recurrent neural networks", 1997.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: keras.layers.Layer | None = None,
        **kwargs: Any,
    ):
        _check_layer("layer", layer)
        if backward_layer is not None:
            _check_layer("backward_layer", backward_layer)
        with nothing_shared(), classes_known(layer):  # Keras's constructor copies the layer through its configuration
            super().__init__(layer, merge_mode=merge_mode, backward_layer=backward_layer, **kwargs)
        freeze_inner_layers(self)
        self._initial_weights = None if weights is None else [np.asarray(weight) for weight in weights]
        # From Keras 3.16 on, its constructors set it to False, and its layers warn without it when they get a mask.
        for each in (self, self.forward_layer, self.backward_layer):
            each.supports_masking = True

    def build(self, sequences_shape: tuple, initial_state_shape: Any = None) -> None:
        """Create the weights of both layers, and set those that were given to the constructor."""
        super().build(sequences_shape, initial_state_shape)
        given, self._initial_weights = self._initial_weights, None
        if given is None:
            return
        weights = [weight for layer in (self.forward_layer, self.backward_layer) for weight in layer.weights]
        if [weight.shape for weight in weights] != [array.shape for array in given]:
            raise ValueError(
                f"The weights given to {self.name} have shapes {[array.shape for array in given]}, but its layers have "
                f"weights of shapes {[weight.shape for weight in weights]}, the forward layer's first."
            )
        for weight, array in zip(weights, given, strict=True):
            weight.assign(array)

    def call(
        self,
        sequences: Tensor,
        initial_state: list | None = None,
        mask: Tensor | None = None,
        training: bool | None = None,
    ) -> Tensor | tuple:
        """Run both directions; see the class for arguments and results."""
        if mask is None:  # Keras does not pass the implicit mask if there are initial states
            mask = implicit_mask(sequences)
        forward_state, backward_state = self._halves(initial_state)
        forward = self.forward_layer(sequences, initial_state=forward_state, mask=mask, training=training)
        backward = self.backward_layer(sequences, initial_state=backward_state, mask=mask, training=training)
        states = ()
        if self.return_state:
            (forward, *forward_states), (backward, *backward_states) = forward, backward
            states = (*forward_states, *backward_states)
        forward, backward = cast_floats((forward, backward), self.compute_dtype)
        if self.return_sequences:
            backward = ops.flip(backward, axis=1)
        if self.merge_mode is None:
            return (forward, backward, *states)
        output = self._merge(forward, backward)
        return (output, *states) if self.return_state else output

    def _halves(self, initial_state: list | tuple | None) -> tuple[list | tuple | None, list | tuple | None]:
        """Return the initial states of the forward layer and those of the backward layer."""
        if initial_state is None:
            return None, None
        counts = [len(layer.state_size) for layer in (self.forward_layer, self.backward_layer)]
        if not isinstance(initial_state, list | tuple) or len(initial_state) != sum(counts):
            came = f"{len(initial_state)} tensors" if isinstance(initial_state, list | tuple) else "a single tensor"
            raise ValueError(
                f"initial_state is {came}, but the forward layer has {counts[0]} states and the backward layer "
                f"{counts[1]}. Give a list of {sum(counts)} tensors (batch, units), the forward layer's first."
            )
        return initial_state[: counts[0]], initial_state[counts[0] :]

    def _merge(self, forward: Tensor, backward: Tensor) -> Tensor:
        if self.merge_mode == "concat":
            return ops.concatenate([forward, backward], axis=-1)
        if forward.shape[-1] != backward.shape[-1]:
            raise ValueError(
                f"merge_mode={self.merge_mode!r} needs outputs of one size, but the forward layer has "
                f"{forward.shape[-1]} and the backward layer {backward.shape[-1]}. Give both layers the same units, or "
                "use merge_mode='concat'."
            )
        if self.merge_mode == "mul":
            return forward * backward
        return (forward + backward) / (2 if self.merge_mode == "ave" else 1)

    def compute_output_shape(self, sequences_shape: tuple, initial_state_shape: tuple | None = None) -> tuple:
        """Return the shapes of the output, or outputs, and of the states."""
        forward = self.forward_layer.compute_output_shape(sequences_shape)
        backward = self.backward_layer.compute_output_shape(sequences_shape)
        states = ()
        if self.return_state:
            (forward, *forward_states), (backward, *backward_states) = forward, backward
            states = (*forward_states, *backward_states)
        if self.merge_mode is None:
            return (forward, backward, *states)
        units = forward[-1] + backward[-1] if self.merge_mode == "concat" else forward[-1]
        output = (*forward[:-1], units)
        return (output, *states) if self.return_state else output

    def compute_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | tuple | None:
        """Return the mask of the output sequences; states and last outputs have none."""
        output_mask = mask if self.return_sequences else None
        outputs = (output_mask, output_mask) if self.merge_mode is None else (output_mask,)
        if self.return_state:
            count = len(self.forward_layer.state_size) + len(self.backward_layer.state_size)
            return (*outputs, *(None for _ in range(count)))
        return outputs if self.merge_mode is None else output_mask


def _check_layer(name: str, layer: Any) -> None:
    """Raise unless the argument is a recurrent layer in one direction."""
    if isinstance(layer, keras.layers.Layer) and hasattr(layer, "go_backwards"):
        return
    came, way_out = repr(layer), "kseq.layers.LSTM(16)"
    if isinstance(layer, type):
        came, way_out = f"the class {layer.__name__}", f"{layer.__name__}(...)"
    elif hasattr(layer, "state_size"):
        came, way_out = f"the cell {type(layer).__name__}", f"kseq.layers.RNN({type(layer).__name__}(...))"
    elif isinstance(layer, keras.layers.Bidirectional):
        way_out = "the layer in it, or kseq.layers.StackedRNN([...]) for several layers in each direction"
    raise ValueError(f"{name} must be a recurrent layer in one direction, but is {came}. Give {way_out}.")
