"""Sampling."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import LOG_ZERO, Decoded, Nest
from kseq.decoding.hypotheses import NO_HYPOTHESIS, repeat_rows
from kseq.decoding.nucleus import draw, smallest_set
from kseq.decoding.single_hypothesis import SingleHypothesis
from kseq.decoding.strategy import takes_options_of
from kseq.decoding.task import Start, Task
from kseq.threefry import Words, row_keys, threefry, uniform


class _Source(NamedTuple):
    """The key and the counter of each hypothesis's random numbers, uint32 `(rows,)` each."""

    key: Words  # the key of its row
    index: Tensor  # its number among the row's samples


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, kw_only=True)
class Sampling(SingleHypothesis):
    """Sampling as an object: `sample` with its options, which are explained there.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> decoded = Sampling(temperature=0.7, top_p=0.9)(step, state, bos_id=1, eos_id=2, max_length=9, seed=7)
    """

    draws: ClassVar[bool] = True
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    num_samples: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature < 1e-30:  # float32 cannot divide by less
            raise ValueError(
                f"temperature must be above 0, but got temperature={self.temperature}, and 1e-30 at least. For "
                "the most probable token at every step use greedy_search."
            )
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (all tokens) or more, but got top_k={self.top_k}.")
        for name in ("top_p", "typical_p"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, but got {name}={getattr(self, name)}.")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be between 0 and 1, but got min_p={self.min_p}.")
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be 1 or more, but got num_samples={self.num_samples}.")

    @property
    def hypotheses(self) -> int:
        """The number of samples."""
        return self.num_samples

    def choice(self, task: Task, start: Start) -> _Source:
        """Return the keys of the rows and the numbers of their samples."""
        index = ops.broadcast_to(ops.arange(self.num_samples, dtype="int32"), (start.batch, self.num_samples))
        index = ops.cast(ops.reshape(index, (start.batch * self.num_samples,)), "uint32")
        return _Source(repeat_rows(row_keys(task.seed, start.batch), self.num_samples), index)

    def choose(self, log_probabilities: Tensor, position: Tensor, choice: _Source) -> Tensor:
        """Draw a token."""
        return draw(self.probabilities(log_probabilities), self.random_numbers(position, choice))

    def random_numbers(self, position: Tensor, source: Any) -> Tensor:
        """Return the random numbers of a position, float32 `(rows,)` in [0, 1), from what `choice` returned."""
        counter = Words(ops.cast(position, "uint32") + ops.zeros_like(source.index), source.index)
        return uniform(threefry(source.key, counter).first)

    def probabilities(self, log_probabilities: Tensor) -> Tensor:
        """Return the weights of the tokens, float32 `(rows, vocabulary)`: probabilities, scaled to a largest of 1."""
        logits = scaled(log_probabilities, self.temperature)
        if 0 < self.top_k < logits.shape[-1]:
            logits = best_tokens(logits, self.top_k)
        if self.top_p < 1:
            logits = nucleus(logits, self.top_p)
        return self.usual_tokens(logits)

    def usual_tokens(self, logits: Tensor) -> Tensor:
        """Return the weights of the tokens after the cuts by `min_p` and `typical_p`."""
        if self.min_p:
            logits = ops.where(logits >= math.log(self.min_p), logits, LOG_ZERO)
        if self.typical_p < 1:
            normalised = ops.log_softmax(logits, axis=-1)
            entropy = -ops.sum(ops.exp(normalised) * ops.maximum(normalised, -1e3), axis=-1, keepdims=True)
            kept = smallest_set(ops.abs(-normalised - entropy), ops.exp(normalised), self.typical_p)
            logits = ops.where(kept, logits, LOG_ZERO)
        return ops.exp(logits)


def scaled(log_probabilities: Tensor, temperature: float | Tensor) -> Tensor:
    """Return log-probabilities divided by a temperature, a scalar or `(rows, 1)`, with a largest of 0."""
    best = ops.max(log_probabilities, axis=-1, keepdims=True)
    logits = ops.maximum((log_probabilities - best) / temperature, LOG_ZERO)
    return ops.where(log_probabilities - best > NO_HYPOTHESIS, logits, LOG_ZERO)


