"""Recognition of label sequences in frames, trained by CTC without alignments."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, known_value, without_autograph
from kseq.decoding import CTCBeamSearch, CTCDecoded, get_ctc_strategy
from kseq.frontends import FrontEndChain
from kseq.ids import integers, known_integers, with_nan
from kseq.inner_layers import freeze_inner_layers
from kseq.losses import CTC
from kseq.masking import mask_from_lengths, zero_padding
from kseq.metrics import TokenErrorRate
from kseq.models.export_contract import Serving, ServingOptions, StepInputs
from kseq.models.inputs.ctc_checks import (
    as_frames,
    check_encoder,
    check_feasible,
    check_features,
    check_frame_shape,
    check_labels,
    check_tokenizer,
    frames_of,
)
from kseq.models.inputs.model_inputs import InputNames, as_dict, is_nested
from kseq.models.inputs.shared_batch import once_per_batch
from kseq.models.inputs.text_batches import best_texts, check_n_best, loaded_parts, map_rows, tokenizer_of
from kseq.models.sequence_model import SequenceModel
from kseq.numbers import whole


@keras.saving.register_keras_serializable(package="kseq")
class CTCRecognizer(SequenceModel):
    """A front end, recurrent layers and a classifier of frames, trained by CTC: for OCR, handwriting and speech.

        logits_t = W h_t + b    with h_t the recurrent layers' output at frame t

    CTC sums the probability of a label sequence over all alignments to the frames.

    Args:
        feature_size: Number of values in a frame: bands of a spectrogram, or height of a line of text.
        num_classes: Number of classes, the blank included.
        encoder: A layer `(batch, time, dim) -> (batch, time, units)`, such as `kseq.layers.Bidirectional` around a
            `StackedRNN` or `RNN(cell)`; or a list of such layers, applied one after the other, such as
            `[keras.layers.Dense(64), kseq.layers.ConformerLayer(4, 256)]`. A layer gets the mask if its `call` has an
            argument `mask`; other layers must treat each frame on its own.
        front_end: A front end of `kseq.frontends`, such as `FrameConvolutions`; a list of them, applied one after the
            other; or None. It must return at least as many frames as a row has labels and repeated labels.
        dropout: Share of the outputs of the front end and of each layer dropped in training; a row's frames share one
            dropout mask.
        blank_index: Class of the blank; -1 is the last.
        target_tokenizer: The tokenizer of the labels, for `recognize` and the export; saved with the model. Its pad
            token is the blank. None: the model writes classes alone.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of `features` float or int `(batch, time, feature_size)`, or `(batch, time)` of size 1, and
            `lengths` int `(batch,)`; to train and evaluate also `labels` int `(batch, max_labels)`, without blanks, and
            `label_lengths` int `(batch,)`. Without `lengths` all frames are real; without `label_lengths` the labels
            end before the first negative one. The padding never changes an answer, even if it holds NaN. `fit`,
            `predict` and their kin also take lists of rows, such as `{"features": [array, array], "labels": [[1, 2],
            [3]]}`, or RaggedTensors, and `fit(features, labels)`.
        training: Whether dropout is on.

    Returns:
        Logits, float32 `(batch, frames, num_classes)`, with a Keras mask of the real frames.

    `fit` and `evaluate` need no `y`. The default loss is `kseq.losses.CTC`, averaged over rows with frames or labels;
    rows of length 0, which complete batches, do not count. The default metric is `kseq.metrics.TokenErrorRate`;
    `kseq.metrics.error_rates(tokenizer)` returns character and word error rates.

    Raises:
        ValueError: In `fit`, `evaluate`, `predict` and `train_on_batch` with arrays, if one is missing or empty, a
            shape, dtype or length does not fit, a label is the blank or not a class, a real frame is not finite, or a
            row has fewer frames than its labels need and the loss has `infeasible="inf"`. The rows of a dataset are not
            checked: in a compiled step a row with wrong or too many labels, or a wrong length, has the loss inf and
            gradient 0, and a row of NaN frames makes the loss NaN. `fit` warns if the first batch has such a row.

    Example:
        >>> layer = kseq.layers.Bidirectional(kseq.layers.RNN(kseq.cells.LSTMCell(64), return_sequences=True))
        >>> model = kseq.models.CTCRecognizer(40, 11, layer, front_end=kseq.frontends.FrameConvolutions([64]))
        >>> model.compile("adam", jit_compile=True)
        >>> model.fit({"features": ..., "lengths": ..., "labels": ..., "label_lengths": ...})
        >>> model.decode(features, lengths, strategy=kseq.decoding.CTCBeamSearch(beam_width=8)).tokens

    Reference: A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, "Connectionist temporal classification: labelling
    unsegmented sequence data with recurrent neural networks", 2006.
    """

    names: ClassVar[InputNames] = InputNames(
        x="features",
        y="labels",
        lengths={"features": "lengths", "labels": "label_lengths"},
        ends={"labels": None},
        may_lack_lengths=True,
    )

    def __init__(
        self,
        feature_size: int,
        num_classes: int,
        encoder: keras.layers.Layer | Sequence[keras.layers.Layer],
        *,
        front_end: Any = None,
        dropout: float = 0.0,
        blank_index: int = 0,
        target_tokenizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs, autocast=False)  # its layers cast their inputs themselves: a waveform needs float32
        feature_size, num_classes = whole("feature_size", feature_size), whole("num_classes", num_classes)
        blank_index = whole("blank_index", blank_index)
        if feature_size < 1 or num_classes < 2 or not -num_classes <= blank_index < num_classes:
            raise ValueError(
                f"feature_size={feature_size}, num_classes={num_classes}, blank_index={blank_index}, but a frame has "
                "at least 1 value, and there are at least 2 classes, one of which is the blank."
            )
        self.feature_size, self.num_classes, self.blank_index = feature_size, num_classes, blank_index % num_classes
        check_tokenizer(self, target_tokenizer)
        self.target_tokenizer = target_tokenizer
        self.encoder: list[Any] = [encoder] if isinstance(encoder, keras.layers.Layer) else list(encoder)
        check_encoder(self.encoder)
        self.front_end: Any = FrontEndChain(front_end) if isinstance(front_end, list | tuple) else front_end
        self.dropout = float(dropout)
        self.unit_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        self.to_logits = keras.layers.Dense(num_classes, dtype="float32")
        freeze_inner_layers(self)

    def compile(self, optimizer: Any = "adam", loss: Any = None, *, metrics: Any = None, **kwargs: Any) -> None:
        """Configure the training, as in Keras."""
        loss = CTC(blank_index=self.blank_index) if loss is None else loss
        metrics = [TokenErrorRate(blank_index=self.blank_index)] if metrics is None else metrics
        super().compile(optimizer, loss, metrics=metrics, **kwargs)

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        shape = (None, None, self.feature_size)
        for layer in [*([] if self.front_end is None else [self.front_end]), *self.encoder]:
            if not layer.built:  # a layer loaded from a file is built already
                layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.to_logits.build(shape)

    @property
    def subsampling(self) -> int:
        """Frames of features per frame of logits."""
        return 1 if self.front_end is None else self.front_end.subsampling

    def frames(self, lengths: Any) -> Any:
        """Return the number of frames of logits for `lengths` frames of features, an int or an int tensor."""
        return lengths if self.front_end is None else self.front_end.frames(lengths)

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the logits of each frame."""
        precision = keras.backend.result_type(self.compute_dtype, "float32")
        values, lengths = ops.cast(inputs["features"], precision), self._lengths(inputs)
        values = as_frames(values, lengths, self.feature_size)
        time = ops.shape(values)[1]
        frames = self.frames(time)
        if not values.shape[1]:  # none, or unknown: a loop over time needs at least one step
            missing = int(time == 0) if isinstance(time, int) else ops.cast(ops.equal(time, 0), "int32")
            values = ops.pad(values, [(0, 0), (0, missing), (0, 0)])
        if self.front_end is None:
            values = zero_padding(values, mask_from_lengths(lengths, ops.shape(values)[1]))
        else:
            values = self.unit_dropout(self.front_end(values, lengths), training=training)
        mask = mask_from_lengths(self.frames(lengths), ops.shape(values)[1])
        for layer in self.encoder:
            values = layer(values, **({"mask": mask} if _takes_mask(layer) else {}))
            values = self.unit_dropout(values, training=training)
        return self.to_logits(values)[:, :frames]

    @once_per_batch
    def compute_mask(self, inputs: Mapping[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which logits belong to real frames, bool `(batch, frames)`."""
        lengths = self.frames(self._lengths(inputs))
        features = as_frames(inputs["features"], lengths, self.feature_size)
        return mask_from_lengths(lengths, self.frames(ops.shape(features)[1]))

    @once_per_batch
    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the labels, int32 `(batch, max_labels)`, -1 in the padding."""
        labels, count = integers(inputs["labels"], "labels"), self._label_lengths(inputs)
        places = ops.shape(labels)[1]
        fits = ops.logical_and(self._fits(inputs), ops.clip(count, 0, places) == count)
        # A negative label is an error, not padding: replace it by an id that is not a class, like all of a wrong row.
        right = ops.logical_and(labels >= 0, fits[:, None])
        labels = ops.where(right, labels, self.num_classes)
        return ops.where(mask_from_lengths(ops.where(fits, count, places), places), labels, -1)

    def _fits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return which rows have a valid number of frames, bool `(batch,)`."""
        lengths = self._lengths(inputs)
        return ops.clip(lengths, 0, ops.shape(inputs["features"])[1]) == lengths

    def _lengths(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the number of frames of each row, int32 `(batch,)`: all of them if the inputs have no lengths."""
        if "lengths" in inputs:
            return integers(inputs["lengths"], "lengths")
        shape = ops.shape(inputs["features"])
        return ops.full((shape[0],), shape[1], dtype="int32")

    def _label_lengths(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the number of labels of each row, int32 `(batch,)`: those before the first negative one."""
        if "label_lengths" in inputs:
            return integers(inputs["label_lengths"], "label_lengths")
        real = ops.cast(integers(inputs["labels"], "labels") >= 0, "int32")
        return ops.sum(ops.cumprod(real, axis=1), axis=1)

    @once_per_batch
    def _real_rows(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return 1.0 for rows that have frames or labels, float32 `(batch,)`, and 0.0 for those of length 0."""
        both = self._lengths(inputs)
        if "labels" in inputs:
            both = ops.bitwise_or(both, self._label_lengths(inputs))
        return ops.cast(both != 0, "float32")

    def loss_weight(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the number of rows that have frames or labels."""
        return ops.sum(self._real_rows(inputs))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the mean loss over the rows that have frames or labels."""
        real, weights = self._real_rows(x), self.sample_weights(x, sample_weight)
        weights = real if weights is None else real * ops.cast(weights, "float32")
        return super().compute_loss(x, y, y_pred, weights, training)

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        wanted = ["features", "lengths"]
        if not isinstance(inputs, Mapping) or any(name not in inputs for name in wanted):
            came = sorted(inputs) if isinstance(inputs, Mapping) else f"a {type(inputs).__name__}"
            raise ValueError(
                f"The inputs must be a dict of {wanted}, and to train also of labels, but they are {came}."
            )
        check_features(inputs["features"], inputs["lengths"], self.feature_size)
        if "labels" not in inputs and "label_lengths" not in inputs:
            return
        check_labels(inputs, self.num_classes, self.blank_index)
        if getattr(getattr(self, "loss", None), "infeasible", "inf") == "inf":
            check_feasible(
                inputs["labels"], inputs["label_lengths"], self.frames(ops.convert_to_numpy(inputs["lengths"]))
            )

    @without_autograph
    def decode(
        self,
        features: Any,
        lengths: Any = None,
        *,
        strategy: str | Callable[[Tensor, Tensor], CTCDecoded] | None = None,
    ) -> CTCDecoded:
        """Decode the labels of each row.

        Args:
            features: Float or int `(batch, time, feature_size)`, or `(batch, time)` if `feature_size` is 1; or a list
                of arrays `(time, feature_size)`, or a RaggedTensor.
            lengths: int `(batch,)`; None: those of the rows of a list or RaggedTensor, and all frames of an array.
            strategy: `(logits, logit_lengths) -> CTCDecoded`, such as `kseq.decoding.CTCBeamSearch(beam_width=8)`, or
                "greedy" or "beam"; None is greedy decoding, the best class of each frame.

        Returns:
            `CTCDecoded`. Its frames are frames of logits: `t` corresponds to frame `t * subsampling` of the features.
            The method is pure: it can be compiled by `tf.function(..., jit_compile=True)` or `jax.jit`; a row whose
            length does not fit then has the score NaN.

        Raises:
            ValueError: If the shape of `features` is wrong, or the strategy's blank is not the model's; outside
                compiled functions also if a length is not between 0 and `time`, or a real frame is not finite.
            TypeError: If `strategy` is no decoder of CTC, such as a class or `kseq.decoding.BeamSearch`.
        """
        strategy = get_ctc_strategy("greedy" if strategy is None else strategy, blank_index=self.blank_index)
        given = {"features": features} | ({} if lengths is None else {"lengths": lengths})
        given = as_dict(self.names, given, None)[0] if is_nested(features) else given
        features = ops.convert_to_tensor(given["features"])
        lengths = given["lengths"] if "lengths" in given else self._lengths({"features": features})
        known, lengths = (known_integers(lengths, "lengths"), known_value(features)), integers(lengths, "lengths")
        check_frame_shape(features.shape, self.feature_size)
        if isinstance(strategy, CTCBeamSearch) and strategy.blank_index % self.num_classes != self.blank_index:
            raise ValueError(
                f"The strategy's blank is class {strategy.blank_index}, but the model's is {self.blank_index}. "
                f"Give the strategy blank_index={self.blank_index}."
            )
        if known[0] is not None and known[1] is not None and len(known[1]):
            check_features(known[1], known[0], self.feature_size)
        inputs = {"features": features, "lengths": lengths}
        logits = self(inputs, training=False)
        frames = ops.clip(self.frames(lengths), 0, ops.shape(logits)[1])
        decoded = strategy(logits, frames)
        if known[0] is not None:
            return decoded
        return decoded._replace(scores=with_nan(decoded.scores, self._fits(inputs)))

    def recognize(
        self,
        features: Any,
        *,
        strategy: str | Callable[[Tensor, Tensor], CTCDecoded] | None = None,
        n_best: bool = False,
    ) -> Any:
        """Return the text of each row, by the model's tokenizer.

        Args:
            features: A list of arrays, each `(time, feature_size)`, or `(time,)` if `feature_size` is 1; or a single
                one. A row has no padding.
            strategy: As in `decode`.
            n_best: Whether to return all texts that the strategy finds with their scores. Several need a strategy that
                finds several, such as `kseq.decoding.CTCBeamSearch(top_paths=3)`.

        Returns:
            A list of str; with `n_best` a list of lists of `(text, score)`, best first. For a single array, its item
            of the list.

        Raises:
            ValueError: If `n_best` is no bool, the model has no tokenizer, or an array does not fit the model.
        """
        check_n_best(n_best, "kseq.decoding.CTCBeamSearch(top_paths=3)")
        target = tokenizer_of(self, "target_tokenizer", "recognize")
        check_tokenizer(self, target)
        single = not isinstance(features, list | tuple) and np.ndim(features) < 3
        rows = [frames_of(row, self.feature_size) for row in ([features] if single else features)]

        def answer(values: np.ndarray, lengths: np.ndarray) -> list:
            decoded = self.decode(values, lengths, strategy=strategy)
            return best_texts(target, decoded.tokens, decoded.scores, n_best)

        answers = map_rows(answer, rows, "float32")
        return answers[0] if single else answers

    def serving_defaults(self) -> dict[str, Any]:
        """Return the tokenizer with which the model is exported if the call gives none."""
        return {"target": self.target_tokenizer}

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model: from features to tokens."""
        return _serving_of_recognizer(self, options)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "feature_size": self.feature_size,
            "num_classes": self.num_classes,
            "encoder": [keras.saving.serialize_keras_object(layer) for layer in self.encoder],
            "front_end": keras.saving.serialize_keras_object(self.front_end),
            "dropout": self.dropout,
            "blank_index": self.blank_index,
            "target_tokenizer": keras.saving.serialize_keras_object(self.target_tokenizer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "CTCRecognizer":
        """Create a recognizer from the result of `get_config`."""
        return cls(**{**config, **loaded_parts(config, ("encoder", "front_end", "target_tokenizer"), custom_objects)})


def _serving_of_recognizer(model: CTCRecognizer, options: ServingOptions) -> Serving:
    """Return the `Serving` of a recognizer: from frames to tokens.

    Raises:
        ValueError: If an option does not apply to a recognizer, or the `target` tokenizer does not fit the model.
    """
    if options.seed_input or options.alignments:
        raise ValueError(
            f"seed_input={options.seed_input}, replace_unknown or alignments={options.alignments}, but a recognizer "
            "draws no random numbers and has no attention. Leave them out."
        )
    if options.source is not None or options.max_length is not None:
        raise ValueError(
            "A recognizer reads features and writes at most one token per frame, but got "
            f"source={options.source!r} and max_length={options.max_length}. Leave both out."
        )
    names = options.class_names
    if names is not None and (options.target is not None or len(names) != model.num_classes):
        raise ValueError(
            f"class_names has {len(names)} names, target is {options.target!r}, and the model has {model.num_classes} "
            "classes. Give either a target tokenizer, or one name for each class, the blank included."
        )
    check_tokenizer(model, options.target)

    strategy = get_ctc_strategy(options.strategy or "greedy", blank_index=model.blank_index)

    def answer(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return model.decode(inputs["features"], inputs["lengths"], strategy=strategy)._asdict()

    inputs = {"features": StepInputs(dtype="float32", step_shape=(model.feature_size,))}
    return Serving(inputs, answer, padding={"tokens": -1, "frames": -1})


def _takes_mask(layer: keras.layers.Layer) -> bool:
    return "mask" in inspect.signature(layer.call).parameters
