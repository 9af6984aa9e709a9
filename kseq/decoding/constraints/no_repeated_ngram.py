"""A constraint that forbids to repeat n-grams."""

from dataclasses import dataclass

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import LOG_ZERO, Constraint, Nest, Prefix
from kseq.numbers import read_numbers


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class NoRepeatedNGram(Constraint):
    """Forbids a token that would repeat an n-gram of `size` tokens which the hypothesis has already written.

    Attributes:
        size: The length of the n-grams, 1 or more; 1 forbids to write a token twice.

    Raises:
        ValueError: If `size` is below 1.

    Example:
        >>> beam_search(step, state, bos_id=1, eos_id=2, max_length=9, constraints=(NoRepeatedNGram(3),))

    Reference: R. Paulus, C. Xiong, R. Socher, "A deep reinforced model for abstractive summarization", 2018.
    """

    size: int

    def __post_init__(self) -> None:
        read_numbers(self)
        if self.size < 1:
            raise ValueError(f"size must be 1 token or more, but got size={self.size}.")

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Nest) -> tuple[Tensor, Nest]:
        """Return the log-probabilities, `LOG_ZERO` at tokens that have followed the last `size - 1` tokens before."""
        context = self.size - 1
        windows = prefix.tokens.shape[-1] - context  # those that another token can follow
        if windows < 1:
            return log_probabilities, state
        last = ops.maximum(prefix.length - context, 0) + ops.arange(context, dtype="int32")
        tail = ops.take(prefix.tokens, last, axis=1)  # (rows, context)
        seen = ops.arange(windows, dtype="int32") + context < prefix.length  # (windows,): a token follows the window
        seen = ops.broadcast_to(seen, (ops.shape(prefix.tokens)[0], windows))
        for place in range(context):
            window = prefix.tokens[:, place : place + windows]
            seen = ops.logical_and(seen, window == tail[:, place : place + 1])
        return ops.where(
            _marked(prefix.tokens[:, context:], seen, log_probabilities), LOG_ZERO, log_probabilities
        ), state


def _marked(tokens: Tensor, chosen: Tensor, like: Tensor) -> Tensor:
    """Return a mask with the shape of `like`, True at the tokens `(rows, n)` that are `chosen`.

    This is a scatter: to compare each token with the whole vocabulary would take n operations for each logit.
    """
    rows, vocabulary = ops.shape(like)
    # A row that has ended is filled with pad, which need not be in the vocabulary.
    chosen = ops.logical_and(chosen, ops.logical_and(tokens >= 0, tokens < vocabulary))
    flat = ops.arange(rows, dtype="int32")[:, None] * vocabulary + ops.where(chosen, tokens, 0)
    index = ops.reshape(flat, (-1, 1))
    counts = ops.scatter(index, ops.reshape(ops.cast(chosen, "int32"), (-1,)), (rows * vocabulary,))
    return ops.reshape(counts, (rows, vocabulary)) > 0
