"""Sampling with options of each row, as requests to a server have them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import Decoded
from kseq.decoding.hypotheses import repeat_rows
from kseq.decoding.nucleus import draw
from kseq.decoding.sampling import Sampling, best_tokens, nucleus, scaled
from kseq.decoding.search_loop import Grown, Loop
from kseq.decoding.single_hypothesis import Ended
from kseq.decoding.task import Start, Task


class RequestOptions(NamedTuple):
    """The options of each row.

    Attributes:
        temperature: float32 `(batch,)`, above 0.
        top_k: int32 `(batch,)`, how many tokens stay; 0 for all.
        top_p: float32 `(batch,)`, above 0, and at most 1 for all.
        most: int32 `(batch,)`, the most tokens after the prompt, eos included.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    most: Tensor


class _Live(NamedTuple):
    """The input of `choose`, rows first: the random source, and the options as `(rows, 1)`."""

    source: Any
    options: RequestOptions


@dataclass(frozen=True, kw_only=True, eq=False)  # tensors cannot be compared
class RequestSampling(Sampling):
    """`Sampling` whose temperature, `top_k`, `top_p` and number of tokens are tensors with a value for each row.

    A row that has its number of tokens has ended, so the loop stops when the last row has. Such a row is not
    `finished`. Its other options, such as `min_p` and `num_samples`, are those of `Sampling`. An object is made for
    each call; it cannot be saved.

    Attributes:
        options: The options of each row.
    """

    options: RequestOptions

    def choice(self, task: Task, start: Start) -> _Live:
        """Return the random source, and the options of each hypothesis."""
        columns = RequestOptions(*(each[:, None] for each in self.options))
        return _Live(super().choice(task, start), repeat_rows(columns, self.num_samples))

    def choose(self, log_probabilities: Tensor, position: Tensor, choice: _Live) -> Tensor:
        """Draw a token."""
        options, size = choice.options, log_probabilities.shape[-1]
        logits = scaled(log_probabilities, options.temperature)
        top_k = ops.where(options.top_k > 0, options.top_k, size)
        logits = best_tokens(logits, top_k)
        logits = ops.where(options.top_p < 1, nucleus(logits, ops.minimum(options.top_p, 1.0)), logits)
        return draw(self.usual_tokens(logits), self.random_numbers(position, choice.source))

    def collect(self, task: Task, loop: Loop, grown: Grown) -> Ended:
        """Mark the hypotheses that end with this token, or have their number of tokens."""
        ended = super().collect(task, loop, grown)
        most = self.options.most
        if task.forced is not None:
            most = most + task.forced.lengths
        return ended._replace(done=ops.logical_or(ended.done, ended.lengths >= most[:, None]))

    def answer(self, task: Task, loop: Loop) -> Decoded:
        """Return the samples, the most probable first."""
        decoded = super().answer(task, loop)
        real = ops.arange(task.max_length, dtype="int32") < decoded.lengths[..., None]
        return decoded._replace(finished=ops.any(ops.logical_and(task.is_end(decoded.tokens), real), axis=-1))
