"""The contract of strategies: frozen options, called on a step."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Required, TypedDict, Unpack

from kseq.backend import Tensor
from kseq.decoding.constraints import with_minimum_length
from kseq.decoding.decoding import Constraint, Decoded, Nest, Options
from kseq.decoding.prompt import Prompt
from kseq.decoding.task import Start, Task


class Call(TypedDict, total=False):
    """What a strategy is called with by keyword; see `Strategy.__call__`."""

    memory: Nest
    bos_id: Required[int]
    eos_id: Required[int | Sequence[int]]
    max_length: Required[int]
    pad_id: int
    prompt: Tensor | None
    prompt_lengths: Tensor | None
    score_prompt: bool
    seed: Tensor | int | None
    source_mask: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Strategy(Options):
    """Base class of decoding strategies: frozen options, called on a step. Subclasses define `decode`.

    Attributes:
        min_length: The fewest tokens of a hypothesis, eos and the prompt included.
        constraints: What further forbids or penalises tokens, applied in this order.
        draws: Whether it draws random numbers, of the `seed` that it is called with. Of the class, not an option.
    """

    draws: ClassVar[bool] = False
    min_length: int = 0
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        if self.min_length < 0:
            raise ValueError(f"min_length must be 0 or more, but got min_length={self.min_length}.")
        object.__setattr__(self, "constraints", tuple(self.constraints))

    def __call__(
        self,
        step: Callable,
        state: Nest,
        *,
        memory: Nest = None,
        bos_id: int,
        eos_id: int | Sequence[int],
        max_length: int,
        pad_id: int = 0,
        prompt: Tensor | None = None,
        prompt_lengths: Tensor | None = None,
        score_prompt: bool = False,
        seed: Tensor | int | None = None,
        source_mask: Tensor | None = None,
    ) -> Decoded:
        """Decode with `step` from `state`, whose number of rows is the batch.

        Args:
            step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments[, hidden]])`; see
                `kseq.decoding.decoding`.
            state: Its initial state, a nest of tensors with the batch first, at least one.
            memory: What it looks into, a nest of tensors with the batch first; None for a step without memory.
            bos_id: The token before the first.
            eos_id: The token that ends a hypothesis, or several of which each does.
            max_length: The most tokens of a hypothesis, eos and the prompt included; static.
            pad_id: The token after the end.
            prompt: int `(batch, max_prompt)`, what each row's hypotheses begin with, after bos; None for nothing. Each
                row gets what it gets alone, however long the others' prompts are. Constraints do not hold in it; an eos
                in it ends the hypothesis. In a compiled call its tokens are not checked: one outside the vocabulary
                forbids every continuation.
            prompt_lengths: int `(batch,)`, how many of these tokens are real, 0 or more; None for all.
            score_prompt: Whether the prompt's tokens count by their own log-probability. By default they count zero,
                and length penalties count the tokens after them alone.
            seed: What random numbers are made of, in strategies that draw them; the others leave it aside. An int or an
                int scalar, of which every row makes numbers of its own, or int `(batch,)`, one seed for each row, with
                which a row alone gets what it gets in its batch. The first row of a scalar is that seed alone. The same
                seed gives the same numbers on every backend, compiled or not. None draws another seed at each call; in
                a function compiled by JAX there is none to draw, and ValueError is raised.
            source_mask: bool `(batch, source_time)`, True at the source positions that are real: those that a coverage
                penalty counts. Strategies without one leave it aside. None: it counts the positions that any hypothesis
                of the row has looked at so far, which leaves out those that none has.

        Returns:
            The `Decoded` hypotheses, best first.

        Raises:
            ValueError: If the state is empty, a length or a token is out of range, or the step returns other than said.
        """
        task = self.task(
            step,
            memory=memory,
            bos_id=bos_id,
            eos_id=eos_id,
            max_length=max_length,
            pad_id=pad_id,
            prompt=prompt,
            prompt_lengths=prompt_lengths,
            score_prompt=score_prompt,
            seed=seed,
            source_mask=source_mask,
        )
        return self.decode(task, task.start(state))

    def task(self, step: Callable, **call: Unpack[Call]) -> Task:
        """Return what is to be decoded, as `decode` takes it; arguments as when called."""
        eos_id, max_length = call["eos_id"], call["max_length"]
        return Task(
            step=step,
            memory=call.get("memory"),
            bos_id=call["bos_id"],
            eos_ids=tuple(sorted({int(token) for token in eos_id})) if isinstance(eos_id, Iterable) else (eos_id,),
            pad_id=call.get("pad_id", 0),
            max_length=max_length,
            constraints=with_minimum_length(self.min_length, max_length, self.constraints),
            prompt=Prompt.of(call.get("prompt"), call.get("prompt_lengths"), call.get("score_prompt", False)),
            seed=call.get("seed"),
            source_mask=call.get("source_mask"),
        )

    def decode(self, task: Task, start: Start) -> Decoded:
        """Return the hypotheses of a task, which is ready to start."""
        raise NotImplementedError(f"{type(self).__name__} must define decode(task, start).")
