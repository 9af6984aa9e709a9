"""Streams of tokens: each token of a search as soon as it is chosen."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor, compiled, fresh_seed
from kseq.decoding.checks import batch_of, read_ends
from kseq.decoding.decoding import Decoded, Nest
from kseq.decoding.greedy import GreedySearch
from kseq.decoding.names import get_strategy
from kseq.decoding.option_names import refuse_unknown
from kseq.decoding.prompt import Prompt
from kseq.decoding.search_loop import Loop
from kseq.decoding.single_hypothesis import SingleHypothesis
from kseq.decoding.task import Task
from kseq.numbers import LARGEST_ID, read_numbers
from kseq.threefry import Words, key_of


class StreamedTokens(NamedTuple):
    """One token of each row, as NumPy arrays.

    Attributes:
        tokens: int32 `(batch,)`; pad where the row has ended before.
        log_probabilities: float32 `(batch,)`, zero where the row has ended before.
        finished: bool `(batch,)`, whether the row has ended with this token or before.
    """

    tokens: np.ndarray
    log_probabilities: np.ndarray
    finished: np.ndarray


class _Request(NamedTuple):
    """The tensors of a request besides its state: nests, or None."""

    memory: Nest
    prompt: Tensor | None
    prompt_lengths: Tensor | None


@dataclass(frozen=True, kw_only=True)
class TokenStreaming:
    """Greedy search or sampling that yields each token as soon as it is chosen; for a single request use `stream`.

    Requests of the same shapes share one compiled step: keep the object.

    Attributes:
        strategy: `GreedySearch`, or `Sampling` of one sample, or "greedy" or "sampling".
        step: The model; see `kseq.decoding.decoding`.
        bos_id: The token before the first.
        eos_id: The token that ends a row, or several of which each does.
        max_length: The most tokens written, eos and the prompt included.
        pad_id: The token after the end.
        score_prompt: Whether the prompt's tokens count by their own log-probability.

    Raises:
        ValueError: If the strategy does not choose one token of each row at a time.

    Example:
        >>> streaming = TokenStreaming(strategy=Sampling(top_p=0.9), step=step, bos_id=1, eos_id=2, max_length=99)
        >>> for tokens, _, _ in streaming(state, memory=memory, seed=7):
        ...     print(words[tokens[0]], end=" ", flush=True)
    """

    strategy: Any  # a SingleHypothesis, once it is made
    step: Callable
    bos_id: int
    eos_id: int | Sequence[int]
    max_length: int
    pad_id: int = 0
    score_prompt: bool = False

    def __post_init__(self) -> None:
        read_numbers(self)
        object.__setattr__(self, "strategy", get_strategy(self.strategy))
        if not isinstance(self.strategy, SingleHypothesis) or self.strategy.hypotheses != 1:
            raise ValueError(
                f"Tokens can be streamed of strategies that write one hypothesis from left to right, but got "
                f"{self.strategy!r}. Use GreedySearch() or Sampling(num_samples=1)."
            )

    def __call__(
        self,
        state: Nest,
        *,
        memory: Nest = None,
        prompt: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        seed: Tensor | int | None = None,
    ) -> Generator[StreamedTokens, None, Decoded]:
        """Yield the tokens one after the other, those of the prompt too, until every row has ended.

        They are the tokens that the strategy returns at once. The generator's return value is that answer, a `Decoded`
        (`answer = yield from streaming(...)`).

        Args:
            state: The step's initial state, a nest of tensors with the batch first.
            memory: The step's memory, a nest of tensors with the batch first, or None.
            prompt: The first tokens of each row, as in `Strategy.__call__`.
            prompt_lengths: How many of its tokens are real.
            seed: The seed of the random numbers, as in `Strategy.__call__`. None draws a fresh one for each request.

        Yields:
            The `StreamedTokens` of each position.
        """
        forced = Prompt.of(prompt, prompt_lengths, self.score_prompt)
        if forced is not None:  # the loop is compiled: check before
            forced.check(batch_of(state), LARGEST_ID, read_ends(self.eos_id))
            prompt, prompt_lengths = forced.tokens, forced.lengths
        request = _Request(memory, prompt, prompt_lengths)
        goes_on, loop = self._begin(state, request, key_of(fresh_seed() if seed is None else seed))
        while goes_on:
            goes_on, loop, streamed = self._advance(request, loop)
            yield StreamedTokens(*(np.asarray(x) for x in streamed))
        return self.strategy.answer(self._task(request), loop)

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields: a copy compiles its steps anew."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _begin(self) -> Callable:
        def begin(state: Nest, request: _Request, key: Words) -> tuple[Tensor, Loop]:
            task = self._task(request, key)
            loop = self.strategy.start_loop(task, task.start(state))
            return self.strategy.unfinished(task, loop), loop

        return compiled(begin)

    @cached_property
    def _advance(self) -> Callable:
        def advance(request: _Request, loop: Loop) -> tuple[Tensor, Loop, StreamedTokens]:
            task = self._task(request)
            new = self.strategy.advance(task, loop)
            token, log_probability = (
                ops.take(x, loop.position, axis=0)[:, 0] for x in (new.history.tokens, new.history.log_probabilities)
            )
            over = loop.ended.done[:, 0]
            streamed = StreamedTokens(
                tokens=ops.where(over, self.pad_id, token),
                log_probabilities=ops.where(over, 0.0, log_probability),
                finished=new.ended.done[:, 0],
            )
            return self.strategy.unfinished(task, new), new, streamed

        return compiled(advance)

    def _task(self, request: _Request, key: Words | None = None) -> Task:
        return self.strategy.task(
            self.step,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            max_length=self.max_length,
            pad_id=self.pad_id,
            score_prompt=self.score_prompt,
            seed=key,
            **request._asdict(),
        )


def stream(
    step: Callable, state: Nest, *, strategy: str | SingleHypothesis | None = None, **call: Any
) -> Generator[StreamedTokens, None, Decoded]:
    """Yield each token of a search as soon as it is chosen.

    Each call compiles a step: for more than one request keep a `TokenStreaming`.

    Args:
        step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments])`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        strategy: `GreedySearch`, the default, or `Sampling` of one sample, or "greedy" or "sampling".
        **call: `bos_id`, `eos_id`, `max_length`, and the other options of `Strategy.__call__`. `source_mask` is
            refused: no strategy that can be streamed has a coverage penalty.

    Returns:
        A generator of the `StreamedTokens` of each position, until every row has ended. They are the tokens that the
        strategy returns at once. Its return value is that answer, a `Decoded`.

    Raises:
        ValueError: As the strategy, and if it does not choose one token of each row at a time.
        TypeError: If an argument is missing, or is not one of these.

    Example:
        >>> step = lambda tokens, state: (ops.one_hot(tokens + 1, 5) * 9.0, state)  # counts
        >>> for tokens, _, _ in stream(step, np.zeros((1, 1), "float32"), bos_id=0, eos_id=4, max_length=6):
        ...     print(tokens)
        [1]
        [2]
        [3]
        [4]
    """
    fixed = {field.name for field in fields(TokenStreaming)} - {"strategy", "step"}
    required, known = {"bos_id", "eos_id", "max_length"}, fixed | set(_Request._fields) | {"seed"}
    more = (
        "Options of how to choose, constraints too, are the strategy's, and no strategy that can be streamed reads a "
    )
    refuse_unknown("stream", call, sorted(known), more=f"{more}source_mask.")
    if missing := sorted(required - call.keys()):
        raise TypeError(f"stream needs {sorted(required)}, but {missing} are missing.")
    streaming = TokenStreaming(
        strategy=GreedySearch() if strategy is None else strategy,
        step=step,
        **{name: call.pop(name) for name in fixed & call.keys()},
    )
    return streaming(state, **call)
