"""Stochastic beam search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.backtrace import read, trace
from kseq.decoding.decoding import LOG_ZERO, Decoded, Nest
from kseq.decoding.hypotheses import NO_HYPOTHESIS, largest, take_hypotheses
from kseq.decoding.search_loop import Grown, Loop
from kseq.decoding.single_hypothesis import Ended, no_ends, with_ends
from kseq.decoding.strategy import Strategy, takes_options_of
from kseq.decoding.task import Predicted, Start, Task
from kseq.threefry import Words, gumbel, row_keys, threefry

ROOT = 2**32 - 1  # the counter of the root's random number, which no position has


class _Sampled(NamedTuple):
    """The samples so far, those that have ended among them, best first.

    Attributes:
        totals: float32 `(batch, beam)`, the sums of their log-probabilities; below `NO_HYPOTHESIS` there is none.
        perturbed: float32 `(batch, beam)`, the Gumbel variables by which they are chosen.
        key: The random keys of the rows, `(batch,)`.
    """

    totals: Tensor
    perturbed: Tensor
    key: Words


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, kw_only=True)
class StochasticBeamSearch(Strategy):
    """Stochastic beam search as an object: `stochastic_beam_search` with its options, which are explained there.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> decoded = StochasticBeamSearch(num_samples=5)(step, state, bos_id=1, eos_id=2, max_length=9, seed=7)
    """

    draws: ClassVar[bool] = True
    num_samples: int = 1
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be 1 or more, but got num_samples={self.num_samples}.")
        if self.temperature < 1e-30:  # float32 cannot divide by less
            raise ValueError(
                f"temperature must be above 0, but got temperature={self.temperature}, and 1e-30 at least. For "
                "the most probable hypotheses use beam_search."
            )

    @property
    def hypotheses(self) -> int:
        """The number of samples."""
        return self.num_samples

    @property
    def reorders(self) -> bool:
        """Whether hypotheses may continue others: yes."""
        return True

    def begin(self, task: Task, start: Start) -> tuple[_Sampled, Ended]:
        """Return one prefix of each row, the empty one."""
        key, shape = row_keys(task.seed, start.batch), (start.batch, self.num_samples)
        exists = ops.broadcast_to(ops.arange(self.num_samples) == 0, shape)
        root = gumbel(threefry(key, _counter(key.first, ROOT, 0)).first)  # (batch,)
        perturbed = ops.where(exists, root[:, None], LOG_ZERO)
        return _Sampled(ops.where(exists, 0.0, LOG_ZERO), perturbed, key), no_ends(shape)

    def select(self, task: Task, loop: Loop, predicted: Predicted) -> Grown:
        """Choose the continuations with the largest Gumbel variables; an ended sample competes as itself."""
        sampled, over = loop.live, _over(loop)
        own, normalised = self._by_hypothesis(predicted.log_probabilities, ops.shape(sampled.totals))
        totals = sampled.totals[..., None] + normalised  # (batch, beam, vocabulary)
        perturbed = _perturb(totals, sampled.perturbed, sampled.key, loop.position)
        # An ended sample stands in the column of token 0.
        itself = ops.where(ops.arange(own.shape[-1], dtype="int32") == 0, sampled.perturbed[..., None], LOG_ZERO)
        kept, slots, tokens = largest(ops.where(over[..., None], itself, perturbed))  # (batch, beam) each
        own, totals = (
            ops.take_along_axis(take_hypotheses(x, slots), tokens[..., None], axis=2)[..., 0] for x in (own, totals)
        )
        before, over = take_hypotheses((sampled.totals, over), slots)
        totals = ops.where(kept > NO_HYPOTHESIS, ops.where(over, before, totals), LOG_ZERO)
        chosen = _Sampled(totals, kept, sampled.key)
        return Grown(predicted.carried, predicted.alignments, tokens, own, slots, over, chosen)

    def collect(self, task: Task, loop: Loop, grown: Grown) -> Ended:
        """Mark the samples that end with this token."""
        return with_ends(take_hypotheses(loop.ended, grown.hypotheses), grown.over, task.is_end(grown.tokens))

    def keep(self, task: Task, loop: Loop, grown: Grown, ended: Ended) -> _Sampled:
        """Return the chosen samples."""
        return grown.extra

    def goes_on(self, loop: Loop) -> Tensor:
        """Return whether any sample has not ended, a bool scalar."""
        return ops.logical_not(ops.all(_over(loop)))

    def answer(self, task: Task, loop: Loop) -> Decoded:
        """Return the samples; one that reached `max_length` without eos is a sample too."""
        sampled, ended = loop.live, loop.ended
        exists = sampled.totals > NO_HYPOTHESIS  # (batch, beam)
        lengths = ops.where(exists, ended.lengths, 0)
        places = ops.broadcast_to(ops.arange(self.num_samples, dtype="int32"), ops.shape(lengths))
        path = trace(loop, places, ops.full_like(places, task.max_length), groups=1)
        decoded = read(task, loop.history, lengths, ops.logical_and(exists, ended.done), path=path)
        return decoded._replace(scores=ops.where(exists, sampled.perturbed, LOG_ZERO))

    def _by_hypothesis(self, log_probabilities: Tensor, shape: tuple) -> tuple[Tensor, Tensor]:
        """Return the model's log-probabilities and those to draw by, float32 `(batch, beam, vocabulary)` each."""
        own = ops.reshape(log_probabilities, (*shape, log_probabilities.shape[-1]))
        possible = own > NO_HYPOTHESIS
        best = ops.max(own, axis=-1, keepdims=True)
        normalised = ops.log_softmax(ops.where(possible, (own - best) / self.temperature, LOG_ZERO), axis=-1)
        return own, ops.where(possible, normalised, LOG_ZERO)


