"""The contract of scorers: language models, hot words and lexicons that score prefixes beside the network."""

import abc

from kseq.backend import Tensor
from kseq.decoding.decoding import Nest


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
