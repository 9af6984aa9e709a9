"""What a prefix is judged by besides the network: the protocol of language models, hot words and lexicons."""

import abc

from kseq.backend import Tensor
from kseq.decoding.decoding import Nest


class Scorer(abc.ABC):
    """Base class of what adds to the score of a prefix, symbol by symbol, in nats.

    What it adds depends on the prefix alone, not on its alignments. It is asked for every prefix of the beam and every
    symbol of a frame at once, so it answers by tables or by a state that knows all scores already.

    Rows are batch x beam. A state is any nest of tensors with the rows first; it is reordered as the prefixes are.

    Example:
        >>> class NoRepeat(Scorer):
        ...     '''A symbol that comes twice in a row costs one nat.'''
        ...     def initial_state(self, batch, classes):
        ...         return ops.full((batch,), -1, dtype="int32")
        ...     def score(self, state, tokens):
        ...         return ops.where(tokens == state[:, None], -1.0, 0.0)
        ...     def advance(self, state, tokens):
        ...         return tokens
    """

    @abc.abstractmethod
    def initial_state(self, batch: int | Tensor, classes: int) -> Nest:
        """Return the state of the empty prefix, a nest of tensors `(batch, ...)`, and check that it fits `classes`."""

    @abc.abstractmethod
    def score(self, state: Nest, tokens: Tensor) -> Tensor:
        """Return what each of `tokens`, int32 `(rows, n)`, adds to its row's prefix: float32 `(rows, n)`.

        `LOG_ZERO` forbids a symbol.
        """

    @abc.abstractmethod
    def advance(self, state: Nest, tokens: Tensor) -> Nest:
        """Return the state after one symbol more, `tokens`, int32 `(rows,)`."""

    def finish(self, state: Nest) -> Tensor | float:
        """Return what the end of the utterance adds, float32 `(rows,)`: nothing by default."""
        del state
        return 0.0
