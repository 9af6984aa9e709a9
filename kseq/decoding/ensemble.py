"""Steps made of several models' steps: ensembles, and fusion with a language model."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.checks import call_step, like, log_probabilities_of
from kseq.decoding.decoding import LOG_ZERO, Nest, StepOutput
from kseq.numbers import read_numbers, real

Mean = Literal["probabilities", "log_probabilities"]


@dataclass(frozen=True, kw_only=True)
class EnsembleStep:
    """The mean of several models' predictions as a step for any strategy.

    With weights w that sum to one, the next token's probability is

    - `sum_i w_i p_i(token)` for "probabilities";
    - `prod_i p_i(token) ** w_i / Z` for "log_probabilities", normalised at every step by Z.

    Call arguments:
        tokens: int32 `(rows,)`, the input of all models, which have one vocabulary.
        state: A tuple of the models' states.
        memory: A tuple of their memories, with None for a step without; leave it out if no step has one.

    Returns:
        `StepOutput`. The logits are the logarithm of the mean. The alignments are the weighted mean of the models'
        alignments, which must have one length, if all return them. Hidden is the concatenation of the models', if all
        return it.

    Attributes:
        steps: The models' steps.
        weights: One for each step, above 0; they are divided by their sum. None: all equal.
        mean: What is averaged, "probabilities" or "log_probabilities".

    Raises:
        ValueError: If there is no step, an option is out of range, or the models' vocabularies differ.

    Example:
        >>> step = EnsembleStep(steps=(first.step, second.step))
        >>> states, memories = zip(first.encode(source, lengths), second.encode(source, lengths))
        >>> beam_search(step, tuple(states), memory=tuple(memories), bos_id=2, eos_id=3, max_length=9)
    """

    steps: Sequence[Callable]
    weights: Sequence[float] | None = None
    mean: Mean = "probabilities"

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if not self.steps:
            raise ValueError("An ensemble needs a step or several, but got none.")
        check_weights(self.weights, len(self.steps))
        if self.mean not in get_args(Mean):
            raise ValueError(f"mean must be one of {get_args(Mean)}, but got {self.mean!r}.")

    def __call__(self, tokens: Tensor, state: Nest, memory: Nest = None) -> StepOutput:
        """Call the models and take the mean."""
        outputs = _call_all(self.steps, tokens, state, memory)
        log_probabilities = [log_probabilities_of(output) for output in outputs]
        weights = normalised(self.weights, len(self.steps))
        if self.mean == "probabilities":
            # In log space: probabilities below exp(-87) would become zero.
            shares = [x + math.log(w) for w, x in zip(weights, log_probabilities, strict=True) if w > 0]
            logits = ops.logsumexp(ops.stack(shares), axis=0)
        else:
            logits = _weighted(weights, log_probabilities)
        alignments = [output.alignments for output in outputs]
        hidden = [output.hidden for output in outputs]
        return StepOutput(
            ops.maximum(logits, LOG_ZERO),
            tuple(output.state for output in outputs),
            None if any(x is None for x in alignments) else _weighted(weights, alignments),
            None if any(x is None for x in hidden) else ops.concatenate(hidden, axis=-1),
        )


@dataclass(frozen=True, kw_only=True)
class FusionStep:
    """A model's step and a language model's as one step for any strategy (shallow fusion).

    The next token's log-probability is `log p(token) + weight * log q(token) - log Z`, where q is the language model's
    probability and Z normalises each step. So scores stay log-probabilities, and every strategy, sampling too, works
    unchanged. For CTC there is `LanguageModelScorer`.

    Call arguments:
        tokens: int32 `(rows,)`, the input of both models, which have one vocabulary.
        state: The model's state and the language model's, a tuple of two.
        memory: The model's memory and the language model's, a tuple of two, with None for a step without; leave it
            out if neither has one.

    Returns:
        `StepOutput` with the model's alignments and hidden.

    Attributes:
        step: The model's step.
        language_model: The language model's step.
        weight: The factor of its log-probabilities, 0 or more.

    Raises:
        ValueError: If the weight is negative, or the vocabularies differ.

    Example:
        >>> step = FusionStep(step=model.step, language_model=language_model.step, weight=0.3)
        >>> states = (state, language_model.initial_state(8))
        >>> beam_search(step, states, memory=(memory, None), bos_id=2, eos_id=3, max_length=9)

    Reference: C. Gulcehre et al., "On using monolingual corpora in neural machine translation", 2015.
    """

    step: Callable
    language_model: Callable
    weight: float = 0.3

    def __post_init__(self) -> None:
        read_numbers(self)
        if self.weight < 0:
            raise ValueError(f"weight must be 0 or more, but got weight={self.weight}.")

    def __call__(self, tokens: Tensor, state: Nest, memory: Nest = None) -> StepOutput:
        """Call both models and add their log-probabilities."""
        output, language = _call_all((self.step, self.language_model), tokens, state, memory)
        logits = log_probabilities_of(output) + self.weight * log_probabilities_of(language)
        states = output.state, language.state
        return StepOutput(ops.maximum(logits, LOG_ZERO), states, output.alignments, output.hidden)


def check_weights(weights: Sequence[float] | None, count: int) -> None:
    """Raise unless `weights` has one weight above 0 for each of `count` models."""
    numbers = [1.0] * count if weights is None else [real("weights", weight) for weight in weights]
    if len(numbers) != count or min(numbers) <= 0:
        raise ValueError(f"weights must be one for each of the {count} models, above 0, but got {weights}.")


def normalised(weights: Sequence[float] | None, count: int) -> list[float]:
    """Return the weights, divided by their sum."""
    given = [1.0] * count if weights is None else weights
    return [float(weight) / sum(given) for weight in given]


def _call_all(steps: Sequence[Callable], tokens: Tensor, states: Nest, memories: Nest) -> list:
    memories = [None] * len(steps) if memories is None else memories
    for name, given in (("state", states), ("memory", memories)):
        if not isinstance(given, tuple | list) or len(given) != len(steps):
            raise ValueError(
                f"{name} must be a tuple of {len(steps)}, one for each model, but is a {type(given).__name__}"
                + (f" of {len(given)}." if isinstance(given, tuple | list) else ".")
            )
    outputs = [
        call_step(step, tokens, state, memory) for step, state, memory in zip(steps, states, memories, strict=True)
    ]
    sizes = [output.logits.shape[-1] for output in outputs]
    if len(set(sizes)) > 1:
        raise ValueError(f"The models' logits have {sizes} classes, but they must have one vocabulary.")
    return [output._replace(state=like(state, output.state)) for output, state in zip(outputs, states, strict=True)]


def _log_probabilities(output: StepOutput) -> Tensor:
    return ops.maximum(ops.log_softmax(ops.cast(output.logits, "float32"), axis=-1), LOG_ZERO)


def _weighted(weights: list[float], values: list) -> Tensor:
    return keras.tree.map_structure(lambda *x: sum(w * v for w, v in zip(weights, x, strict=True)), *values)
