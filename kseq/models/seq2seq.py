"""The sequence-to-sequence model."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding import CTCJointStep, ScoredStepOutput, StepOutput
from kseq.ids import NO_ID, Rows, all_valid, read_rows, with_nan
from kseq.inner_layers import freeze_inner_layers
from kseq.masking import lengths_from_mask, mask_from_lengths
from kseq.models.decoders.decoder import Decoder
from kseq.models.decoders.pointer_decoder import PointerDecoder, check_copies, check_source
from kseq.models.decoders.transformer_decoder import TransformerDecoder
from kseq.models.encoder_decoder import EncoderDecoder, check_model_tokenizers, special_id
from kseq.models.encoders.array_encoder import ArrayEncoder
from kseq.models.encoders.token_encoder import Encoded, TokenEncoder
from kseq.models.inputs.checked_batches import TargetEnds
from kseq.models.inputs.model_inputs import InputNames
from kseq.models.inputs.shared_batch import once_per_batch
from kseq.models.inputs.source_inputs import source_of
from kseq.models.inputs.text_batches import loaded_parts
from kseq.models.inputs.token_checks import check_rows
from kseq.models.objectives.distillation import Distillation
from kseq.models.objectives.forward_pass import ForwardPass, attach
from kseq.models.objectives.guided_alignment import GuidedAlignment
from kseq.models.objectives.joint_ctc import JointCTC
from kseq.models.objectives.minimum_risk import MinimumRisk
from kseq.models.objectives.objective import TrainingBatch
from kseq.models.objectives.scheduled_sampling import SampledInputs, ScheduledSampling, check_sampling
from kseq.models.objectives.total_loss import (
    OBJECTIVES,
    READ_BY,
    check_all_read,
    check_inputs,
    check_objectives,
    check_to_train,
    objectives_of,
    total_loss,
)
from kseq.models.sequence_model import SequenceModel

PARTS = ("encoder", "decoder", "source_tokenizer", "target_tokenizer", "sampling", *OBJECTIVES)  # saved as objects


@keras.saving.register_keras_serializable(package="kseq")
class Seq2Seq(EncoderDecoder, SequenceModel):
    """An encoder and a decoder, trained by teacher forcing and decoded by any strategy of `kseq.decoding`.

    Args:
        encoder: The encoder of the source: of tokens, such as an `Encoder`, or of arrays, a `VectorEncoder` or a
            `GridEncoder`.
        decoder: The decoder of the target, a `Decoder` or a `TransformerDecoder`.
        bos_id: Id of the token that begins a target. None: that of `target_tokenizer`; without one, 2.
        eos_id: Id of the token that ends a target. None: that of `target_tokenizer`; without one, 3.
        pad_id: Id of the padding. None: that of `target_tokenizer`; without one, 0.
        source_tokenizer: The tokenizer of the sources, for `translate` and the export; saved with the model. None:
            the model reads and writes ids alone.
        target_tokenizer: The tokenizer of the targets.
        check_target: Whether `fit` and `train_on_batch` refuse targets that do not begin with `bos_id` and end with
            `eos_id`, in arrays and in the batches of datasets and generators.
        sampling: Scheduled sampling, in training; None: teacher forcing.
        distillation: A loss against a teacher's predictions, in the inputs `teacher_logits`.
        guided_alignment: A loss that guides the attention, by the input `alignments` or to the diagonal.
        ctc: A CTC loss on the encoder's outputs, and decoding by CTC and the decoder jointly.
        minimum_risk: The expected risk of the model's own outputs as a loss.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of int tensors: `source` `(batch, source time)`, `source_lengths` `(batch,)`, `target` `(batch,
            target time)` with begin and end tokens, and `target_lengths` `(batch,)`, which count both. `fit`,
            `evaluate` and their kin also take lists of rows, such as `{"source": [[4, 5], [6]], "target": [[2, 7, 3],
            [2, 3]]}`, or RaggedTensors, without lengths; and `fit(source, target)`, where the rows of an array end
            before their trailing `pad_id`. With an encoder of arrays, `source` is numbers `(batch, *row_shape)`, or a
            list of such arrays, and there are no `source_lengths`.
        training: Whether dropout is on.

    Returns:
        Logits of the tokens after the first, float32 `(batch, target time - 1, vocabulary)`, with a Keras mask of the
        real tokens. `predict` returns them too; `decode` writes targets.

    `fit` and `evaluate` need no `y`: the labels are the target without its first token. The default loss is
    `SequenceCrossEntropy`, the default metric `TokenAccuracy`.

    Raises:
        ValueError: In `fit`, `evaluate`, `predict` and `train_on_batch` with arrays, if one is missing or empty, is not
            of integers, a length does not fit, a token id is outside its vocabulary, a number that an encoder of arrays
            reads is not finite, or a target to train on lacks its begin or end token. Of the rows of a dataset only
            these two tokens are checked, but `kseq.training.bucket_by_length` checks those that it batches. In a
            compiled step, a row with an id outside the vocabulary, a length that does not fit or a number that is not
            finite makes the loss NaN, and has no gradient; without labels its logits are NaN.

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
        encoder: TokenEncoder | ArrayEncoder,
        decoder: Decoder | TransformerDecoder,
        *,
        bos_id: int | None = None,
        eos_id: int | None = None,
        pad_id: int | None = None,
        source_tokenizer: Any = None,
        target_tokenizer: Any = None,
        check_target: bool = True,
        sampling: ScheduledSampling | None = None,
        distillation: Distillation | None = None,
        guided_alignment: GuidedAlignment | None = None,
        ctc: JointCTC | None = None,
        minimum_risk: MinimumRisk | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if encoder.characters is not None:
            raise ValueError(
                f"Seq2Seq reads the ids of the source alone, but the encoder, a {type(encoder).__name__}, reads the "
                "characters of words as well. Give one without characters, such as kseq.models.Encoder."
            )
        self.encoder, self.decoder = encoder, decoder
        self.bos_id = special_id("bos_id", bos_id, target_tokenizer, default=2)
        self.eos_id = special_id("eos_id", eos_id, target_tokenizer, default=3)
        self.pad_id = special_id("pad_id", pad_id, target_tokenizer, default=0)
        self.check_target = bool(check_target)
        check_model_tokenizers(self, source_tokenizer, target_tokenizer)
        self.source_tokenizer, self.target_tokenizer = source_tokenizer, target_tokenizer
        check_sampling(sampling, decoder)
        self.sampling = sampling
        self.sampler = None if sampling is None else SampledInputs(sampling)
        self.distillation, self.guided_alignment, self.ctc = distillation, guided_alignment, ctc
        self.minimum_risk = minimum_risk
        check_objectives(self)
        if self.copies:
            check_source(self.decoder, encoder)
        self.to_ctc_logits: Any = None
        if ctc is not None:
            self.to_ctc_logits = keras.layers.Dense(self.target_vocabulary_size, dtype="float32")
        if minimum_risk is not None and minimum_risk.candidates == "sampling":
            self.candidate_seeds = keras.random.SeedGenerator(minimum_risk.seed)
        freeze_inner_layers(self)

    @property
    def names(self) -> InputNames:
        """Names of the inputs."""
        names = source_of(self).input_names()
        names["lengths"]["target"], names["ends"]["target"] = "target_lengths", self.pad_id
        return InputNames("source", "target", **names, of_targets=(*READ_BY,))

    @property
    def source_vocabulary_size(self) -> int | None:
        """Number of token ids that the encoder knows; None if it reads arrays."""
        return getattr(self.encoder, "vocabulary_size", None)

    @property
    def source_shape(self) -> tuple[int, ...] | None:
        """Shape of a row of the source, if the encoder reads arrays; None for tokens."""
        return getattr(self.encoder, "row_shape", None)

    @property
    def source_subsampling(self) -> int:
        """Number of source tokens for each step that the attention chooses from."""
        return self.encoder.subsampling

    @property
    def target_vocabulary_size(self) -> int:
        """Number of token ids that the decoder knows."""
        return self.decoder.vocabulary_size

    @property
    def copies(self) -> bool:
        """Whether the decoder copies source tokens, as a `PointerDecoder` does."""
        return isinstance(self.decoder, PointerDecoder)

    @property
    def num_target_ids(self) -> int:
        """Number of ids that a target may have: those of the vocabulary, and of copied tokens."""
        return getattr(self.decoder, "num_tokens", self.target_vocabulary_size)

    def compile(self, optimizer: Any = "adam", loss: Any = None, **kwargs: Any) -> None:
        """Configure the training, see `SequenceModel.compile`.

        Raises:
            ValueError: As there; and for label smoothing with a `PointerDecoder`.
        """
        if self.copies and getattr(loss, "label_smoothing", 0.0):
            raise ValueError(
                f"label_smoothing={loss.label_smoothing} is probability for all tokens, but most tokens that could be "
                "copied are not in a row's source. Train a PointerDecoder without label smoothing."
            )
        super().compile(optimizer, loss, **kwargs)

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        if not self.encoder.built:  # parts loaded from a file are built already
            self.encoder.build()
        if not self.decoder.built:
            self.decoder.build((None, None), self.encoder.encoded_shape())
        if self.sampler is not None and not self.sampler.built:
            self.sampler.build()
        if self.to_ctc_logits is not None and not self.to_ctc_logits.built:
            self.to_ctc_logits.build(self.encoder.encoded_shape().values)

    def call(self, inputs: dict[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the logits of each target token, given the true tokens before it, or in training samples of them."""
        source, target, valid = self._rows(inputs)
        encoded = self._encoded(source.ids, source.lengths, training)
        read = {"tokens": target.ids[:, :-1]}
        if training and self.sampler is not None:
            read = self.sampler.draw(self.decoder, read["tokens"], encoded)
        weights = None
        if self.guided_alignment is None:
            logits = self.decoder(**read, encoded=encoded, training=training)
        else:
            logits, weights = self.decoder(**read, encoded=encoded, training=training, return_weights=True)
        logits = logits if training else with_nan(logits, valid)  # in training the labels are wrong
        if objectives_of(self):
            attach(logits, ForwardPass(encoded, weights))
        return logits

    def _encoded(self, source: Tensor, lengths: Tensor | None, training: bool | None) -> Encoded:
        """Return the encoder's output, with the tokens of a source of tokens."""
        encoded = self.encoder(source, lengths, training=training)
        return encoded._replace(tokens=source) if self.source_shape is None else encoded

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the loss that the model is compiled with, and in training those of its objectives."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        check_all_read(self, x)
        if not objectives_of(self):
            return loss
        return total_loss(self, loss, TrainingBatch(x, y_pred, *self._rows(x), self.sample_weights(x, sample_weight)))

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
        source = source_of(self).read(inputs["source"], inputs.get("source_lengths"))
        target = read_rows(inputs["target"], inputs["target_lengths"], self.num_target_ids, name="target")
        valid = all_valid(source, target)
        if self.copies:
            padding = ops.logical_not(mask_from_lengths(target.lengths, ops.shape(target.ids)[1]))
            written = self.decoder.can_write(target.ids, source.ids, source.lengths)
            written = ops.all(ops.logical_or(written, padding), axis=1)
            valid = written if valid is None else ops.logical_and(valid, written)
        return source, target, valid

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        if isinstance(inputs, Mapping) and "source" in inputs and "target" not in inputs:
            raise ValueError(
                f"The inputs {sorted(inputs)} lack the target, whose logits this method computes. To write targets use "
                "model.decode(source, source_lengths, strategy=kseq.decoding.GreedySearch(), max_length=...)."
            )
        source_of(self).check(inputs, {"target": self.num_target_ids})
        check_rows(inputs, ("source", "target"))
        if self.copies:
            check_copies(inputs, self.decoder)
        check_inputs(self, inputs)

    def check_targets(self, inputs: Mapping[str, Any]) -> None:
        """Raise ValueError if a target lacks `bos_id` or `eos_id`, or a loss lacks an input."""
        if self.check_target:
            TargetEnds(self.bos_id, self.eos_id).check(inputs)
        check_to_train(self, inputs)

    def checked_dataset(self, dataset: Any) -> Any:
        """Return a dataset with a check of each batch: that its targets begin with `bos_id` and end with `eos_id`."""
        return TargetEnds(self.bos_id, self.eos_id).checked(dataset) if self.check_target else dataset

    def encode(self, source: Tensor, source_lengths: Tensor | None = None) -> tuple[Any, Any]:
        """Return the initial state and memory, see `EncoderDecoder.encode`.

        They are the decoder's; in joint decoding pairs of the decoder's and those of CTC.
        """
        if not self.built:
            self.build()
        encoded = self._encoded(source, source_lengths, training=False)
        state, memory = self.decoder.initial_state(encoded), self.decoder.memory(encoded)
        if self.ctc is None or not self.ctc.decodes_with:
            return state, memory
        prefixes = self.ctc.prefixes(self)
        of_ctc = prefixes.memory(self.to_ctc_logits(encoded.values), lengths_from_mask(encoded.mask))
        return (state, prefixes.initial_state(of_ctc)), (memory, of_ctc)

    def with_room(self, state: Any, max_length: int | None) -> Any:
        """Return an initial state with room for `max_length` tokens, see `TransformerDecoder.with_room`."""
        if not hasattr(self.decoder, "with_room"):
            return state
        if self.ctc is None or not self.ctc.decodes_with:
            return self.decoder.with_room(state, max_length)
        return self.decoder.with_room(state[0], max_length), state[1]

    def step(self, tokens: Tensor, state: Any, memory: Any) -> StepOutput | ScoredStepOutput:
        """Run one decoding step, see `Decoder.step`, and in joint decoding `kseq.decoding.CTCJointStep`."""
        if self.ctc is None or not self.ctc.decodes_with:
            return self.decoder.step(tokens, state, memory)
        joint = CTCJointStep(step=self.decoder.step, prefixes=self.ctc.prefixes(self), weight=self.ctc.decodes_with)
        return joint(tokens, state, memory)

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
            "sampling": keras.saving.serialize_keras_object(self.sampling),
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in OBJECTIVES},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Seq2Seq":
        """Create a model from the result of `get_config`."""
        return cls(**{**config, **loaded_parts(config, PARTS, custom_objects)})
