"""Word vectors whose products are the logarithms of how often words occur together."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.ids import check_ids, integers, known_integers
from kseq.inner_layers import freeze_inner_layers
from kseq.models.word_vectors.word_model import WordModel
from kseq.numbers import real


@keras.saving.register_keras_serializable(package="kseq")
class GloVe(WordModel):
    r"""Learns vectors of words from the counts with which pairs of words occur near each other.

        loss of a pair = f(x) (v_i u_j + b_i + c_j - log x)^2 / 2    f(x) = min(1, (x / x_max)^power)

    with the pair's count `x`, two vectors `v` and `u` and two biases of each word. The result is `v + u`.

    Args:
        vocabulary_size: Number of word ids.
        dim: Size of a vector.
        x_max: Count from which on pairs have the full weight, 1.
        power: Exponent of the weight of rarer pairs.
        source_tokenizer: The tokenizer of the words, saved with the model. None: `word_vectors` needs a vocabulary, and
            the model cannot be exported.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of `word` and `context`, int `(batch,)`, and `count`, float `(batch,)`, as
            `kseq.training.co_occurrences` makes it. A row with an id outside the vocabulary, or a count that is not
            more than 0, has the loss NaN.

    Returns:
        The loss of each pair, float32 `(batch,)`. `fit` minimises their sum and shows the mean.

    Raises:
        ValueError: If a number is not positive, or the tokenizer does not fit; in `fit`, if an id or a count in arrays
            is out of range.

    Example:
        >>> tokenizer = kseq.text.WordTokenizer().adapt(texts, min_count=5)
        >>> model = kseq.models.GloVe(tokenizer.vocabulary_size, 100, source_tokenizer=tokenizer)
        >>> model.compile()
        >>> model.fit(kseq.training.co_occurrences(tokenizer, texts), batch_size=1024, epochs=30)
        >>> model.word_vectors().nearest("king", 3)

    Reference: J. Pennington, R. Socher, C. Manning, "GloVe: global vectors for word representation", 2014.
    """

    names = ("word", "context", "count")
    maker = "co_occurrences"

    def __init__(
        self,
        vocabulary_size: int,
        dim: int = 100,
        *,
        x_max: float = 100.0,
        power: float = 0.75,
        source_tokenizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(vocabulary_size, dim, source_tokenizer=source_tokenizer, **kwargs)
        self.x_max, self.power = real("x_max", x_max), real("power", power)
        if self.x_max <= 0 or self.power < 0:
            raise ValueError(f"x_max={x_max} must be more than 0, and power={power} at least 0.")
        small = keras.initializers.RandomUniform(-0.5 / self.dim, 0.5 / self.dim)
        self.context_embedding = keras.layers.Embedding(
            self.vocabulary_size, self.dim, embeddings_initializer=small, dtype=self.dtype_policy
        )
        self.word_bias, self.context_bias = (
            keras.layers.Embedding(self.vocabulary_size, 1, embeddings_initializer="zeros", dtype=self.dtype_policy)
            for _ in range(2)
        )
        freeze_inner_layers(self)

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        super().build()
        for layer in (self.context_embedding, self.word_bias, self.context_bias):
            if not layer.built:
                layer.build()

    def compile(self, optimizer: Any = None, loss: Any = None, **kwargs: Any) -> None:
        """Configure the training, see `WordModel.compile`; `optimizer` is AdaGrad with the rate 0.5 unless given.

        The rate of the paper is 0.05, for a step after each pair; the pairs of a batch share one step.
        """
        if optimizer is None:
            optimizer = keras.optimizers.Adagrad(0.5, initial_accumulator_value=1.0)
        super().compile(optimizer, loss, **kwargs)

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the loss of each pair, float32 `(batch,)`."""
        self.check_axes(inputs)
        word, context = integers(inputs["word"], "word"), integers(inputs["context"], "context")
        safe_word, safe_context = (ops.clip(ids, 0, self.vocabulary_size - 1) for ids in (word, context))
        count = ops.cast(inputs["count"], "float32")
        valid = ops.logical_and(ops.logical_and(safe_word == word, safe_context == context), count > 0)
        count = ops.where(valid, count, 1.0)
        products = ops.sum(self.embedding(safe_word) * self.context_embedding(safe_context), axis=-1)
        biases = self.word_bias(safe_word)[:, 0] + self.context_bias(safe_context)[:, 0]
        difference = ops.cast(products + biases, "float32") - ops.log(count)
        weight = ops.power(ops.minimum(count / self.x_max, 1.0), self.power)
        return ops.where(valid, 0.5 * weight * ops.square(difference), np.nan)

    def loss_weight(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the number of pairs."""
        return ops.shape(inputs["count"])[0]

    def matrix(self) -> Tensor:
        """Return the sums of the two vectors of all ids, float `(vocabulary_size, dim)`."""
        return super().matrix() + ops.convert_to_tensor(self.context_embedding.embeddings)

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Raise ValueError if an id is outside the vocabulary, or a count is not a number above 0."""
        super().check_inputs(inputs)
        for name in ("word", "context"):
            known = known_integers(inputs[name], name)
            if known is not None:
                check_ids(known, self.vocabulary_size, name)
        counts = np.asarray(inputs["count"])
        if counts.dtype.kind not in "iuf":
            raise ValueError(f"count has dtype {counts.dtype}, but counts are numbers above 0.")
        if not (counts > 0).all() or not np.isfinite(counts).all():
            place = int(np.flatnonzero(~((counts > 0) & np.isfinite(counts)))[0])
            raise ValueError(f"count[{place}] = {counts[place]}, but counts are more than 0. Leave other pairs out.")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "x_max": self.x_max, "power": self.power}
