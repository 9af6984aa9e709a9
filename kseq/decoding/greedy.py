"""Greedy search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import Decoded, Nest
from kseq.decoding.single_hypothesis import SingleHypothesis
from kseq.decoding.strategy import takes_options_of


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class GreedySearch(SingleHypothesis):
    """Greedy search as an object: `greedy_search` with its options.

    Example:
        >>> decoded = GreedySearch(min_length=2)(step, state, bos_id=1, eos_id=2, max_length=9)
    """

    def choose(self, log_probabilities: Tensor, position: Tensor, choice: Nest) -> Tensor:
        """Return the most probable token."""
        return ops.cast(ops.argmax(log_probabilities, axis=-1), "int32")


@takes_options_of(GreedySearch)
def greedy_search(step: Callable, state: Nest, **options: Any) -> Decoded:
    """Write the most probable token at every step, until eos.

    Of equal tokens the lower id is taken. The loop ends when every row has ended.

    Args:
        step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments])`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        min_length: The fewest tokens of a hypothesis, eos and the prompt included.
        constraints: Constraints on the tokens, applied in this order.
        **options: `bos_id`, `eos_id`, `max_length`, and the other options of `Strategy.__call__`.

    Returns:
        `Decoded` with one hypothesis per row; its score is the sum of the log-probabilities, eos included, in nats.

    Raises:
        ValueError: If the state is empty, a length or a token is out of range, or the step's output is not as
            described.

    Example:
        >>> step = lambda tokens, state: (ops.one_hot(tokens + 1, 5) * 9.0, state)  # counts
        >>> decoded = greedy_search(step, np.zeros((1, 1), "float32"), bos_id=0, eos_id=4, max_length=6)
        >>> decoded.tokens, decoded.lengths
        ([[[1, 2, 3, 4, 0, 0]]], [[4]])
    """
    return GreedySearch.run(step, state, **options)
