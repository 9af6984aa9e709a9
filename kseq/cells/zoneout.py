"""A cell with zoneout."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq import backend
from kseq.backend import Tensor
from kseq.cells.cell import Cell
from kseq.cells.wrapper import WrapperCell
from kseq.engine import Equations, State
from kseq.engine.equations import as_state
from kseq.numbers import plain_seed

STEPS_OF_CHANCE = 1 << 16  # a decision uses 16 random bits


@keras.saving.register_keras_serializable(package="kseq")
class ZoneoutCell(WrapperCell):
    """A cell whose units keep their old state at random steps.

        s_t = d_t * s_{t-1} + (1 - d_t) * cell(x_t, s_{t-1}),   d_t ~ Bernoulli(rate)
        s_t = rate * s_{t-1} + (1 - rate) * cell(x_t, s_{t-1})  at inference

    In training, d_t is drawn for each unit, step and row; at inference, its expectation is used. All new states are
    computed from the old ones before zoneout, so an LSTM's output uses its memory before zoneout. The output is the
    first state.

    A decision uses 16 random bits, so its probability is the given rate to within 2^-17. In training `kseq.layers.RNN`
    draws the decisions of all steps before the loop. `keras.layers.RNN` draws them in its loop, which works on
    TensorFlow only.

    Args:
        cell: The inner cell.
        rate: The share of units that keep their state: one number for all states, or a list of one for each. For an
            LSTM, Krueger et al. used `[0.05, 0.5]` (hidden state, memory).
        seed: An int for the same decisions in every run; None for different ones.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments: the inner cell's.

    Raises:
        ValueError: If a rate is outside [0, 1], the number of rates is not that of the states, or the inner cell is not
            run through `project`, `recur` and `gates` (`ResidualCell`, `StackedCells`).

    Example:
        >>> cell = kseq.cells.ZoneoutCell(kseq.cells.LSTMCell(16), [0.05, 0.5])
        >>> kseq.layers.RNN(cell, return_sequences=True)(np.zeros((2, 10, 8)), training=True).shape
        (2, 10, 16)

    Reference: D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations", 2017.
    """

    def __init__(self, cell: Cell, rate: float | list[float], seed: int | None = None, **kwargs: Any):
        super().__init__(cell, **kwargs)
        self.check_equations()
        count = len(cell.state_size) if isinstance(cell.state_size, list | tuple) else 1
        self.rate, self.seed = rate, plain_seed(seed)
        self.rates = [float(r) for r in rate] if isinstance(rate, list | tuple) else [float(rate)] * count
        if len(self.rates) != count or not all(0.0 <= r <= 1.0 for r in self.rates):
            raise ValueError(
                f"rate={rate}, but {type(cell).__name__} has {count} states: give one rate from 0 to 1 for all, or a "
                f"list of {count}."
            )
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def _draw(self, inputs: Tensor) -> list[Tensor]:
        """Return bool `(..., units)` for each state with a rate above 0: True where the old state is kept."""
        leading = ops.shape(inputs)[: 2 if self.is_sequence(inputs) else 1]
        states = zip(self.rates, self.cell.get_initial_state(1), strict=True)
        drawn = [(rate, tuple(state.shape[1:])) for rate, state in states if rate > 0]
        sizes = [int(np.prod(shape)) for _, shape in drawn]
        if not drawn:
            return []
        bits = backend.random_bits((*leading, -(-sum(sizes) // 2)), self.seed_generator)
        low, high = ops.bitwise_and(bits, STEPS_OF_CHANCE - 1), ops.right_shift(bits, 16)
        chances = ops.cast(ops.concatenate([low, high], axis=-1), "int32")  # (..., all units of all states)
        places = np.cumsum([0, *sizes])
        return [
            ops.reshape(chances[..., start : start + size] < round(rate * STEPS_OF_CHANCE), (*leading, *shape))
            for (rate, shape), start, size in zip(drawn, places, sizes, strict=False)
        ]

    def equations(self, training: bool = False) -> Equations | None:
        """Return the inner cell's functions and weights, with zoneout after its gates."""
        inner = self.cell.equations(training)
        if inner is None or not inner.separable:
            return inner

        def project(inputs: Tensor, mask: Tensor | None) -> tuple:
            """Return a tuple of the inner cell's projection and, in training, of the decisions for all steps."""
            return inner.project(inputs, mask), *(self._draw(inputs) if training else [])

        def gates(projected: tuple, recurrent: Tensor, state: State, *gate_weights: Tensor) -> State:
            projected, *held = projected
            new = as_state(inner.gates(projected, recurrent, state, *gate_weights), like=state)
            return self._mix(state, new, held)

        inner_gradient = inner.gates_gradient
        return inner._replace(
            project=project,
            gates=gates,
            gates_gradient=None if inner_gradient is None else self._gradient(inner.gates, inner_gradient),
            additive=False,
            activated=None,
            projects_rows_apart=inner.projects_rows_apart and not training,
        )

    def _gradient(
        self, inner_gates: Callable[..., State], inner_gradient: Callable[..., tuple]
    ) -> Callable[..., tuple]:
        """Return the gradient of the inner cell's gates followed by zoneout, given the gradient of the gates."""

        def gates_gradient(
            projected: tuple, recurrent: Tensor, state: State, new_state: State, d_new: State, *gate_weights: Tensor
        ) -> tuple:
            projected, *held = projected
            candidate = as_state(inner_gates(projected, recurrent, state, *gate_weights), like=state)
            zeros = tuple(ops.zeros_like(d) for d in d_new)
            d_candidate = self._mix(zeros, d_new, held)
            d_projected, d_recurrent, d_state, d_weights = inner_gradient(
                projected, recurrent, state, candidate, d_candidate, *gate_weights
            )
            d_held = self._mix(d_new, zeros, held)
            d_state = tuple(old if d is None else d + old for d, old in zip(d_state, d_held, strict=True))
            return (d_projected, *(None for _ in held)), d_recurrent, d_state, d_weights

        return gates_gradient

    def _mix(self, old: State, new: State, held: list[Tensor]) -> State:
        """Return the state after zoneout: by the decisions `held` if there are any, otherwise in expectation."""
        drawn = iter(held)
        in_training = bool(held)

        def choose(rate: float, before: Tensor, after: Tensor) -> Tensor:
            if rate == 0.0:
                return after
            return ops.where(next(drawn), before, after) if in_training else rate * before + (1.0 - rate) * after

        return tuple(choose(*each) for each in zip(self.rates, old, new, strict=True))

    def call(self, inputs: Tensor, states: State, training: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Take one step of the inner cell, and apply zoneout."""
        _, new = self.cell(inputs, states, training=training)
        new = self._mix(tuple(states), tuple(new), self._draw(inputs) if training else [])
        return new[0], list(new)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        rate = list(self.rate) if isinstance(self.rate, list | tuple) else self.rate
        return {**super().get_config(), "rate": rate, "seed": self.seed}
