"""The contract of scorers: language models, hot words and lexicons that score prefixes beside the network."""

import abc
from typing import Any

from kseq.backend import Tensor
from kseq.decoding.decoding import Nest

# Nats that a scorer may add for one symbol. No network that was trained in float32 tells probabilities below exp(-50),
# 2e-22, from zero, so a larger gain would always win, and write its symbol again and again.
LARGEST_GAIN = 50.0
LARGEST_WEIGHT = 100.0  # of a language model's log-probabilities beside the network's


def check_weights(weight: float, bonus: float) -> None:
    """Raise ValueError if the weight or the bonus of a language model is too large."""
    if abs(weight) > LARGEST_WEIGHT:
        raise ValueError(
            f"weight must be between -{LARGEST_WEIGHT} and {LARGEST_WEIGHT}, but got weight={weight}: beyond that the "
            "network would not count. Usual weights are between 0.1 and 2."
        )
    if abs(bonus) > LARGEST_GAIN:
        raise ValueError(
            f"bonus must be between -{LARGEST_GAIN} and {LARGEST_GAIN} nats, but got bonus={bonus}: more would write "
            "symbols whatever the network says. Usual bonuses are between 0 and 3."
        )


class Scorer(abc.ABC):
    """Base class of scorers, which add to the score of a prefix, symbol by symbol, in nats.

    A score depends on the prefix, not on its alignments. One call scores all prefixes of the beam with all symbols of a
    frame, so a scorer reads tables, or a state that holds all scores already.

    Rows are batch x beam. A state is any nest of tensors with the rows first; it is reordered with the prefixes.

    Example:
        >>> class NoRepeat(Scorer):
        ...     '''Takes one nat off for a symbol that comes twice in a row.'''
        ...     def initial_state(self, batch, classes):
        ...         return ops.full((batch,), -1, dtype="int32")
        ...     def score(self, state, tokens):
        ...         return ops.where(tokens == state[:, None], -1.0, 0.0)
        ...     def advance(self, state, tokens):
        ...         return tokens
    """

    @abc.abstractmethod
    def initial_state(self, batch: int | Tensor, classes: int) -> Nest:
        """Check the number of `classes`, and return the state of the empty prefix, a nest of tensors `(batch, ...)`."""

    @abc.abstractmethod
    def score(self, state: Nest, tokens: Tensor) -> Tensor:
        """Return the scores of `tokens`, int32 `(rows, n)`, after the prefix of their row: float32 `(rows, n)`.

        `LOG_ZERO` forbids a symbol.
        """

    @abc.abstractmethod
    def advance(self, state: Nest, tokens: Tensor) -> Nest:
        """Return the state after one more symbol, `tokens`, int32 `(rows,)`."""

    def finish(self, state: Nest) -> Tensor | float:
        """Return the score of the end of the utterance, float32 `(rows,)`: 0 by default."""
        return 0.0


def checked_scorers(scorers: Any) -> tuple[Scorer, ...]:
    """Return the scorers of a search as a tuple, or raise TypeError if they are no scorers."""
    if isinstance(scorers, Scorer):
        raise TypeError(f"scorers must be a tuple, but got a {type(scorers).__name__} alone. Write (scorer,).")
    made = tuple(scorers)
    for each in made:
        if isinstance(each, type) or not hasattr(each, "initial_state"):
            raise TypeError(
                f"scorers must be objects such as HotWords or of your own subclass of Scorer, but {each!r} is among "
                "them."
            )
    return made
