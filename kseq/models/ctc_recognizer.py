"""From frames of sound or columns of pixels to labels, without knowing where each label stands."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor, known_value
from kseq.decoding import CTCBeamSearch, CTCDecoded, ctc_greedy_decode
from kseq.losses import CTC
from kseq.masking import mask_from_lengths, zero_padding
from kseq.models.ctc_checks import check_feasible, check_features, check_labels
from kseq.models.front_end_chain import FrontEndChain
from kseq.models.sequence_model import SequenceModel
from kseq.models.serving import Serving, ServingOptions, serving_of_recognizer
from kseq.models.token_error_rate import TokenErrorRate


@keras.saving.register_keras_serializable(package="kseq")
class CTCRecognizer(SequenceModel):
    """A front end, recurrent layers and for each frame a choice of class or blank: OCR, handwriting, speech.

        logits_t = W h_t + b    with h_t what the recurrent layers read around frame t

    It is trained by CTC: the probability of labels is the sum over all ways to spread them over the frames.

    Args:
        feature_size: Values in a frame: bands of a spectrogram, or height of a line of text.
        num_classes: Number of classes, the blank among them.
        encoder: A layer `(batch, time, dim) -> (batch, time, units)`, such as `kseq.layers.Bidirectional` of a
            `StackedRNN` or of `RNN(cell)`; or a list of such layers, which run one after the other. They are given the
            mask if their `call` takes one; layers that take none must look at each frame alone.
        front_end: `FrameConvolutions`, `FrameStacking`, `LogMelSpectrogram`, a list of such layers, which run one after
            the other, or None; how many frames it leaves decides what can be read: at least as many as labels and
            repeated labels.
        dropout: Share of the outputs of the front end and of each layer dropped in training, the same ones at all
            frames of a row.
        blank_index: The class that is the blank.
        **kwargs: Those of `keras.Model`.

    Call arguments:
        inputs: A dict of `features` float or int `(batch, time, feature_size)` and `lengths` int `(batch,)`; to train
            and evaluate also `labels` int `(batch, max_labels)`, without blanks, and `label_lengths` int `(batch,)`.
            What stands in the padding, NaN too, never changes an answer.
        training: Whether dropout is on.

    Returns:
        Logits, float32 `(batch, frames, num_classes)`, with a mask that leaves the real frames.

    `fit` and `evaluate` need no `y`. The default loss is `kseq.losses.CTC`, per row that has frames or labels: rows of
    length 0 fill batches up. The default metric is `TokenErrorRate`; `error_rates` of a tokenizer gives those of
    characters and words.

    Raises:
        ValueError: In `fit`, `evaluate`, `predict` and `train_on_batch` with arrays, if one is missing or empty, a
            shape, dtype or length does not fit, a label is no class or the blank, a real frame is not finite, or a row
            has fewer frames than its labels need, unless the loss says what such rows are worth. The rows of a dataset
            are not looked at: in a compiled step a row with such labels has the loss inf and gradient 0, one whose
            frames are NaN makes the loss NaN, and a length beyond `time` counts as `time`.

    Example:
        >>> layer = kseq.layers.Bidirectional(kseq.layers.RNN(kseq.cells.LSTMCell(64), return_sequences=True))
        >>> model = kseq.models.CTCRecognizer(40, 11, layer, front_end=kseq.models.FrameConvolutions([64], strides=2))
        >>> model.compile("adam", jit_compile=True)
        >>> model.fit({"features": ..., "lengths": ..., "labels": ..., "label_lengths": ...})
        >>> model.decode(features, lengths, strategy=kseq.decoding.CTCBeamSearch(beam_width=8)).tokens

    Reference: A. Graves, S. Fernandez, F. Gomez, J. Schmidhuber, "Connectionist temporal classification: labelling
    unsegmented sequence data with recurrent neural networks", 2006.
    """

    def __init__(
        self,
        feature_size: int,
        num_classes: int,
        encoder: keras.layers.Layer | Sequence[keras.layers.Layer],
        *,
        front_end: Any = None,
        dropout: float = 0.0,
        blank_index: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs, autocast=False)  # its layers cast what they are given: a waveform needs float32
        if feature_size < 1 or num_classes < 2 or not 0 <= blank_index < num_classes:
            raise ValueError(
                f"feature_size={feature_size}, num_classes={num_classes}, blank_index={blank_index}, but a frame has "
                "at least 1 value, and there are at least 2 classes, one of which is the blank."
            )
        self.feature_size, self.num_classes, self.blank_index = feature_size, num_classes, blank_index
        self.encoder: list[Any] = [encoder] if isinstance(encoder, keras.layers.Layer) else list(encoder)
        _check_encoder(self.encoder)
        self.front_end: Any = FrontEndChain(front_end) if isinstance(front_end, list | tuple) else front_end
        self.dropout = dropout
        self.unit_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        self.to_logits = keras.layers.Dense(num_classes, dtype="float32")

    def compile(self, optimizer: Any = "adam", loss: Any = None, *, metrics: Any = None, **kwargs: Any) -> None:
        """Configure the training, as in Keras."""
        loss = CTC(blank_index=self.blank_index) if loss is None else loss
        metrics = [TokenErrorRate(blank_index=self.blank_index)] if metrics is None else metrics
        super().compile(optimizer, loss, metrics=metrics, **kwargs)

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; they depend on no shape."""
        del inputs_shape
        shape = (None, None, self.feature_size)
        for layer in [*([] if self.front_end is None else [self.front_end]), *self.encoder]:
            if not layer.built:  # one that was loaded from a file is
                layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.to_logits.build(shape)

    @property
    def subsampling(self) -> int:
        """How many frames of features become one of logits."""
        return 1 if self.front_end is None else self.front_end.subsampling

    def frames(self, lengths: Any) -> Any:
        """Return how many frames the front end leaves of `lengths`, an int or an int tensor."""
        return lengths if self.front_end is None else self.front_end.frames(lengths)

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the logits of each frame."""
        precision = keras.backend.result_type(self.compute_dtype, "float32")
        values, lengths = ops.cast(inputs["features"], precision), ops.cast(inputs["lengths"], "int32")
        time = ops.shape(values)[1]
        frames = self.frames(time)
        if not values.shape[1]:  # none, or not known; a loop over time needs a step, if only one of padding
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

    def compute_mask(self, inputs: Mapping[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which logits stand for a real frame, bool `(batch, frames)`."""
        del previous_mask
        lengths = self.frames(ops.cast(inputs["lengths"], "int32"))
        return mask_from_lengths(lengths, self.frames(ops.shape(inputs["features"])[1]))

    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the labels, int32 `(batch, max_labels)`, -1 after the last of each row."""
        labels = ops.cast(inputs["labels"], "int32")
        inside = mask_from_lengths(inputs["label_lengths"], ops.shape(labels)[1])
        # A negative label is an error, not an end: have it stay one that no class has.
        return ops.where(inside, ops.where(labels < 0, self.num_classes, labels), -1)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the mean loss of the rows that have frames or labels."""
        real = ops.cast(x["lengths"] > 0, "float32")
        if y is None:
            real = ops.maximum(real, ops.cast(x["label_lengths"] > 0, "float32"))
        weights = self.sample_weights(x, sample_weight)
        weights = real if weights is None else real * ops.cast(weights, "float32")
        return super().compute_loss(x, y, y_pred, weights, training)

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if `inputs`, arrays, are not what the model takes."""
        wanted = ["features", "lengths"]
        if not isinstance(inputs, Mapping) or any(name not in inputs for name in wanted):
            came = sorted(inputs) if isinstance(inputs, Mapping) else f"a {type(inputs).__name__}"
            raise ValueError(f"The inputs must be a dict of {wanted} and to train of labels, but they are {came}.")
        check_features(inputs["features"], inputs["lengths"], self.feature_size)
        if "labels" not in inputs and "label_lengths" not in inputs:
            return
        check_labels(inputs, self.num_classes, self.blank_index)
        if getattr(getattr(self, "loss", None), "infeasible", "inf") == "inf":
            check_feasible(
                inputs["labels"], inputs["label_lengths"], self.frames(ops.convert_to_numpy(inputs["lengths"]))
            )

    def decode(
        self, features: Tensor, lengths: Tensor, *, strategy: Callable[[Tensor, Tensor], CTCDecoded] | None = None
    ) -> CTCDecoded:
        """Read each row.

        Args:
            features: Float or int `(batch, time, feature_size)`.
            lengths: int `(batch,)`.
            strategy: `(logits, logit_lengths) -> CTCDecoded`, such as `kseq.decoding.CTCBeamSearch(beam_width=8)`; None
                takes the best class of each frame.

        Returns:
            `CTCDecoded`; its frames are those of the logits: `t` is about frame `t * subsampling` of the features.
            Pure: compile it with `tf.function(..., jit_compile=True)` or `jax.jit`.

        Raises:
            ValueError: If the features' shape is wrong, or the strategy's blank is not the model's; outside compiled
                functions also if a length is not between 0 and `time`, or a real frame is not finite.
        """
        features, lengths = ops.convert_to_tensor(features), ops.convert_to_tensor(lengths)
        if len(features.shape) != 3 or features.shape[2] != self.feature_size:
            raise ValueError(
                f"features has shape {tuple(features.shape)}, expected (batch, time, {self.feature_size})."
            )
        if isinstance(strategy, CTCBeamSearch) and strategy.blank_index != self.blank_index:
            raise ValueError(
                f"The strategy's blank is class {strategy.blank_index}, but the model's is {self.blank_index}. "
                f"Give the strategy blank_index={self.blank_index}."
            )
        known = known_value(lengths), known_value(features)
        if known[0] is not None and known[1] is not None and len(known[1]):
            check_features(known[1], known[0], self.feature_size)
        logits = self({"features": features, "lengths": lengths}, training=False)
        frames = ops.clip(self.frames(ops.cast(lengths, "int32")), 0, ops.shape(logits)[1])
        if strategy is None:
            return ctc_greedy_decode(logits, frames, blank_index=self.blank_index)
        return strategy(logits, frames)

    def serving(self, options: ServingOptions) -> Serving:
        """Return how the model is served: from features to tokens."""
        return serving_of_recognizer(self, options)

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
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "CTCRecognizer":
        """Make a recognizer from `get_config`."""
        parts = {
            name: keras.saving.deserialize_keras_object(config[name], custom_objects=custom_objects)
            for name in ("encoder", "front_end")
        }
        return cls(**{**config, **parts})


def _takes_mask(layer: keras.layers.Layer) -> bool:
    return "mask" in inspect.signature(layer.call).parameters


def _check_encoder(layers: list) -> None:
    """Raise unless there are layers that answer for every frame, and with one tensor."""
    if not layers:
        raise ValueError("The encoder is an empty list, but a recognizer needs at least one layer.")
    for index, layer in enumerate(layers):
        for option, wanted in {"return_sequences": True, "return_state": False}.items():
            if getattr(layer, option, wanted) != wanted:
                raise ValueError(
                    f"Layer {index} of the encoder, {layer.name}, has {option}={not wanted}, but CTC needs one output "
                    f"for every frame, and nothing else. Make it with {option}={wanted}."
                )
