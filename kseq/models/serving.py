"""What a model says about itself so that it can be exported: what it is fed, and what it answers.

An exported model is anything with a method `serving(options) -> Serving`; the export knows no kind of model by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kseq.backend import Tensor


@dataclass(frozen=True)
class ServingOptions:
    """What `kseq.export_saved_model` was asked for, as far as it concerns the model.

    Attributes:
        strategy: How to decode; None for the model's plainest way.
        source: Tokenizer of the inputs, or None.
        target: Tokenizer of the outputs, or None.
        max_length: The most tokens to write; None if it was not said.
        longest: The most steps that a row of the inputs has.
        seed_input: Whether requests give the seed of each row.
        alignments: Whether the answer is to hold `alignments`, float `(batch, n, time, steps)`, which are sent to the
            client, or unknown tokens of a text replaced with them.
    """

    strategy: Callable[..., Any] | None
    source: Any
    target: Any
    max_length: int | None
    longest: int
    seed_input: bool = False
    alignments: bool = False


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """Sequences of steps, and how many of them are real, as a signature has them.

    Attributes:
        name: The sequences' name; that of their lengths is `lengths`.
        dtype: Their type.
        step_shape: The shape of a step: none for a token, `(features,)` for a frame.
        pad_value: What fills them up.
        vocabulary_size: Tokens outside `[0, vocabulary_size)` are refused; None for what is no token.
    """

    name: str
    dtype: str
    step_shape: tuple[int, ...] = ()
    pad_value: int = 0
    vocabulary_size: int | None = None

    def sample(self, size: int, length: int) -> dict[str, np.ndarray]:
        """Return a request of `size` rows of `length` steps."""
        steps = np.zeros((size, length, *self.step_shape), self.dtype)
        return {self.name: steps, "lengths": np.full(size, length, "int32")}


class Serving(NamedTuple):
    """How a model is served.

    Attributes:
        inputs: What it is fed, unless a `source` tokenizer feeds it.
        answer: A pure function `(steps (batch, time, ...), lengths int32 (batch,)) -> {name: tensor (batch, ...)}` that
            XLA compiles, and in which no row touches another; with `ServingOptions.seed_input` it takes the rows' seeds
            too, int64 `(batch,)`. If there is a `target` tokenizer, what the answer's
            `tokens`, int32 `(batch, n, time)`, spell is given as `text`.
    """

    inputs: StepInputs
    answer: Callable[..., dict[str, Tensor]]


def serving_of_decoder(model: Any, options: ServingOptions) -> Serving:
    """Return how a model is served that reads tokens and writes tokens.

    Args:
        model: Has `decode(source, source_lengths, strategy=..., max_length=...) -> Decoded`, `pad_id`, `bos_id`,
            `eos_id`, `source_vocabulary_size` and `target_vocabulary_size`, as `kseq.models.Seq2Seq` does.
        options: What was asked for; `max_length` is by default twice the longest input.

    Raises:
        ValueError: If a tokenizer is not that of the model, or seeds are to be given to a strategy that draws nothing.
    """
    _check_tokenizers(model, options.source, options.target)
    if options.seed_input and not getattr(options.strategy, "draws", False):
        raise ValueError(
            f"seed_input=True needs a strategy that draws random numbers, such as kseq.decoding.Sampling(), but got "
            f"{options.strategy!r}."
        )
    max_length = 2 * options.longest if options.max_length is None else options.max_length

    def answer(steps: Tensor, lengths: Tensor, *seed: Tensor) -> dict[str, Tensor]:
        call = {"seed": seed[0]} if seed else {}
        decoded = model.decode(steps, lengths, strategy=options.strategy, max_length=max_length, **call)
        outputs = {"tokens": decoded.tokens, "lengths": decoded.lengths, "scores": decoded.scores}
        if not options.alignments:
            return outputs
        if decoded.alignments is None:
            raise ValueError(
                "replace_unknown=True or alignments=True needs a model with attention, but its steps give no "
                "alignments."
            )
        return {**outputs, "alignments": decoded.alignments}

    size = model.source_vocabulary_size
    return Serving(StepInputs(name="tokens", dtype="int32", pad_value=model.pad_id, vocabulary_size=size), answer)


def serving_of_recognizer(model: Any, options: ServingOptions) -> Serving:
    """Return how a model is served that reads frames and writes tokens by CTC.

    Args:
        model: Has `decode(features, lengths, strategy=...) -> CTCDecoded`, `feature_size`, `num_classes` and
            `blank_index`, as `kseq.models.CTCRecognizer` does.
        options: What was asked for.

    Raises:
        ValueError: If there is a `source` tokenizer, a `max_length` or a `seed_input`, or the `target` tokenizer is not
            the model's.
    """
    if options.seed_input or options.alignments:
        raise ValueError(
            f"seed_input={options.seed_input}, replace_unknown or alignments={options.alignments}, but a recognizer "
            "draws no random numbers, and attends to no source tokens. Leave them out."
        )
    if options.source is not None or options.max_length is not None:
        raise ValueError(
            "A recognizer reads features and writes at most one token a frame, but was given "
            f"source={options.source!r} and max_length={options.max_length}. Leave both out."
        )
    target = options.target
    if target is not None and (target.vocabulary_size, target.pad_id) != (model.num_classes, model.blank_index):
        raise ValueError(
            f"The target tokenizer has {target.vocabulary_size} ids and the pad token {target.pad_id}, but the model "
            f"{model.num_classes} classes and the blank {model.blank_index}. Export with the tokenizer whose ids the "
            "model was trained on, or leave target out and map the tokens yourself."
        )

    def answer(steps: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        return model.decode(steps, lengths, strategy=options.strategy)._asdict()

    return Serving(StepInputs(name="features", dtype="float32", step_shape=(model.feature_size,)), answer)


def _check_tokenizers(model: Any, source: Any, target: Any) -> None:
    if source is not None and source.vocabulary_size > model.source_vocabulary_size:
        raise ValueError(
            f"The source tokenizer has {source.vocabulary_size} ids, but the model reads "
            f"{model.source_vocabulary_size}. Export with the tokenizer that the model was trained with."
        )
    if target is None:
        return
    of_model = {"vocabulary_size": model.target_vocabulary_size, "bos_id": model.bos_id, "eos_id": model.eos_id}
    of_tokenizer = {name: getattr(target, name) for name in of_model}
    if of_model != of_tokenizer:
        raise ValueError(
            f"The target tokenizer has {of_tokenizer}, but the model {of_model}. Export with the tokenizer that the "
            "model was trained with."
        )
