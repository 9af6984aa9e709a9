"""The base class of attention mechanisms that change another mechanism."""

from typing import Any, Self

import keras
from keras import ops

from kseq.attention.attention import Attention, Memory
from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers, hand_down_precision


class WrapperAttention(Attention):
    """A mechanism that changes what another mechanism sees, or its weights.

    A subclass overrides `weigh`, and `initial_state` if it has a state of its own besides the inner mechanism's. The
    precision is that of the inner mechanism; a `dtype` argument applies to both.

    Args:
        mechanism: The inner mechanism.
        **kwargs: Arguments of `Attention` and of `keras.layers.Layer`.

    Raises:
        ValueError: As in `Attention`, if `mechanism` is no mechanism or computes contexts in a way of its own, or if it
            has dropout, which belongs to the outermost mechanism.
    """

    def __init__(self, mechanism: Attention, **kwargs: Any):
        _check_mechanism(type(self).__name__, mechanism)
        super().__init__(**{**kwargs, "dtype": kwargs.get("dtype") or mechanism.dtype_policy})
        hand_down_precision(mechanism, self)
        self.mechanism = mechanism
        freeze_inner_layers(self)

    @property
    def normalised(self) -> bool:
        """Whether weights sum to 1, as those of the inner mechanism do."""
        return self.mechanism.normalised

    def build(self, query_shape: tuple, memory_shape: tuple) -> None:
        """Create the weights of both mechanisms, except those that `memory` has already built."""
        super().build(query_shape, memory_shape)
        if not self.mechanism.built:
            self.mechanism.build(query_shape, memory_shape)

    def project_keys(self, values: Tensor) -> Tensor:
        """Return the inner mechanism's keys."""
        return self.mechanism.project_keys(values)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the inner mechanism's scores, `(batch, queries, time)`."""
        return self.mechanism.score(query, keys)

    def initial_state(self, batch: int | Tensor, time: int | Tensor | None = None) -> Any:
        """Return the inner mechanism's state."""
        return self.mechanism.initial_state(batch, time)

    def draw_noise(self, shape: tuple) -> Any:
        """Return the inner mechanism's noise."""
        return self.mechanism.draw_noise(shape)

    def weigh_apart(
        self, query: Tensor, memory: Memory, state: Any, *, training: bool | None, noise: Any
    ) -> tuple[Tensor, Any]:
        """Return the inner mechanism's weights and new states for queries that have keys or masks of their own.

        Args:
            query: `(batch, queries, query_dim)`.
            memory: Keys `(batch, queries or 1, time, key_dim)`, values `(batch, time, value_dim)`, and a mask `(batch,
                queries or 1, time)` or None.
            state: The inner mechanism's state, `(batch, queries, ...)`.
            training: As in `weigh`.
            noise: As in `weigh`.
        """
        batch, queries = ops.shape(query)[:2]

        def as_row(tensor: Tensor) -> Tensor:
            shape = ops.shape(tensor)[2:]
            # In the loop over single queries, XLA could not compile the gradient of a broadcast to computed sizes.
            if not (isinstance(queries, int) and tensor.shape[1] == queries):
                tensor = ops.broadcast_to(tensor, (batch, queries, *shape))
            return ops.reshape(tensor, (batch * queries, *shape))

        keys, values, mask = memory.keys, memory.values[:, None], memory.mask
        rows = Memory(as_row(keys), as_row(values), None if mask is None else as_row(mask))
        query, state, noise = keras.tree.map_structure(lambda x: as_row(x)[:, None], (query, state, noise))
        results = self.mechanism.weigh(query, rows, state, training=training, noise=noise)
        return keras.tree.map_structure(lambda x: ops.reshape(x, (batch, queries, *ops.shape(x)[2:])), results)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "mechanism": keras.saving.serialize_keras_object(self.mechanism)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a mechanism from `get_config`."""
        return cls(**{**config, "mechanism": keras.saving.deserialize_keras_object(config["mechanism"])})


def _check_mechanism(owner: str, mechanism: Any) -> None:
    if not isinstance(mechanism, Attention):
        raise ValueError(
            f"{owner} takes a mechanism of kseq.attention, such as AdditiveAttention(16), not {mechanism!r}."
        )
    kind = type(mechanism)
    if kind.call is not Attention.call or kind.read is not Attention.read:
        raise ValueError(
            f"{owner} changes the weights of a mean of the values, but {kind.__name__} computes its context in a way "
            "of its own. Use a mechanism with one set of weights, such as AdditiveAttention."
        )
    if mechanism.dropout:
        raise ValueError(
            f"{owner} drops weights itself, but its mechanism has dropout={mechanism.dropout}. Give the dropout to "
            f"{owner} instead."
        )
