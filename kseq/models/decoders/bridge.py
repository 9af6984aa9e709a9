"""A bridge: the map from an encoder's output to a decoder's initial states."""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import SequencePooling
from kseq.short_help import ShortHelp

KINDS = ("dense", "copy", "zero", "last", "mean")


@keras.saving.register_keras_serializable(package="kseq")
class Bridge(keras.layers.Layer, metaclass=ShortHelp):
    """Maps an encoder's output to a decoder's initial states.

    With s_1, s_2, ... the encoder's final states and h_t its values at the T real steps of a row, the initial states
    are, by `kind`:

    - `"dense"`: `tanh(W [s_1; s_2; ...] + b)`, divided among the states of the decoder;
    - `"copy"`: s_1, s_2, ... in their order, without weights;
    - `"zero"`: zeros, so that the decoder knows the source from its attention alone;
    - `"last"`: `tanh(W h_T + b)`;
    - `"mean"`: `tanh(W mean(h_t) + b)` (R. Sennrich et al.).

    Padding never changes an answer; a row of length 0 has the values 0.

    Args:
        sizes: Units of each state tensor of the decoder.
        kind: One of the names above.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        states: Tuple of tensors `(batch, units)`, those of both directions if the encoder is bidirectional.
        values: Float `(batch, time, dim)`, for "last" and "mean".
        mask: Bool `(batch, time)`, True at the real steps, for "last" and "mean".

    Returns:
        Tuple of tensors `(batch, size)`, one for each of `sizes`.

    Raises:
        ValueError: If the kind is unknown, the encoder's states have other sizes than the decoder's with "copy", or
            the values are missing with "last" and "mean".

    Reference: R. Sennrich et al., "Nematus: a toolkit for neural machine translation", 2017.
    """

    def __init__(self, sizes: list[int], kind: str = "dense", **kwargs: Any):
        super().__init__(**kwargs)
        if kind not in KINDS:
            raise ValueError(f"The bridge is {kind!r}, but it must be one of {list(KINDS)}.")
        self.sizes, self.kind = list(sizes), kind
        if kind in ("dense", "last", "mean"):
            self.dense = keras.layers.Dense(sum(sizes), activation="tanh", dtype=self.dtype_policy)
        if kind in ("last", "mean"):
            self.pooling = SequencePooling(kind, dtype=self.dtype_policy)
        freeze_inner_layers(self)

    def build(self, states_shape: Any, values_shape: tuple | None = None, mask_shape: Any = None) -> None:
        """Create the weights for states and values of the given shapes."""
        sizes = [shape[-1] for shape in states_shape]
        if self.kind == "copy" and sizes != self.sizes:
            raise ValueError(
                f"bridge='copy' needs states of equal sizes, but the encoder's have {sizes} units and the decoder's "
                f"{self.sizes}. Give cells that fit, or bridge='dense', which maps the ones to the others."
            )
        if self.kind in ("last", "mean"):
            if values_shape is None:
                raise ValueError(f"bridge={self.kind!r} reads the encoder's values, but none are given.")
            self.dense.build((None, values_shape[-1]))
        elif self.kind == "dense":
            self.dense.build((None, sum(sizes)))

    def call(self, states: tuple, values: Tensor | None = None, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Map the states or the values."""
        if self.kind == "copy":
            return tuple(states)
        if self.kind == "zero":
            batch = ops.shape(states[0])[0]
            return tuple(ops.zeros((batch, size), dtype=self.compute_dtype) for size in self.sizes)
        read = ops.concatenate(states, axis=-1) if self.kind == "dense" else self.pooling(values, mask=mask)
        mapped = self.dense(read)
        ends = [sum(self.sizes[: index + 1]) for index in range(len(self.sizes))]
        return tuple(mapped[:, end - size : end] for size, end in zip(self.sizes, ends, strict=True))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "sizes": self.sizes, "kind": self.kind}


def make_bridge(bridge: str | Bridge, sizes: list[int], dtype: Any) -> Bridge:
    """Return the bridge of a decoder whose states have `sizes`: a new one of a kind, or the given one.

    Raises:
        ValueError: If the kind is unknown, or the given one is no `Bridge` to states of these sizes.
    """
    if isinstance(bridge, str):
        return Bridge(sizes, bridge, dtype=dtype)
    if not isinstance(bridge, Bridge):
        raise ValueError(f"bridge={bridge!r}, but it must be one of {list(KINDS)}, or a kseq.models.Bridge.")
    if bridge.sizes != sizes:
        raise ValueError(f"The bridge has sizes={bridge.sizes}, but the states of the decoder have {sizes} units.")
    return bridge


def check_source_is_read(bridge: str | Bridge, context: str) -> None:
    """Raise ValueError if a decoder with this bridge and `context` would know nothing of the source."""
    if context == "initial" and getattr(bridge, "kind", bridge) == "zero":
        raise ValueError(
            "bridge='zero' with context='initial' gives the decoder nothing of the source. Use another bridge, or "
            "context='attention' or 'every_step'."
        )
