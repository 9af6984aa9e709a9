"""Gated recurrent unit with layer normalisation."""

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.cells.gru import GRUCell, GRUState
from kseq.cells.layer_norm import normalise, standardise, standardise_gradient


@keras.saving.register_keras_serializable(package="kseq")
class LayerNormGRUCell(GRUCell):
    """Gated recurrent unit with layer normalisation of its two products.

        [xz, xr, xn] = LN(x W) * a + b;   [hz, hr, hn] = LN(h U) * a' + b'
        z = sigmoid(xz + hz);   r = sigmoid(xr + hr)
        h' = z * h + (1 - z) * tanh(xn + r * hn)

        LN(v) = (v - mean(v)) / sqrt(variance(v) + epsilon)

    Mean and variance are taken over the `2 units` of the gates z and r together, and over the `units` of n separately,
    in float32 at least. The paper swaps z and 1 - z.

    The weights, in the order z, r, n, are: kernel W `(features, 3 units)`, recurrent_kernel U `(units, 3 units)`, bias
    `(2, 3 units)`, that is b and b'; then kernel_gain a and recurrent_gain a', `(3 units,)`.

    Args:
        units: Units of the output.
        epsilon: Added to the variances.
        gain_initializer: Initializer of the gains. The paper initialises those of recurrent networks with one.
        **kwargs: Arguments of `keras.layers.GRUCell`, except `reset_after=False`.

    Call arguments:
        inputs: Float `(batch, features)`.
        states: The hidden state h, `(batch, units)`.
        training: Whether dropout is on.

    Raises:
        ValueError: If `reset_after=False`: this reset gate multiplies the normalised product, not h.

    Example:
        >>> cell = kseq.cells.LayerNormGRUCell(16)
        >>> output, states = cell(np.zeros((2, 8)), cell.get_initial_state(2))
        >>> output.shape
        (2, 16)

    Reference: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", 2016.
    """

    def __init__(self, units: int, *, epsilon: float = 1e-3, gain_initializer: Any = "ones", **kwargs: Any):
        super().__init__(units, **kwargs)
        if not self.reset_after:
            raise ValueError(
                "LayerNormGRUCell got reset_after=False, but its reset gate multiplies the normalised product. Leave "
                "reset_after out."
            )
        self.epsilon = epsilon
        self.gain_initializer = keras.initializers.get(gain_initializer)

    def build(self, input_shape: tuple) -> None:
        """Create the weights."""
        super().build(input_shape)
        shape, gain = (3 * self.units,), self.gain_initializer
        self.kernel_gain = self.add_weight(shape=shape, name="kernel_gain", initializer=gain)
        self.recurrent_gain = self.add_weight(shape=shape, name="recurrent_gain", initializer=gain)

    def finish(self, mapped: Tensor) -> Tensor:
        """Return the normalised product of the inputs, `(..., 3 units)`, with gain and bias."""
        return super().finish(self._normalise(mapped) * self.kernel_gain)

    @property
    def recurrent_weights(self) -> Tensor:
        """The kernel U. The bias b' is added after the normalisation, so it is one of `gate_weights`."""
        return self.recurrent_kernel

    @property
    def gate_weights(self) -> tuple:
        """The gain a', and the bias b' if there is one."""
        return (self.recurrent_gain, self.bias[1]) if self.use_bias else (self.recurrent_gain,)

    def gates(
        self, projected: Tensor, recurrent: Tensor, state: tuple, recurrent_gain: Tensor, *offset: Tensor
    ) -> GRUState:
        """Return the new state; `projected` and `recurrent` are `(batch, 3 units)`."""
        recurrent = self._normalise(recurrent) * recurrent_gain
        return GRUCell.gates(self, projected, recurrent + offset[0] if offset else recurrent, state)

    @property
    def gates_gradient(self):
        """The hand-written gradient for the default activations; None for others."""
        inner = super().gates_gradient
        return None if inner is None else functools.partial(self._gates_gradient, inner)

    def _gates_gradient(
        self,
        inner: Callable[..., tuple],
        projected: Tensor,
        recurrent: Tensor,
        state: tuple,
        new_state: tuple,
        d_new: tuple,
        recurrent_gain: Tensor,
        *offset: Tensor,
    ) -> tuple:
        parts = [standardise(part, self.epsilon) for part in self._parts(recurrent)]
        normalised = ops.concatenate([part for part, _ in parts], axis=-1)
        mapped = normalised * recurrent_gain
        d_projected, d_mapped, d_state, _ = inner(
            projected, mapped + offset[0] if offset else mapped, state, new_state, d_new
        )
        d_parts = self._parts(d_mapped * recurrent_gain)
        d_recurrent = [standardise_gradient(*part, d) for part, d in zip(parts, d_parts, strict=True)]
        return (
            d_projected,
            ops.concatenate(d_recurrent, axis=-1),
            d_state,
            (d_mapped * normalised, *(d_mapped for _ in offset)),
        )

    def _normalise(self, values: Tensor) -> Tensor:
        return ops.concatenate([normalise(part, self.epsilon) for part in self._parts(values)], axis=-1)

    def _parts(self, values: Tensor) -> list[Tensor]:
        """Split `(..., 3 units)` into the parts that are normalised separately: the gates and the candidate."""
        return ops.split(values, [2 * self.units], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        gain = keras.initializers.serialize(self.gain_initializer)
        return {**super().get_config(), "epsilon": self.epsilon, "gain_initializer": gain}
