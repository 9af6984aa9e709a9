"""The sequence-to-sequence model."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding import StepOutput
from kseq.ids import NO_ID, Rows, all_valid, read_rows, with_nan
from kseq.inner_layers import freeze_inner_layers
from kseq.masking import mask_from_lengths
from kseq.models.decoders.decoder import Decoder, DecoderMemory, DecoderState
from kseq.models.encoder_decoder import EncoderDecoder, check_model_tokenizers
from kseq.models.encoders.encoder import Encoder
from kseq.models.inputs.checked_batches import TargetEnds
from kseq.models.inputs.model_inputs import InputNames
from kseq.models.inputs.shared_batch import once_per_batch
from kseq.models.inputs.text_batches import loaded_parts
from kseq.models.inputs.token_checks import check_batch, check_rows
from kseq.models.sequence_model import SequenceModel
from kseq.numbers import whole


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
        check_target: Whether `fit` and `train_on_batch` refuse targets that do not begin with `bos_id` and end with
            `eos_id`, in arrays and in the batches of datasets and generators.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of int tensors: `source` `(batch, source time)`, `source_lengths` `(batch,)`, `target` `(batch,
            target time)` with begin and end tokens, and `target_lengths` `(batch,)`, which count both. `fit`,
            `evaluate` and their kin also take lists of rows, such as `{"source": [[4, 5], [6]], "target": [[2, 7, 3],
            [2, 3]]}`, or RaggedTensors, without lengths; and `fit(source, target)`, where the rows of an array end
            before their trailing `pad_id`.
        training: Whether dropout is on.

    Returns:
        Logits of the tokens after the first, float32 `(batch, target time - 1, vocabulary)`, with a Keras mask of the
        real tokens. `predict` returns them too; `decode` writes targets.

    `fit` and `evaluate` need no `y`: the labels are the target without its first token. The default loss is
    `SequenceCrossEntropy`, the default metric `TokenAccuracy`.

    Raises:
        ValueError: In `fit`, `evaluate`, `predict` and `train_on_batch` with arrays, if one is missing or empty, is not
            of integers, a length does not fit, a token id is outside its vocabulary, or a target to train on lacks its
            begin or end token. Of the rows of a dataset only these two tokens are checked, but
            `kseq.training.bucket_by_length` checks those that it batches. In a compiled step, a row with an id outside
            the vocabulary or a length that does not fit makes the loss NaN, and has no gradient; without labels its
            logits are NaN.

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
        check_target: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.encoder, self.decoder = encoder, decoder
        self.bos_id, self.eos_id = whole("bos_id", bos_id), whole("eos_id", eos_id)
        self.pad_id, self.check_target = whole("pad_id", pad_id), bool(check_target)
        check_model_tokenizers(self, source_tokenizer, target_tokenizer)
        self.source_tokenizer, self.target_tokenizer = source_tokenizer, target_tokenizer
        freeze_inner_layers(self)

    @property
    def names(self) -> InputNames:
        """Names of the inputs."""
        lengths = {"source": "source_lengths", "target": "target_lengths"}
        ends = {"source": self.pad_id, "target": self.pad_id}
        return InputNames("source", "target", lengths, ends)

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
        source, target, valid = self._rows(inputs)
        encoded = self.encoder(source.ids, source.lengths, training=training)
        logits = self.decoder(target.ids[:, :-1], encoded, training=training)
        return logits if training else with_nan(logits, valid)  # in training the labels are wrong

    @once_per_batch
    def compute_mask(self, inputs: dict[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which logits belong to real tokens, bool `(batch, target time - 1)`; all of a wrong row do."""
        _, target, valid = self._rows(inputs)
        mask = mask_from_lengths(target.lengths - 1, ops.shape(target.ids)[1] - 1)
        return mask if valid is None else ops.logical_or(mask, ops.logical_not(valid)[:, None])

    @once_per_batch
    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the target's tokens after the first; in a wrong row a number that is no token id."""
        _, target, valid = self._rows(inputs)
        labels = target.ids[:, 1:]
        return labels if valid is None else ops.where(valid[:, None], labels, NO_ID)

    @once_per_batch
    def _rows(self, inputs: Mapping[str, Tensor]) -> tuple[Rows, Rows, Tensor | None]:
        """Return source and target, safe to look up, and which rows are valid in both, see `all_valid`."""
        sizes = {"source": self.source_vocabulary_size, "target": self.target_vocabulary_size}
        source, target = (read_rows(inputs[n], inputs[f"{n}_lengths"], size, name=n) for n, size in sizes.items())
        return source, target, all_valid(source, target)

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        if isinstance(inputs, Mapping) and "source" in inputs and "target" not in inputs:
            raise ValueError(
                f"The inputs {sorted(inputs)} lack the target, whose logits this method computes. To write targets use "
                "model.decode(source, source_lengths, strategy=kseq.decoding.GreedySearch(), max_length=...)."
            )
        check_batch(inputs, {"source": self.source_vocabulary_size, "target": self.target_vocabulary_size})
        check_rows(inputs, ("source", "target"))

    def check_targets(self, inputs: Mapping[str, Any]) -> None:
        """Raise ValueError if a target does not begin with `bos_id` and end with `eos_id`."""
        if self.check_target:
            TargetEnds(self.bos_id, self.eos_id).check(inputs)

    def checked_dataset(self, dataset: Any) -> Any:
        """Return a dataset with a check of each batch: that its targets begin with `bos_id` and end with `eos_id`."""
        return TargetEnds(self.bos_id, self.eos_id).checked(dataset) if self.check_target else dataset

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
            "check_target": self.check_target,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Seq2Seq":
        """Create a model from the result of `get_config`."""
        return cls(
            **{
                **config,
                **loaded_parts(config, ("encoder", "decoder", "source_tokenizer", "target_tokenizer"), custom_objects),
            }
        )