@takes_options_of(StochasticBeamSearch)
def stochastic_beam_search(step: Callable, state: Nest, **options: Any) -> Decoded:
    """Draw different hypotheses by the model's probability, without replacement.

    Every hypothesis y has the perturbed log-probability `G(y) = log p(y) + g(y)`, where the g are independent standard
    Gumbel variables. The hypotheses with the `num_samples` largest G are a sample without replacement. A beam of that
    width finds them: the G of a prefix is the largest G of all hypotheses that begin with it, so the G of its
    continuations are drawn under the condition that the largest of them equals the prefix's.

    p is the product of the tokens' probabilities `p(token) ** (1 / temperature)`, normalised over the tokens that the
    constraints allow; a prompt's tokens have probability 1. A hypothesis that reaches `max_length` without eos counts
    as a hypothesis too.

    To estimate a mean over all hypotheses, draw one hypothesis more than are used. If its score is k, a hypothesis y is
    among those used with the probability `1 - exp(-exp(log p(y) - k))`; divide its value by that.

    Args:
        step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments])`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        num_samples: How many hypotheses are drawn of each row.
        temperature: The divisor of the log-probabilities: below 1 sharpens the distribution, above 1 flattens it.
        min_length: The fewest tokens of a hypothesis, eos and the prompt included.
        constraints: Constraints on the tokens, applied in this order.
        **options: `bos_id`, `eos_id`, `max_length`, `seed`, and the other options of `Strategy.__call__`. Without a
            seed each call draws other samples.

    Returns:
        `Decoded` with `num_samples` different hypotheses per row, in the order in which they would be drawn one by one.
        Scores are the G, in nats; the log-probabilities are the model's own. Where there are fewer hypotheses, the rest
        has length 0 and score -1e30.

    Raises:
        ValueError: If an option, a length or a token is out of range, the state is empty, the step's output is
            not as described, or there is no seed in a function compiled by JAX.

    Example:
        >>> table = ops.log(np.array([[0, 0.6, 0.4, 0], [0, 0.3, 0.3, 0.4], [0, 0, 0, 1], [0, 0, 0, 1]]) + 1e-9)
        >>> step = lambda tokens, state: (ops.take(table, tokens, axis=0), state)
        >>> options = {"num_samples": 3, "seed": 1}
        >>> stochastic_beam_search(step, np.zeros((1, 1)), bos_id=0, eos_id=3, max_length=4, **options).lengths
        [[3, 4, 2]]

    Reference: W. Kool, H. van Hoof, M. Welling, "Stochastic beams and where to find them: the Gumbel-top-k trick for
    sampling sequences without replacement", 2019.
    """
    return StochasticBeamSearch.run(step, state, **options)


def _over(loop: Loop) -> Tensor:
    """Return which samples do not go on: they have ended, or there is none."""
    return ops.logical_or(loop.ended.done, loop.live.totals <= NO_HYPOTHESIS)


def _perturb(totals: Tensor, parents: Tensor, key: Words, position: Tensor) -> Tensor:
    """Draw Gumbel variables with locations `totals` `(batch, beam, vocabulary)`, the largest equal to `parents`.

    G' = -log(exp(-parent) - exp(-max G) + exp(-G)), rewritten so that no exponential overflows; `parents` is
    `(batch, beam)`.
    """
    beam, vocabulary = totals.shape[1:]
    shape = (1, beam, vocabulary)
    index = ops.reshape(ops.arange(beam * vocabulary, dtype="int32"), shape)
    counter = Words(*(ops.cast(x, "uint32") for x in (ops.zeros_like(index) + position, index)))
    key = Words(key.first[:, None, None], key.second[:, None, None])
    possible = totals > NO_HYPOTHESIS
    free = ops.where(possible, totals + gumbel(threefry(key, counter).first), LOG_ZERO)
    largest = ops.max(free, axis=-1, keepdims=True)
    below = ops.where(free < largest, largest - free, 1.0)  # above 0; the value at the largest itself is not used
    v = parents[..., None] - free + ops.log(-ops.expm1(-below))
    perturbed = parents[..., None] - ops.maximum(v, 0.0) - ops.log1p(ops.exp(-ops.abs(v)))
    perturbed = ops.where(free < largest, perturbed, parents[..., None])
    return ops.where(possible, perturbed, LOG_ZERO)


def _counter(like: Tensor, first: int, second: int) -> Words:
    zeros = ops.zeros_like(like)
    return Words(*(zeros + ops.convert_to_tensor(word, dtype="uint32") for word in (first, second)))
