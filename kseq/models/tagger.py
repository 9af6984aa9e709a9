"""The tagger of tokens."""

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.ids import NO_ID, Rows, all_valid, integers, one_integer, read_rows, with_nan
from kseq.masking import mask_from_lengths
from kseq.models.encoder import Encoder
from kseq.models.model_inputs import InputNames
from kseq.models.sequence_model import SequenceModel
from kseq.models.token_checks import check_batch, check_characters, check_tags, integer_array
from kseq.models.word_encoder import WordEncoder


@keras.saving.register_keras_serializable(package="kseq")
class Tagger(SequenceModel):
    """An encoder and a classifier of tokens: for parts of speech, named entities, accents or word boundaries.

        logits_t = W h_t + b    with h_t the encoder's output at token t

    Args:
        encoder: An `Encoder` of the tokens, or a `WordEncoder`, which reads their characters as well.
        num_tags: Number of tags, ids 0 to `num_tags - 1`.
        dropout: Share of the encoder's outputs dropped in training; a row's tokens share one dropout mask.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of int tensors: `source` `(batch, time)` and `source_lengths` `(batch,)`; for a `WordEncoder`
            `characters` `(batch, time, characters)` and `characters_lengths` `(batch, time)`; to train and evaluate
            `tags` `(batch, time)`. Padding never changes an answer. `fit`, `predict` and their kin also take lists of
            rows, such as `{"source": [[4, 5], [6]], "tags": [[1, 0], [2]]}`, or RaggedTensors, without lengths; and
            `fit(source, tags)`, where the rows of an array end before their trailing zeros.
        training: Whether dropout is on.

    Returns:
        Logits of each token's tag, float32 `(batch, time, num_tags)`, with a Keras mask of the real tokens.

    `fit` and `evaluate` need no `y`. The default loss is `SequenceCrossEntropy`, the default metric `TokenAccuracy`.

    Raises:
        ValueError: In `fit`, `evaluate`, `predict` and `train_on_batch` with arrays, if one is missing or empty, is not
            of integers, a length does not fit, or an id is out of range. The rows of a dataset are not checked, but
            `kseq.training.bucket_by_length` checks those that it batches. In a compiled step, a row with an id or tag
            out of range or a length that does not fit makes the loss NaN, and has no gradient; without tags its logits
            are NaN.

    Example:
        >>> model = kseq.models.Tagger(kseq.models.Encoder(5000, 64, kseq.cells.LSTMCell(80)), num_tags=17)
        >>> model({"source": np.ones((2, 7), "int32"), "source_lengths": np.array([7, 3])}).shape
        (2, 7, 17)

    Reference: Z. Huang, W. Xu, K. Yu, "Bidirectional LSTM-CRF models for sequence tagging", 2015 (without its CRF).
    """

    names: ClassVar[InputNames] = InputNames(
        x="source",
        y="tags",
        lengths={"source": "source_lengths", "characters": "characters_lengths"},
        ends={"source": 0},
        words=("characters",),
    )

    def __init__(self, encoder: Encoder, num_tags: int, *, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        num_tags = one_integer(num_tags, "num_tags")
        if num_tags < 1:
            raise ValueError(f"num_tags={num_tags}, but a tagger needs at least 1 tag.")
        self.encoder, self.num_tags, self.dropout = encoder, num_tags, float(dropout)
        self.unit_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        self.to_logits = keras.layers.Dense(num_tags, dtype="float32")

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        if not self.encoder.built:  # an encoder loaded from a file is built already
            self.encoder.build()
        self.to_logits.build(self.encoder.encoded_shape().values)

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the logits of each token's tag."""
        rows = self._rows(inputs)
        encoded = self.encoder(*(part for each in rows for part in each[:2]), training=training)
        values = encoded.values[:, : ops.shape(inputs["source"])[1]]  # an encoder pads empty rows to one step
        logits = self.to_logits(self.unit_dropout(values, training=training))
        return logits if training else with_nan(logits, all_valid(*rows))  # in training the labels are wrong

    def compute_mask(self, inputs: Mapping[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which logits belong to real tokens, bool `(batch, time)`; all of a wrong row do."""
        source, *more = self._rows(inputs)
        mask, valid = mask_from_lengths(source.lengths, ops.shape(source.ids)[1]), all_valid(source, *more)
        return mask if valid is None else ops.logical_or(mask, ops.logical_not(valid)[:, None])

    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the tags; in a wrong row a number that is no tag."""
        tags, valid = integers(inputs["tags"], "tags"), all_valid(*self._rows(inputs))
        return tags if valid is None else ops.where(valid[:, None], tags, NO_ID)

    def _rows(self, inputs: Mapping[str, Tensor]) -> list[Rows]:
        """Return the tokens, and for a `WordEncoder` their characters, safe to look up."""
        sizes = {"source": self.encoder.vocabulary_size}
        if isinstance(self.encoder, WordEncoder):
            sizes["characters"] = self.encoder.characters.vocabulary_size
        return [read_rows(inputs[name], inputs[f"{name}_lengths"], size, name=name) for name, size in sizes.items()]

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        check_batch(inputs, {"source": self.encoder.vocabulary_size})
        shape = np.shape(inputs["source"])
        if isinstance(self.encoder, WordEncoder):
            check_characters(inputs, shape, self.encoder.characters.vocabulary_size)
        if "tags" in inputs:
            ignored = getattr(getattr(self, "loss", None), "ignore_label", None)
            lengths = integer_array(inputs["source_lengths"], "source_lengths")
            check_tags(inputs["tags"], lengths, shape, self.num_tags, ignored)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "num_tags": self.num_tags,
            "dropout": self.dropout,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Tagger":
        """Create a tagger from the result of `get_config`."""
        encoder = keras.saving.deserialize_keras_object(config["encoder"], custom_objects=custom_objects)
        return cls(**{**config, "encoder": encoder})
