"""Tokens as they come."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Unpack

import numpy as np
from keras import ops

from kseq.backend import Tensor, compiled, fresh_seed
from kseq.decoding.decoding import Decoded, Nest
from kseq.decoding.greedy import GreedySearch
from kseq.decoding.strategy import Call
from kseq.decoding.task import Task
from kseq.decoding.threefry import Words, key_of
from kseq.decoding.writing import Writer, Writing


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


class _Given(NamedTuple):
    """What a request brings, besides its state: nests of tensors, or None."""

    memory: Nest
    prompt: Tensor | None
    prompt_lengths: Tensor | None


@dataclass(frozen=True, kw_only=True)
class TokenStreaming:
    """Greedy search or sampling that gives each token as soon as it is chosen; `stream` for a single request.

    Requests of the same shapes share one compiled step: keep the object.

    Attributes:
        strategy: `GreedySearch`, or `Sampling` of one sample.
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

    strategy: Writer
    step: Callable
    bos_id: int
    eos_id: int | Sequence[int]
    max_length: int
    pad_id: int = 0
    score_prompt: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, Writer) or self.strategy.hypotheses != 1:
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
        """Write, and give the tokens one after the other, the prompt's too, until every row has ended.

        The tokens together are those that the strategy returns at once. That answer, a `Decoded`, is what the generator
        returns in the end (`answer = yield from streaming(...)`).

        Args:
            state: The step's initial state, a nest of tensors with the batch first.
            memory: What it looks into, a nest of tensors with the batch first, or None.
            prompt: What each row begins with, as strategies take it.
            prompt_lengths: How many of its tokens are real.
            seed: What random numbers are made of, as strategies take it. None draws another for each request.

        Yields:
            The `StreamedTokens` of each position.
        """
        given = _Given(memory, prompt, prompt_lengths)
        goes_on, loop = self._begin(state, given, key_of(fresh_seed() if seed is None else seed))
        while goes_on:
            goes_on, loop, streamed = self._advance(given, loop)
            yield StreamedTokens(*(np.asarray(x) for x in streamed))
        return self.strategy.decoded(loop)

    @cached_property
    def _begin(self) -> Callable:
        def begin(state: Nest, given: _Given, key: Words) -> tuple[Tensor, Writing]:
            task = self._task(given, key)
            loop = self.strategy.begin(task, task.start(state))
            return self.strategy.goes_on(task, loop), loop

        return compiled(begin)

    @cached_property
    def _advance(self) -> Callable:
        def advance(given: _Given, loop: Writing) -> tuple[Tensor, Writing, tuple]:
            task = self._task(given)
            new = self.strategy.write(task, loop)
            written = (ops.take(x, loop.position, axis=1) for x in (new.tokens, new.log_probabilities))
            return self.strategy.goes_on(task, new), new, (*written, new.done)

        return compiled(advance)

    def _task(self, given: _Given, key: Words | None = None) -> Task:
        return self.strategy.task(
            self.step,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            max_length=self.max_length,
            pad_id=self.pad_id,
            score_prompt=self.score_prompt,
            seed=key,
            **given._asdict(),
        )


def stream(
    step: Callable, state: Nest, *, strategy: Writer | None = None, **call: Unpack[Call]
) -> Generator[StreamedTokens, None, Decoded]:
    """Write, and give each token as soon as it is chosen.

    It compiles a step of its own: for more than one request keep a `TokenStreaming`.

    Args:
        step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments])`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        strategy: `GreedySearch`, the default, or `Sampling` of one sample.
        **call: `bos_id`, `eos_id`, `max_length`, and what else a `Strategy` is called with.

    Returns:
        An iterator over the `StreamedTokens` of each position, until every row has ended. Together they are what the
        strategy returns at once, and what the generator returns in the end.

    Raises:
        ValueError: As the strategy, and if it does not choose one token of each row at a time.
        TypeError: If an argument is missing or none of these.

    Example:
        >>> step = lambda tokens, state: (ops.one_hot(tokens + 1, 5) * 9.0, state)  # counts
        >>> for tokens, _, _ in stream(step, np.zeros((1, 1), "float32"), bos_id=0, eos_id=4, max_length=6):
        ...     print(tokens)
        [1]
        [2]
        [3]
        [4]
    """
    wrong = sorted((call.keys() - Call.__annotations__.keys()) | (Call.__required_keys__ - call.keys()))
    if wrong:
        raise TypeError(
            f"stream takes {sorted(Call.__required_keys__)} and may take {sorted(Call.__optional_keys__)}, but "
            f"{wrong} came in addition or are missing. Options of how to choose, constraints too, are the strategy's."
        )
    streaming = TokenStreaming(
        strategy=GreedySearch() if strategy is None else strategy,
        step=step,
        bos_id=call["bos_id"],
        eos_id=call["eos_id"],
        max_length=call["max_length"],
        pad_id=call.get("pad_id", 0),
        score_prompt=call.get("score_prompt", False),
    )
    return streaming(
        state,
        memory=call.get("memory"),
        prompt=call.get("prompt"),
        prompt_lengths=call.get("prompt_lengths"),
        seed=call.get("seed"),
    )
