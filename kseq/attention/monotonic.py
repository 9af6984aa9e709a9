"""Monotonic attention: soft in training, hard in decoding."""

from typing import Any, Literal

import keras
from keras import ops

from kseq.attention.additive import AdditiveAttention
from kseq.attention.attention import Attention, Memory
from kseq.attention.dot_product import DotProductAttention
from kseq.attention.masked_softmax import at_least_float32
from kseq.attention.rows import scan_queries
from kseq.backend import Tensor
from kseq.engine.linear_recurrence import linear_recurrence
from kseq.inner_layers import freeze_inner_layers
from kseq.numbers import flag, positive_int, real

ENERGIES = ("additive", "dot")


@keras.saving.register_keras_serializable(package="kseq")
class MonotonicAttention(Attention):
    """Monotonic attention: each query attends to one step, at or after the step of the query before it.

    A query looks at the steps from that of the query before on, and stops at step j with the probability
    `p_j = sigmoid(energy_j)`. In training the weights are the expected alignments, the probabilities of stopping:

        q_j = (1 - p_{j-1}) q_{j-1} + a_j,   weights_j = p_j q_j

    where a are the weights of the query before; the first query begins at the first step. Outside of training the
    attention is hard: a query stops at the first step whose energy is above 0. The expected alignments approach hard
    attention as energies grow, which noise on the energies in training rewards.

    The weights of a query sum to at most 1. The rest is the probability to pass all steps. A query that passes them
    attends to nothing, and so do all later queries.

    The energies, with the learned scalars g and r, are

    - `energy="additive"`: `g v / |v| . tanh(W query + U value + b) + r`, g initially `sqrt(1 / units)`;
    - `energy="dot"`: `g query . W value / sqrt(units) + r`, g initially 1.

    Args:
        units: Number of hidden units of the additive energy; for the dot product the query's size.
        energy: "additive" or "dot".
        initial_offset: Initial value of r. With small other weights, a query first moves on by `exp(-r)` steps on
            average: use about the logarithm of target length by source length.
        noise: Standard deviation of the Gaussian noise that is added to energies in training.
        hard: Whether the attention is hard outside of training, in evaluation and in decoding alike. With False it is
            as in training without noise.
        **kwargs: Arguments of `Attention` and of `keras.layers.Layer`.

    Call arguments, returns: as in `Attention`. The state is the weights a, float32 `(batch, time)`. Hard weights are 0
        or 1, and have no gradient.

    Raises:
        ValueError: As in `Attention`, and if an option is out of range.

    Attributes:
        normalised: False.

    Example:
        >>> attention = MonotonicAttention(units=16)
        >>> memory = attention.memory(np.zeros((2, 7, 5), "float32"))
        >>> context, weights, state = attention(np.zeros((2, 3, 4), "float32"), memory, training=True)
        >>> context.shape, weights.shape, state.shape
        ((2, 3, 5), (2, 3, 7), (2, 7))

    Reference: C. Raffel et al., "Online and linear-time attention by enforcing monotonic alignments", 2017.
    """

    stateless = False
    normalised = False

    def __init__(
        self,
        units: int,
        *,
        energy: Literal["additive", "dot"] = "additive",
        initial_offset: float = 0.0,
        noise: float = 1.0,
        hard: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if energy not in ENERGIES:
            raise ValueError(f"energy={energy!r}, but MonotonicAttention has the energies {', '.join(ENERGIES)}.")
        self.units, self.energy = positive_int(self, "units", units), energy
        self.initial_offset, self.noise = real("initial_offset", initial_offset), real("noise", noise)
        self.hard = flag("hard", hard)
        if self.noise < 0:
            raise ValueError(f"noise={noise}, but it is a standard deviation, at least 0.")
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.mechanism = self._new_mechanism()
        freeze_inner_layers(self)

    def _new_mechanism(self) -> Attention:
        """Return the mechanism whose scores are the energies, but for g of the dot product and r."""
        options = {
            "kernel_initializer": self.kernel_initializer,
            "kernel_regularizer": self.kernel_regularizer,
            "dtype": self.dtype_policy,
            "name": "energy",
        }
        if self.energy == "dot":
            return DotProductAttention(general=True, units=self.units, **options)
        return AdditiveAttention(self.units, normalize=True, **options)

    def build(self, query_shape: tuple, memory_shape: tuple) -> None:
        """Create the weights, except those that `memory` has already built."""
        super().build(query_shape, memory_shape)
        self.mechanism.build(query_shape, memory_shape)
        if self.energy == "dot":
            self.gain = self.add_weight(name="gain", shape=(), initializer="ones")
        offset = keras.initializers.Constant(self.initial_offset)
        self.offset = self.add_weight(name="offset", shape=(), initializer=offset)

    def project_keys(self, values: Tensor) -> Tensor:
        """Return the keys of the energies, `(batch, time, units)`."""
        return self.mechanism.project_keys(values)

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Return the energies `(batch, queries, time)`."""
        scores = self.mechanism.score(query, keys)
        return ops.add(ops.multiply(scores, self.gain) if self.energy == "dot" else scores, self.offset)

    def initial_state(self, batch: int | Tensor, time: int | Tensor | None = None) -> Tensor:
        """Return the weights before the first query, `(batch, time)`: 1 at the first step."""
        first = ops.zeros((batch,), dtype="int32")
        return ops.one_hot(first, self.known_time(time), dtype=at_least_float32(self.compute_dtype))

    def draw_noise(self, shape: tuple) -> Any:
        """Return the noise of the energies, float32 `(batch, queries, time)`."""
        if not self.noise:
            return ()
        return keras.random.normal(shape, stddev=self.noise, dtype="float32", seed=self.seed_generator)

    def weigh(
        self, query: Tensor, memory: Memory, state: Tensor, *, training: bool | None = None, noise: Any = ()
    ) -> tuple[Tensor, Tensor]:
        """Return the weights `(batch, queries, time)`, and the new state of each query, of the same shape."""
        align = self._align_hard if self._is_hard(training) else self._align_softly
        weights = align(self._energies(query, memory, noise), _of_queries(memory.mask), state)
        return weights, weights

    def weigh_sequence(
        self, query: Tensor, memory: Memory, state: Tensor, *, training: bool | None = None, noise: Any = ()
    ) -> tuple[Tensor, Tensor]:
        """Return the weights of consecutive queries and the last state, with all energies from one product."""
        align = self._align_hard if self._is_hard(training) else self._align_softly

        def step(before: Tensor, energies: Tensor) -> tuple[Tensor, Tensor]:
            weights = align(energies, memory.mask, before)
            return weights, weights

        energies = self._energies(query, memory, noise)
        return scan_queries(step, state, energies, ops.shape(energies)[-1], energies.dtype)

    def _is_hard(self, training: bool | None) -> bool:
        return self.hard and not training

    def _energies(self, query: Tensor, memory: Memory, noise: Any) -> Tensor:
        energies = self.score(query, memory.keys)
        energies = ops.cast(energies, at_least_float32(energies.dtype))
        return energies if isinstance(noise, tuple) else energies + ops.cast(noise, energies.dtype)

    def _align_softly(self, energies: Tensor, mask: Tensor | None, before: Tensor) -> Tensor:
        """Return the expected alignments of one query per row.

        Args:
            energies: `(..., time)`.
            mask: Bool, of a shape that broadcasts with the energies, or None.
            before: The weights of the query before, like the energies.
        """
        stop, go_on = ops.sigmoid(energies), ops.sigmoid(-energies)  # 1 - stop would lose the last bits
        if mask is not None:
            stop = ops.where(mask, stop, 0.0)
        *leading, time = ops.shape(energies)
        if isinstance(time, int) and time == 0:
            return stop
        # Time first, all other axes joined. The decay at a step is the probability to have gone on from the one before.
        shifted = ops.pad(go_on, [*[[0, 0]] * len(leading), [1, 0]])[..., :-1]
        decay, increments = (ops.transpose(ops.reshape(x, (-1, time))) for x in (shifted, before))
        reached = linear_recurrence(decay, increments, ops.zeros_like(decay[0]))
        return stop * ops.reshape(ops.transpose(reached), (*leading, time))

    def _align_hard(self, energies: Tensor, mask: Tensor | None, before: Tensor) -> Tensor:
        """Return 1 at the first step with an energy above 0 at or after that of `before`; arguments as above."""
        may_stop = ops.logical_and(energies > 0, ops.cumsum(before, axis=-1) > 0)
        if mask is not None:
            may_stop = ops.logical_and(may_stop, mask)
        may_stop = ops.cast(may_stop, "int32")
        is_first = ops.cumsum(may_stop, axis=-1) * may_stop == 1
        return ops.cast(is_first, energies.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "units": self.units,
            "energy": self.energy,
            "initial_offset": self.initial_offset,
            "noise": self.noise,
            "hard": self.hard,
        }


def _of_queries(mask: Tensor | None) -> Tensor | None:
    """Return a mask `(batch, time)` as `(batch, 1, time)`."""
    return None if mask is None else mask[:, None]
