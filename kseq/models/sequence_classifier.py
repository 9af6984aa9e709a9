"""The classifier of whole sequences: one answer for each row."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.ids import Rows, with_nan
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import SequencePooling
from kseq.masking import zero_padding
from kseq.models.answers.text_answers import answers_to_texts
from kseq.models.classifier_checks import (
    check_class_names,
    check_functions,
    check_labels,
    check_outputs,
    check_pooling,
    check_supervision,
    refuse_empty,
)
from kseq.models.encoders.token_encoder import TokenEncoder
from kseq.models.export_contract import Serving, ServingOptions, check_tokenizers
from kseq.models.inputs.encoder_inputs import EncoderInputs
from kseq.models.inputs.model_inputs import InputNames
from kseq.models.inputs.shared_batch import once_per_batch
from kseq.models.inputs.text_batches import loaded_parts, one_or_many
from kseq.models.row_tasks import MEAN, TASKS
from kseq.models.sequence_model import SequenceModel
from kseq.models.step_weights import StepWeights, weights_of_steps
from kseq.numbers import share


@keras.saving.register_keras_serializable(package="kseq")
class SequenceClassifier(SequenceModel):
    """An encoder, a pooling and an output layer: for topics, sentiment, intents, languages, scores of texts.

        logits = W pool(h_1 ... h_T) + b    with h_t the encoder's output at token t

    Args:
        encoder: The encoder of the tokens, such as an `Encoder`, or a `WordEncoder`, which reads characters as well.
        num_classes: Number of classes or labels; in a regression, of numbers.
        task: "classification", one class for each row; "multi_label", any number of labels; "regression", numbers.
        pooling: How the encoder's outputs become one vector: "last", of an encoder in both directions what each one
            returns after its last step; "mean", "sum", "max" or "attention", see `kseq.layers.SequencePooling`. Or a
            layer of your own, which is called with the outputs `(batch, time, dim)` and `mask=`.
        step_weights: None: the loss is that of the whole row. Otherwise a recurrence is supervised at every step: a
            row's loss is the weighted mean of the losses of W h_t + b at its steps. "uniform", or "linear", by which
            later steps weigh more; or a function `(steps, lengths) -> weights` of float32 tensors: steps `(1, time)`,
            from 1, and lengths `(batch, 1)`. Needs `pooling="last"` and an encoder in one direction. The answer and the
            metrics are those of the last step in any case.
        dropout: Share of the pooled values dropped in training.
        source_tokenizer: The tokenizer of the texts, for `classify` and the export; saved with the model, as are the
            two below. None: the model reads ids alone.
        character_tokenizer: For a `WordEncoder`, the tokenizer of the words' characters.
        class_names: The names of the classes, in the order of their ids. None: their ids.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of int tensors: `source` `(batch, time)` and `source_lengths` `(batch,)`; for a `WordEncoder`
            `characters` `(batch, time, characters)` and `characters_lengths` `(batch, time)`; to train and evaluate
            `labels`: int `(batch,)`; for several labels numbers from 0 to 1 `(batch, num_classes)`; in a regression
            numbers `(batch, num_classes)`, or `(batch,)` for one. Padding never changes an answer. `fit`, `predict` and
            their kin also take lists of rows, such as `{"source": [[4, 5], [6]], "labels": [1, 0]}`, or RaggedTensors,
            without lengths; and `fit(source, labels)`, where the rows of an array end before their trailing zeros.
        training: Whether dropout is on.

    Returns:
        Logits, in a regression the numbers, float32 `(batch, num_classes)`. A row without tokens has NaN.

    `kseq.training.labelled_texts` makes training rows from texts and names of classes. `fit` and `evaluate` need no
    `y`. The default losses are Keras's cross-entropy, binary cross-entropy and mean squared error, the mean over the
    rows; the default metrics are accuracy and mean absolute error. Rows of length 0, which complete batches, have no
    weight; metrics are weighted like the loss. Metrics of several labels get probabilities, other functions logits.
    `fit(class_weight={2: 4.0})` weights rows by their class, of arrays and datasets, if each has one.

    `kseq.export_saved_model` exports it with `classes` and `probabilities` as the answer, the most probable class
    first, in a regression with `values`; and for TensorFlow Serving's Classify and Regress with the signatures
    `serving_classify` and, for one number, `serving_regress`.

    Raises:
        ValueError: In `fit`, `evaluate`, `predict` and `train_on_batch` with arrays, if one is missing or empty, an id,
            a length or a label is out of range, or there are not as many labels as rows; except in `train_on_batch` and
            `test_on_batch` also if a row has no tokens. The rows of a dataset are not checked. In a compiled step, a
            row with a wrong id, length or label makes the loss NaN, and has no gradient; without labels its logits are
            NaN.

    Example:
        >>> encoder = kseq.models.Encoder(5000, 64, kseq.cells.LSTMCell(80))
        >>> model = kseq.models.SequenceClassifier(encoder, 6, pooling="attention")
        >>> model({"source": np.ones((2, 7), "int32"), "source_lengths": np.array([7, 3])}).shape
        (2, 6)

    Reference: for `step_weights`, Z. C. Lipton, D. C. Kale, C. Elkan, R. Wetzel, "Learning to diagnose with LSTM
    recurrent neural networks", 2016 (target replication).
    """

    names: ClassVar[InputNames] = InputNames(
        x="source",
        y="labels",
        lengths={"source": "source_lengths", "characters": "characters_lengths"},
        ends={"source": 0},
        words=("characters",),
        aligned={"characters": "source"},
        per_row=("labels",),
    )

    def __init__(
        self,
        encoder: TokenEncoder,
        num_classes: int,
        *,
        task: str = "classification",
        pooling: str | keras.layers.Layer = "last",
        step_weights: StepWeights | None = None,
        dropout: float = 0.0,
        source_tokenizer: Any = None,
        character_tokenizer: Any = None,
        class_names: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if task not in TASKS:
            raise ValueError(f"task={task!r}, but it must be one of {[*TASKS]}.")
        self.task, self.row_task = task, TASKS[task]
        self.num_classes = check_outputs(num_classes, self.row_task)
        self.class_names = check_class_names(class_names, self.num_classes, self.row_task)
        self.step_weights = step_weights
        check_supervision(step_weights, pooling, encoder)
        self.encoder, self.dropout = encoder, share(self, "dropout", dropout)
        self.source_tokenizer, self.character_tokenizer = source_tokenizer, character_tokenizer
        self.reads = EncoderInputs(encoder)
        check_tokenizers(self.reads.in_requests(), self.reads.tokenizers_of(self))
        self.pooling = pooling
        self.pooling_layer = _pooling_layer(pooling, encoder, self.dtype_policy)
        self.unit_dropout = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.to_logits = keras.layers.Dense(self.num_classes, dtype="float32")
        freeze_inner_layers(self)

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        if not self.encoder.built:  # an encoder loaded from a file is built already
            self.encoder.build()
        shape = self.encoder.encoded_shape().values
        if not self.pooling_layer.built:
            self.pooling_layer.build(shape)
        self.to_logits.build(self.pooling_layer.compute_output_shape(shape))

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        *,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configure the training, as in Keras; all metrics are weighted like the loss.

        Raises:
            ValueError: If the loss or a metric expects something else than the model gives it, or with `step_weights`
                if the loss has another reduction than "mean_with_sample_weight".
        """
        loss = self.row_task.loss() if loss is None else loss
        if metrics is None and weighted_metrics is None:
            weighted_metrics = self.row_task.metrics()
        else:
            weighted_metrics = [*(metrics or []), *(weighted_metrics or [])]
        check_functions(self.row_task, loss, weighted_metrics)
        reduction = getattr(loss, "reduction", None)
        if self.step_weights is not None and reduction != MEAN:
            raise ValueError(
                f"step_weights needs a loss that divides by the sum of the weights, but {loss!r} has the reduction "
                f"{reduction!r}. Give an instance with reduction={MEAN!r}."
            )
        super().compile(optimizer, loss, metrics=[], weighted_metrics=weighted_metrics, **kwargs)

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the logits of each row; with `step_weights`, in a training or evaluation step, of each step."""
        rows, valid = self._rows(inputs)
        encoded = self.encoder(*(part for each in rows for part in each[:2]), training=training)
        if self.step_weights is not None and self.shared_batch is not None:
            return self.to_logits(self.unit_dropout(encoded.values, training=training))
        pooled = self.pooling_layer(encoded.values, mask=encoded.mask)
        logits = self.to_logits(self.unit_dropout(pooled, training=training))
        return logits if training else with_nan(logits, valid)  # in training the labels are wrong

    def compute_mask(self, inputs: Mapping[str, Tensor], previous_mask: Any = None) -> None:
        """Return None: an answer to a row has no steps."""

    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return labels that a loss can use; an invalid row has an arbitrary one."""
        return self._labels_and_valid(inputs)[0]

    @once_per_batch
    def _labels_and_valid(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the labels, and which rows have a valid one, bool `(batch,)`."""
        return self.row_task.read(inputs["labels"], self.num_classes)

    @once_per_batch
    def _rows(self, inputs: Mapping[str, Tensor]) -> tuple[list[Rows], Tensor]:
        """Return the encoder's inputs, safe to look up, and which rows are valid and not empty, bool `(batch,)`."""
        rows, valid = self.reads.read(inputs)
        some = rows[0].lengths > 0
        return rows, some if valid is None else ops.logical_and(some, valid)

    def _row_weights(self, inputs: Any, sample_weight: Any) -> Tensor:
        """Return the weight of each row, float32 `(batch,)`, 0 for rows of length 0."""
        weights = ops.cast(ops.convert_to_tensor(inputs["source_lengths"]) != 0, "float32")
        given = self.sample_weights(inputs, sample_weight)
        if given is None:
            return weights
        shape = tuple(given.shape)
        if len(shape) != 1 and shape[1:] != (1,):
            raise ValueError(f"sample_weight has shape {shape}, but expected a weight for each row, (batch,).")
        return weights * ops.reshape(ops.cast(given, "float32"), (-1,))

    def loss_weight(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the number of rows that are not of length 0."""
        return ops.sum(self._row_weights(inputs, ops.ones_like(inputs["source_lengths"])))

    def _weighed(self, inputs: Any, labels: Any, outputs: Tensor, sample_weight: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the labels, the outputs and the weights of a batch.

        The outputs of an invalid row are NaN, those of a row of weight 0 are 0, whatever they were.
        """
        read = self._labels_and_valid(inputs) if labels is None else self.row_task.read(labels, self.num_classes)
        labels, right = read
        weights = self._row_weights(inputs, sample_weight)
        counted = weights != 0
        valid = ops.logical_or(ops.logical_and(right, self._rows(inputs)[1]), ops.logical_not(counted))
        outputs = with_nan(zero_padding(outputs, counted), valid)
        return labels, outputs, weights

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the mean loss over the rows; with `step_weights`, of the weighted means over their steps."""
        labels, outputs, weights = self._weighed(x, y, y_pred, sample_weight)
        if len(outputs.shape) == 3:
            time = ops.shape(outputs)[1]
            of_steps = weights_of_steps(self.step_weights, self._rows(x)[0][0].lengths, time)
            weights = weights[:, None] * of_steps
            labels = ops.repeat(labels[:, None], time, axis=1)
        return super().compute_loss(x, labels, outputs, weights, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the metrics of the rows' answers."""
        if len(y_pred.shape) == 3:
            steps, lengths = ops.arange(1, ops.shape(y_pred)[1] + 1, dtype="int32"), self._rows(x)[0][0].lengths
            y_pred = ops.sum(zero_padding(y_pred, steps == lengths[:, None]), axis=1)
        labels, outputs, weights = self._weighed(x, y, y_pred, sample_weight)
        return super().compute_metrics(x, labels, self.row_task.predictions(outputs), weights)

    def _classes_of_labels(self) -> int:
        """Return the number of classes of a row; raise ValueError if the task is another one."""
        if self.row_task.name != "classification":
            raise ValueError(
                f"class_weight applies to the task 'classification', but the task is {self.row_task.name!r}. Give "
                "sample_weight, which batches may contain as an entry, instead."
            )
        return self.num_classes

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        self.reads.check(inputs)
        if "labels" in inputs:
            check_labels(inputs, self.row_task, self.num_classes)

    def check_targets(self, inputs: Mapping[str, Any]) -> None:
        """Raise ValueError if the inputs have no labels, or wrong ones."""
        check_labels(inputs, self.row_task, self.num_classes)

    def _checked(
        self, method: Callable, args: tuple, kwargs: Mapping[str, Any], *, to_train: bool = False
    ) -> inspect.BoundArguments:
        """Return the arguments with complete and checked arrays."""
        call = super()._checked(method, args, kwargs, to_train=to_train)
        inputs = call.arguments.get("x")
        if isinstance(inputs, Mapping):
            if not method.__name__.endswith("_on_batch"):  # the rows of length 0 of a dataset's batch do not count
                refuse_empty(inputs)
            if method.__name__ in ("evaluate", "test_on_batch") and call.arguments.get("y") is None:
                check_labels(inputs, self.row_task, self.num_classes)
        return call

    def _validation(self, data: Any) -> Any:
        """Return validation data with complete and checked arrays."""
        checked = super()._validation(data)
        if isinstance(checked, tuple):
            refuse_empty(checked[0])
        return checked

    def classify(self, texts: str | Sequence[str], *, top: int | None = None) -> Any:
        """Return the classes of each text and their probabilities, by the model's tokenizers.

        The answer to a text does not depend on the other texts.

        Args:
            texts: A list of texts, or a single one.
            top: Largest number of classes in an answer. None: all of them.

        Returns:
            For each text a list of `(class, probability)`, the most probable first; a class is a name, or an id if the
            model has no `class_names`. For a single text, its list alone.

        Raises:
            ValueError: If the model has no tokenizer, makes a regression, or a text has no tokens.

        Example:
            >>> model.classify("Who wrote Hamlet ?", top=1)
            [('HUM', 0.99)]
        """
        if not self.row_task.has_classes:
            raise ValueError(f"classify: a model with task={self.task!r} has no classes. Call regress(texts).")
        names = range(self.num_classes) if self.class_names is None else self.class_names
        listed, single = one_or_many(texts, (str, bytes))
        answers = [
            [(names[int(one)], float(share)) for one, share in zip(of["classes"], of["probabilities"], strict=True)][
                :top
            ]
            for of in answers_to_texts(self, listed, "classify")
        ]
        return answers[0] if single else answers

    def regress(self, texts: str | Sequence[str]) -> np.ndarray:
        """Return the numbers for texts, float32 `(texts, num_classes)`, for a single text `(num_classes,)`.

        Raises:
            ValueError: If the model has no tokenizer, makes no regression, or a text has no tokens.
        """
        if self.row_task.has_classes:
            raise ValueError(f"regress: a model with task={self.task!r} has classes. Call classify(texts).")
        listed, single = one_or_many(texts, (str, bytes))
        answers = answers_to_texts(self, listed, "regress")
        values = np.array([answer["values"] for answer in answers], "float32").reshape(-1, self.num_classes)
        return values[0] if single else values

    def serving_defaults(self) -> dict[str, Any]:
        """Return the tokenizers and names with which the model is exported if the call gives none."""
        return {"source": self.reads.tokenizers_of(self), "class_names": self.class_names}

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model: from tokens or words to classes or numbers."""
        return _serving_of_classifier(self, options)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "num_classes": self.num_classes,
            "task": self.task,
            "pooling": keras.saving.serialize_keras_object(self.pooling),
            "step_weights": keras.saving.serialize_keras_object(self.step_weights),
            "dropout": self.dropout,
            "source_tokenizer": keras.saving.serialize_keras_object(self.source_tokenizer),
            "character_tokenizer": keras.saving.serialize_keras_object(self.character_tokenizer),
            "class_names": self.class_names,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "SequenceClassifier":
        """Create a classifier from the result of `get_config`."""
        parts = ("encoder", "pooling", "step_weights", "source_tokenizer", "character_tokenizer")
        return cls(**{**config, **loaded_parts(config, parts, custom_objects)})


def _pooling_layer(pooling: str | keras.layers.Layer, encoder: TokenEncoder, dtype: Any) -> Any:
    if not isinstance(pooling, str):
        return check_pooling(pooling)
    return SequencePooling(pooling, bidirectional=pooling == "last" and encoder.bidirectional, dtype=dtype)


def _serving_of_classifier(model: SequenceClassifier, options: ServingOptions) -> Serving:
    """Return the `Serving` of a classifier: from tokens, with a `WordEncoder` also their characters, to its answer.

    Raises:
        ValueError: If an option does not apply to a classifier, or a tokenizer or the class names do not fit the model.
    """
    options.refuse("SequenceClassifier", "strategy", "target", "max_length", "seed_input", "alignments")
    check_class_names(options.class_names, model.num_classes, model.row_task)
    inputs = model.reads.in_requests(fewest=1)
    check_tokenizers(inputs, options.source)

    def answer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return model.row_task.answer(model(model.reads.of_request(tensors), training=False))

    if not model.row_task.has_classes:
        return Serving(inputs, answer, regress="values" if model.num_classes == 1 else None)
    named = ("classes", "probabilities")
    return Serving(inputs, answer, padding={"classes": -1}, named=named[:1], classify=named)
