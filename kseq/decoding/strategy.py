"""The contract of strategies: frozen options, called on a step."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from kseq.backend import Tensor
from kseq.decoding.checks import checked_constraints
from kseq.decoding.compiled_calls import compiled_again
from kseq.decoding.constraints import with_minimum_length
from kseq.decoding.decoding import Constraint, Decoded, Nest
from kseq.decoding.option_names import checks_options, refuse_unknown
from kseq.decoding.search_loop import SearchLoop
from kseq.decoding.task import Start, Task
from kseq.ids import with_nan
from kseq.numbers import read_numbers, whole
from kseq.threefry import key_of

Function = TypeVar("Function", bound=Callable)


@dataclass(frozen=True, kw_only=True)
class Strategy(SearchLoop):
    """Base class of decoding strategies: frozen options, called on a step.

    Subclasses define the hooks of `SearchLoop`, or `decode`. An option is a field of the class, and a line in the
    docstring of the function that `takes_options_of` the class.

    Attributes:
        min_length: The fewest tokens of a hypothesis, eos and the prompt included.
        constraints: Constraints on the tokens, applied in this order.
        draws: Whether it draws random numbers, by the `seed` of a call. Of the class, not an option.
    """

    draws: ClassVar[bool] = False
    min_length: int = 0
    constraints: tuple[Constraint, ...] = ()

    def __post_init__(self) -> None:
        read_numbers(self)
        if self.min_length < 0:
            raise ValueError(f"min_length must be 0 or more, but got min_length={self.min_length}.")
        object.__setattr__(self, "constraints", checked_constraints(self.constraints))

    @checks_options
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

        Outside compiled functions TensorFlow runs the first call operation by operation. From the second equal call on
        it runs a graph, which takes a fraction of the time and gives the same answer to the last bit. Calls are equal
        if the step, such as `model.step`, and the options are, and nothing that they read has changed, other than the
        values of variables. A step that is made anew for each call, prints, imports, sets a global or draws numbers by
        NumPy is not compiled, nor is anything on JAX: there, use `jax.jit`.

        Args:
            step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments[, hidden]])`; see
                `kseq.decoding.decoding`.
            state: Its initial state, a nest of tensors with the batch first, at least one.
            memory: The step's memory, a nest of tensors with the batch first; None for a step without one.
            bos_id: The token before the first.
            eos_id: The token that ends a hypothesis, or several of which each does.
            max_length: The most tokens of a hypothesis, eos and the prompt included; static.
            pad_id: The token after the end.
            prompt: int `(batch, max_prompt)`, the first tokens of each row's hypotheses, after bos; or a list of rows
                of ids, or a RaggedTensor; None for none. The answer of a row does not depend on the lengths of the
                others' prompts. Constraints do not apply inside a prompt. A token that ends a hypothesis is refused:
                nothing would be written after it. In a compiled call, a row with such a token, a token outside the
                vocabulary or an impossible length has the score NaN.
            prompt_lengths: int `(batch,)`, how many of these tokens are real, 0 or more; None for all.
            score_prompt: Whether the prompt's tokens count by their own log-probability. By default they count zero,
                and length penalties count only the tokens after them. A scored prompt may contain an end.
            seed: The seed of the random numbers; strategies that draw none do not read it. An int or an int scalar,
                from which every row derives its own numbers, or int `(batch,)`, one seed for each row, so that a row
                alone gets the same answer as in a batch. The first row of a scalar is drawn as by that seed alone. The
                same seed gives the same numbers on every backend, compiled or not. None draws a fresh seed at each
                call; a function compiled by JAX cannot draw one and raises ValueError.
            source_mask: bool `(batch, source_time)`, True at the real source positions, which a coverage penalty
                counts; strategies without one do not read it. None: the penalty counts the positions that any
                hypothesis of the row has given a weight so far, and leaves out the others.

        Returns:
            The `Decoded` hypotheses, best first.

        Raises:
            ValueError: If the state is empty, a length or a token is out of range, an argument is not of its kind, or
                the step's output is not as described.
            TypeError: If the step cannot be called.
        """
        if seed is not None and not self.draws:
            key_of(seed)  # not read, but it must be a seed
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
        start = task.start(state)  # checks what is known before a graph runs
        static = {name: getattr(task, name) for name in ("bos_id", "eos_ids", "max_length", "pad_id", "score_prompt")}

        def run(step: Callable, state: Nest, tensors: dict[str, Nest]) -> Decoded:
            call = {**static, "eos_id": static["eos_ids"], **tensors}
            del call["eos_ids"]
            again = self.task(step, **call)
            return self._answer(again, again.start(state))

        compiled = compiled_again(run, step, (self, static))
        return self._answer(task, start) if compiled is None else compiled(*task.tensors(state, draws=self.draws))

    def _answer(self, task: Task, start: Start) -> Decoded:
        """Return the hypotheses, with the score NaN in rows whose prompt is wrong."""
        decoded = self.decode(task, start)
        return decoded._replace(scores=with_nan(decoded.scores, start.valid))

    def task(self, step: Callable, **call: Any) -> Task:
        """Return the task of a call, whose keyword arguments are `call`."""
        call["max_length"] = whole("max_length", call["max_length"])
        constraints = with_minimum_length(self.min_length, call["max_length"], self.constraints)
        return Task(step=step, constraints=constraints, **call)

    @classmethod
    def run(cls, step: Callable, state: Nest, **options: Any) -> Decoded:
        """Decode with a strategy of those `options` that are its own, called with the others."""
        own = {field.name for field in fields(cls)} & options.keys()
        refuse_unknown(cls.__name__, options, [*inspect.signature(cls).parameters, *CALL])
        strategy = cls(**{name: options.pop(name) for name in own})
        return strategy(step, state, **options)


CALL = list(inspect.signature(Strategy.__call__).parameters)[3:]  # the options of a call, without step and state


def takes_options_of(strategy: type[Strategy]) -> Callable[[Function], Function]:
    """Give a function `(step, state, **options)` the signature of a strategy's options and those of its call."""

    def describe(function: Function) -> Function:
        step, state, *call = list(inspect.signature(strategy.__call__).parameters.values())[1:]
        own = [x.replace(kind=x.KEYWORD_ONLY) for x in inspect.signature(strategy).parameters.values()]
        function.__signature__ = inspect.Signature([step, state, *own, *call], return_annotation=Decoded)
        return function

    return describe