def best_tokens(logits: Tensor, top_k: int | Tensor) -> Tensor:
    """Return the logits with all but the `top_k` best of a row, a scalar or `(rows, 1)`, impossible."""
    return ops.where(smallest_set(-logits, ops.ones_like(logits), top_k), logits, LOG_ZERO)


def nucleus(logits: Tensor, top_p: float | Tensor) -> Tensor:
    """Return the logits with all but the best tokens of the mass `top_p`, a scalar or `(rows, 1)`, impossible."""
    masses = ops.exp(logits)
    needed = top_p * ops.sum(masses, axis=-1, keepdims=True)
    return ops.where(smallest_set(-logits, masses, needed), logits, LOG_ZERO)


@takes_options_of(Sampling)
def sample(step: Callable, state: Nest, **options: Any) -> Decoded:
    """Draw every token by the model's probability, until eos.

    The probabilities `p(token) ** (1 / temperature)`, normalised, are cut in this order. Each cut sees the tokens that
    the cut before left, normalised again:

    - `top_k`: the `top_k` most probable tokens stay; of equal ones the lower id;
    - `top_p`: the most probable tokens stay, as few as have a probability of `top_p` together (nucleus sampling);
    - `min_p`: those at least `min_p` times as probable as the most probable one stay;
    - `typical_p`: those whose information `-log p(token)` is nearest to its mean, the entropy, stay, as few as have a
      probability of `typical_p` together (locally typical sampling).

    At least one token always stays. Constraints are applied before the cuts: a forbidden token is never drawn while any
    other is allowed.

    A token is a function of its row's seed, the sample's number, the position and the probabilities. So the same seed
    gives the same samples on every backend, compiled or not, unless probabilities differ in their last bits.

    Args:
        step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments])`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        temperature: The divisor of the log-probabilities: below 1 sharpens the distribution, above 1 flattens it.
        top_k: How many tokens stay; 0 for all.
        top_p: The share of the most probable tokens that stays; 1 for all.
        min_p: The least probability of a token that stays, as a share of the most probable one's; 0 for all.
        typical_p: The share of the most typical tokens that stays; 1 for all.
        num_samples: How many samples are drawn of each row, independently.
        min_length: The fewest tokens of a hypothesis, eos and the prompt included.
        constraints: Constraints on the tokens, applied in this order.
        **options: `bos_id`, `eos_id`, `max_length`, `seed`, and the other options of `Strategy.__call__`. Without a
            seed each call draws other samples.

    Returns:
        `Decoded` with `num_samples` hypotheses per row, the most probable first; equal ones may be among them. Scores
        and log-probabilities are the model's own, before temperature and cuts, in nats.

    Raises:
        ValueError: If an option, a length or a token is out of range, the state is empty, the step's output is
            not as described, or there is no seed in a function compiled by JAX.

    Example:
        >>> table = ops.log(np.array([[0, 0.6, 0.4, 0], [0, 0.3, 0.3, 0.4], [0, 0, 0, 1], [0, 0, 0, 1]]) + 1e-9)
        >>> step = lambda tokens, state: (ops.take(table, tokens, axis=0), state)
        >>> sample(step, np.zeros((1, 1)), bos_id=0, eos_id=3, max_length=4, num_samples=2, seed=1).tokens
        [[[1, 3, 0, 0], [1, 1, 2, 3]]]

    References:
        - A. Holtzman, J. Buys, L. Du, M. Forbes, Y. Choi, "The curious case of neural text degeneration", 2020 (top-p).
        - C. Meister, T. Pimentel, G. Wiher, R. Cotterell, "Locally typical sampling", 2023.
        - M. Nguyen et al., "Turning up the heat: min-p sampling for creative and coherent LLM outputs", 2025.
    """
    return Sampling.run(step, state, **options)
