"""The sequence-to-sequence model."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding import StepOutput
from kseq.masking import mask_from_lengths
from kseq.models.decoder import Decoder, DecoderMemory, DecoderState
from kseq.models.encoder import Encoder
from kseq.models.encoder_decoder import EncoderDecoder, check_model_tokenizers
from kseq.models.sequence_model import SequenceModel
from kseq.models.token_checks import check_batch


@keras.saving.register_keras_serializable(package="kseq")
class Seq2Seq(EncoderDecoder, SequenceModel):
    """An encoder and a decoder, trained by teacher forcing and decoded by any strategy of `kseq.decoding`.

    Args:
        encoder: The encoder of the source.
        decoder: The decoder of the target.
        bos_id: Id of the token that begins a target.
        eos_id: Id of the token that ends a target.
        pad_id: Id of the padding.
        source_tokenizer: The tokenizer of the sources, for `translate` and the export; saved with the model. None:
            the model reads and writes ids alone.
        target_tokenizer: The tokenizer of the targets.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of int tensors: `source` `(batch, source time)`, `source_lengths` `(batch,)`, `target` `(batch,
            target time)` with begin and end tokens, and `target_lengths` `(batch,)`, which count both.
        training: Whether dropout is on.

    Returns:
        Logits of the tokens after the first, float32 `(batch, target time - 1, vocabulary)`, with a Keras mask of the
        real tokens.

    `fit` and `evaluate` need no `y`: the labels are the target without its first token. The default loss is
    `SequenceCrossEntropy`, the default metric `TokenAccuracy`.

    Raises:
        ValueError: In `fit`, `evaluate`, `predict` and `train_on_batch` with arrays, if one is missing or empty, a
            length does not fit, or a token id is outside its vocabulary. The rows of a dataset are not checked, but
            `kseq.training.bucket_by_length` checks those that it batches. In a step compiled by XLA, an id outside the
            vocabulary reads another token's embedding, and makes the loss NaN if it is a label.

    Example:
        >>> model = kseq.models.Seq2Seq(
        ...     kseq.models.Encoder(100, 32, kseq.cells.GRUCell(64)),
        ...     kseq.models.Decoder(80, 32, kseq.cells.GRUCell(64)), bos_id=2, eos_id=3)
        >>> model.compile("adam")
        >>> model.fit({"source": ..., "source_lengths": ..., "target": ..., "target_lengths": ...})
        >>> model.decode(source, source_lengths, strategy=kseq.decoding.BeamSearch(beam_width=4), max_length=20).tokens
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        *,
        bos_id: int = 2,
        eos_id: int = 3,
        pad_id: int = 0,
        source_tokenizer: Any = None,
        target_tokenizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder
        self.bos_id, self.eos_id, self.pad_id = bos_id, eos_id, pad_id
        check_model_tokenizers(self, source_tokenizer, target_tokenizer)
        self.source_tokenizer, self.target_tokenizer = source_tokenizer, target_tokenizer

    @property
    def source_vocabulary_size(self) -> int:
        """Number of token ids that the encoder knows."""
        return self.encoder.vocabulary_size

    @property
    def target_vocabulary_size(self) -> int:
        """Number of token ids that the decoder knows."""
        return self.decoder.vocabulary_size

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        if not self.encoder.built:  # parts loaded from a file are built already
            self.encoder.build()
        if not self.decoder.built:
            self.decoder.build((None, None), self.encoder.encoded_shape())

    def call(self, inputs: dict[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the logits of each target token, given the true tokens before it."""
        encoded = self.encoder(inputs["source"], inputs["source_lengths"], training=training)
        return self.decoder(inputs["target"][:, :-1], encoded, training=training)

    def compute_mask(self, inputs: dict[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which logits belong to real tokens, bool `(batch, target time - 1)`."""
        return mask_from_lengths(inputs["target_lengths"] - 1, ops.shape(inputs["target"])[1] - 1)

    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the target's tokens after the first."""
        return inputs["target"][:, 1:]

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        check_batch(inputs, {"source": self.source_vocabulary_size, "target": self.target_vocabulary_size})

    def encode(self, source: Tensor, source_lengths: Tensor) -> tuple[DecoderState, DecoderMemory]:
        """Return the decoder's initial state and memory for `source` `(batch, time)`, its lengths int `(batch,)`."""
        encoded = self.encoder(source, source_lengths, training=False)
        return self.decoder.initial_state(encoded), self.decoder.memory(encoded)

    def step(self, tokens: Tensor, state: DecoderState, memory: DecoderMemory) -> StepOutput:
        """Run one decoding step, see `Decoder.step`."""
        return self.decoder.step(tokens, state, memory)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "decoder": keras.saving.serialize_keras_object(self.decoder),
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "pad_id": self.pad_id,
            "source_tokenizer": keras.saving.serialize_keras_object(self.source_tokenizer),
            "target_tokenizer": keras.saving.serialize_keras_object(self.target_tokenizer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Seq2Seq":
        """Create a model from the result of `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config.get(name), custom_objects=custom_objects)
            for name in ("encoder", "decoder", "source_tokenizer", "target_tokenizer")
        }
        return cls(**{**config, **parts})
