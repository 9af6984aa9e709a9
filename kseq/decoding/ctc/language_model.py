"""Shallow fusion with any language model that has a step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.checks import batch_of, call_step, check_state, check_token, like, shapes_fit
from kseq.decoding.ctc.scorer import Scorer, check_weights
from kseq.decoding.decoding import LOG_ZERO, Nest, Options
from kseq.decoding.hypotheses import NO_HYPOTHESIS
from kseq.numbers import ids, read_numbers


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageModelScorer(Options, Scorer):
    """Adds `weight * log P(symbol | prefix) + bonus` for every symbol, where P is a language model's probability.

    The model is called once a frame for all prefixes together, each with the symbol that has just extended it.

    It can only be saved if `step` is a function registered with Keras: a configuration holds no weights.

    Attributes:
        step: The model, `step(tokens, state[, memory]) -> (logits, state)`, as for `beam_search`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        memory: The step's memory, a nest of tensors with the batch first; None for a step without one.
        bos_id: The token before the first.
        eos_id: The token that ends a text; its weighted log-probability is added when the utterance ends. None for
            none.
        weight: The factor of the log-probabilities, from -100 to 100.
        bonus: The gain of every symbol in nats, from -50 to 50: language models favour short texts.
        token_ids: The model's token for each class; the entry of the blank is never used. None if tokens and classes
            are the same.

    Raises:
        ValueError: If a number is not finite or too large; when decoding, if the step's output is not as described, or
            a token is outside the vocabulary.
        TypeError: When it is saved, if the step is not a function registered with Keras.

    Example:
        >>> fusion = LanguageModelScorer(step=model.step, state=model.initial_state(8), bos_id=1, weight=0.3, bonus=0.5)
        >>> decoded = ctc_beam_search(logits, logit_lengths, scorers=(fusion,))  # a batch of 8

    Reference: C. Gulcehre et al., "On using monolingual corpora in neural machine translation", 2015.
    """

    step: Callable
    state: Nest
    memory: Nest = None
    bos_id: int
    eos_id: int | None = None
    weight: float = 0.5
    bonus: float = 0.0
    token_ids: Sequence[int] | None = None

    def __post_init__(self) -> None:
        read_numbers(self)
        check_weights(self.weight, self.bonus)
        if self.token_ids is not None:
            object.__setattr__(self, "token_ids", tuple(ids("token_ids", self.token_ids).tolist()))

    def initial_state(self, batch: int | Tensor, classes: int) -> Nest:
        """Call the model with bos, and return its state and the log-probabilities of the first symbol."""
        state = keras.tree.map_structure(ops.convert_to_tensor, self.state)
        rows = batch_of(state)
        if not shapes_fit((rows,), (batch,)):
            raise ValueError(
                f"The language model's state has {rows} rows, but the logits have {batch}. Give a state with the batch "
                "first."
            )
        new_state, log_probabilities = self._predict(state, ops.full((rows,), self.bos_id, dtype="int32"), classes)
        return new_state, log_probabilities

    def score(self, state: Nest, tokens: Tensor) -> Tensor:
        """Return the weighted log-probabilities of `tokens`."""
        classes = state[1].shape[-1] - 1
        rows = ops.arange(ops.shape(tokens)[0], dtype="int32")[:, None] * (classes + 1)
        values = ops.take(ops.reshape(state[1], (-1,)), rows + tokens, axis=0)
        return ops.where(values > NO_HYPOTHESIS, self.weight * values + self.bonus, LOG_ZERO)

    def advance(self, state: Nest, tokens: Tensor) -> Nest:
        """Call the model with the symbols."""
        classes = state[1].shape[-1] - 1
        return self._predict(state[0], ops.take(self._ids(classes), tokens, axis=0), classes)

    def finish(self, state: Nest) -> Tensor | float:
        """Return the weighted log-probability of eos."""
        if self.eos_id is None:
            return 0.0
        values = state[1][:, -1]
        return ops.where(values > NO_HYPOTHESIS, self.weight * values, LOG_ZERO)

    def get_config(self) -> dict[str, Any]:
        """Return the fields, serialised."""
        name = getattr(self.step, "__name__", None)
        if name is None or hasattr(self.step, "__self__") or keras.saving.get_registered_name(self.step) == name:
            raise TypeError(
                f"A LanguageModelScorer is saved with its step by name, but {self.step} is no function registered by "
                "keras.saving.register_keras_serializable. Save the model by itself, and make the scorer again."
            )
        return super().get_config()

    def _predict(self, state: Nest, last: Tensor, classes: int) -> tuple[Nest, Tensor]:
        """Return the model's state and log-probabilities `(rows, classes + 1)`: of all classes, then of eos."""
        output = call_step(self.step, last, state, self.memory)
        logits, new_state = output.logits, output.state
        check_state(state, new_state)
        tokens = self._ids(classes)
        for name, token in [("a token of token_ids", tokens.max()), ("a token of token_ids", tokens.min())]:
            check_token(name, int(token), logits.shape[-1])
        check_token("eos_id", self.eos_id or 0, logits.shape[-1])
        columns = np.append(tokens, self.eos_id or 0).astype("int32")
        log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        log_probabilities = ops.maximum(ops.take(log_probabilities, columns, axis=1), LOG_ZERO)
        return like(state, new_state), log_probabilities

    def _ids(self, classes: int) -> np.ndarray:
        if self.token_ids is None:
            return np.arange(classes, dtype="int32")
        if len(self.token_ids) != classes:
            raise ValueError(
                f"token_ids has {len(self.token_ids)} tokens, but there are {classes} classes. Give one for each "
                "class; for the blank any will do."
            )
        return np.asarray(self.token_ids, dtype="int32")
