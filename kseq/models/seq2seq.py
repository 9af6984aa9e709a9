"""Sequence to sequence."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding import StepOutput
from kseq.masking import mask_from_lengths
from kseq.models.checks import check_batch
from kseq.models.decoder import Decoder, DecoderMemory, DecoderState
from kseq.models.encoder import Encoder
from kseq.models.sequence_model import SequenceModel
from kseq.models.translator import Translator


@keras.saving.register_keras_serializable(package="kseq")
class Seq2Seq(Translator, SequenceModel):
    """An encoder and a decoder, trained by teacher forcing and decoded by any strategy of `kseq.decoding`.

    Args:
        encoder: Reads the source.
        decoder: Writes the target.
        bos_id: Id of the token that begins a target.
        eos_id: Id of the token that ends it.
        pad_id: Id of the token that fills it up.
        **kwargs: Those of `keras.Model`.

    Call arguments:
        inputs: A dict of int tensors: `source` `(batch, source time)`, `source_lengths` `(batch,)`, `target` `(batch,
            target time)` with its begin and end tokens, and `target_lengths` `(batch,)` that count both.
        training: Whether dropout is on.

    Returns:
        Logits of the tokens after the first, float32 `(batch, target time - 1, vocabulary)`, with a mask that leaves
        the real ones.

    `fit` and `evaluate` need no `y`: the labels are the target without its first token. The default loss is
    `SequenceCrossEntropy`, the default metric `TokenAccuracy`.

    Raises:
        ValueError: In `fit`, `evaluate`, `predict` and `train_on_batch` with arrays, if one is missing or empty, a
            length does not fit, or a token id is outside its vocabulary. The rows of a dataset are not looked at:
            `kseq.training.bucket_by_length` checks them when it makes one. Compiled by XLA, an id outside the
            vocabulary reads another token's embedding, and as a label makes the loss NaN.

    Example:
        >>> model = kseq.models.Seq2Seq(
        ...     kseq.models.Encoder(100, 32, kseq.cells.GRUCell(64)),
        ...     kseq.models.Decoder(80, 32, kseq.cells.GRUCell(64)), bos_id=2, eos_id=3)
        >>> model.compile("adam")
        >>> model.fit({"source": ..., "source_lengths": ..., "target": ..., "target_lengths": ...})
        >>> model.decode(source, source_lengths, strategy=kseq.decoding.BeamSearch(beam_width=4), max_length=20).tokens
    """

    def __init__(
        self, encoder: Encoder, decoder: Decoder, *, bos_id: int = 2, eos_id: int = 3, pad_id: int = 0, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder
        self.bos_id, self.eos_id, self.pad_id = bos_id, eos_id, pad_id

    @property
    def source_vocabulary_size(self) -> int:
        """Number of token ids that the encoder knows."""
        return self.encoder.vocabulary_size

    @property
    def target_vocabulary_size(self) -> int:
        """Number of token ids that the decoder knows."""
        return self.decoder.vocabulary_size

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; they depend on no shape."""
        del inputs_shape
        if not self.encoder.built:  # parts that were loaded from a file are
            self.encoder.build()
        if not self.decoder.built:
            self.decoder.build((None, None), self.encoder.encoded_shape())

    def call(self, inputs: dict[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the logits of each target token, given those before it."""
        encoded = self.encoder(inputs["source"], inputs["source_lengths"], training=training)
        return self.decoder(inputs["target"][:, :-1], encoded, training=training)

    def compute_mask(self, inputs: dict[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which logits stand for a real token, bool `(batch, target time - 1)`."""
        del previous_mask
        return mask_from_lengths(inputs["target_lengths"] - 1, ops.shape(inputs["target"])[1] - 1)

    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the target's tokens after the first."""
        return inputs["target"][:, 1:]

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if `inputs`, arrays, are not what the model takes."""
        check_batch(inputs, {"source": self.source_vocabulary_size, "target": self.target_vocabulary_size})

    def encode(self, source: Tensor, source_lengths: Tensor) -> tuple[DecoderState, DecoderMemory]:
        """Return the decoder's first state and its memory for a source `(batch, time)` of int `lengths (batch,)`."""
        encoded = self.encoder(source, source_lengths, training=False)
        return self.decoder.initial_state(encoded), self.decoder.memory(encoded)

    def step(self, tokens: Tensor, state: DecoderState, memory: DecoderMemory) -> StepOutput:
        """Take one decoding step, see `Decoder.step`."""
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
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Seq2Seq":
        """Make a model from `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("encoder", "decoder")
        }
        return cls(**{**config, **parts})
