"""The decoder of the scores of tags: each token's best tag, or the best sequence of tags."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding import crf_decode, crf_marginals
from kseq.tag_schemes import AllowedTransitions


class TagDecoder:
    """Decodes the scores of tags, with the scores of a CRF's transitions, without forbidden transitions, or both.

    Args:
        num_tags: Number of tags.
        crf: A `kseq.layers.CRF`, or None: all transitions have the score 0.
        allowed: Which transitions are allowed, or None: all.

    Attributes:
        weights: Values of the CRF's weights by name, in place of its variables: Keras's training on JAX takes the
            values out of a model's variables while a step computes metrics. None: the variables.
    """

    def __init__(self, num_tags: int, crf: Any, allowed: AllowedTransitions | None):
        self.num_tags, self.crf, self.allowed = num_tags, crf, allowed
        self.weights: dict[str, Tensor] | None = None

    @property
    def by_token(self) -> bool:
        """Whether each token's tag depends on its own scores alone."""
        return self.crf is None and self.allowed is None

    def tags(self, logits: Tensor, lengths: Tensor) -> Tensor:
        """Return the best tags, int32 `(batch, time)`, of scores float `(batch, time, tags)`, of any in the padding."""
        if self.by_token:
            return ops.cast(ops.argmax(logits, axis=-1), "int32")
        return crf_decode(logits, lengths, **self._chain())[0][:, 0]

    def probabilities(self, logits: Tensor, lengths: Tensor) -> Tensor:
        """Return the probability of each token's tags, summed over the sequences, float32 `(batch, time, tags)`."""
        if self.by_token:
            return ops.softmax(logits, axis=-1)
        return crf_marginals(logits, lengths, **self._chain())

    def _chain(self) -> dict[str, Any]:
        if self.crf is None:
            zeros = np.zeros((self.num_tags, self.num_tags), "float32")
            return {"transitions": zeros, "allowed": self.allowed}
        return {**self.crf.transition_scores(), "allowed": self.allowed, **(self.weights or {})}

    @contextlib.contextmanager
    def values_of_step(self, model: Any, args: Sequence[Any]) -> Iterator[None]:
        """Take the CRF's weights from the arguments of a step of training or evaluation, on JAX `(state, data)`."""
        if self.crf is not None and len(args) > 1:
            trainable, others = args[0][:2]
            pairs = zip(
                [*model.trainable_variables, *model.non_trainable_variables], [*trainable, *others], strict=True
            )
            values = {id(variable): value for variable, value in pairs}
            self.weights = {name: values[id(getattr(self.crf, name))] for name in ("transitions", "start", "end")}
        try:
            yield
        finally:
            self.weights = None
