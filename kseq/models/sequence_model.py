"""The base class of models whose inputs contain their labels."""

import contextlib
import inspect
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, num_replicas, sum_over_replicas
from kseq.losses import SequenceCrossEntropy
from kseq.masking import implicit_mask, set_implicit_mask
from kseq.metrics import TokenAccuracy
from kseq.models.export_contract import Serving, ServingOptions, refuse_keras_export
from kseq.models.fit_reports import ArrayShapes, CompilationReport, FirstLoss, OrderOfEpochs
from kseq.models.inputs.checked_batches import check_integers, checked_batches
from kseq.models.inputs.class_weights import ClassWeights
from kseq.models.inputs.model_inputs import InputNames, as_dict, check_spec
from kseq.models.inputs.shared_batch import BatchOfStep, SharedBatch
from kseq.models.loss_checks import check_takes_logits
from kseq.models.replicated_model import ReplicatedModel
from kseq.short_help import ShortHelp


class SequenceModel(ReplicatedModel, metaclass=ShortHelp):
    """A Keras model whose inputs, a dict of arrays, contain the labels, so that `fit` needs no `y`.

    `fit`, `evaluate`, `predict` and their kin also take lists of rows and RaggedTensors in place of padded arrays, and
    fill in the lengths; and a pair `(x, y)`, of what the model reads and writes, in place of a dict. They check arrays
    before anything is converted, and the first batch of a `keras.utils.PyDataset`. Of other batches only the dtypes
    are checked, and in `fit` what `check_targets` checks; `fit` warns if the loss of the first batch is not finite.

    The inputs may also contain `sample_weight`, float `(batch,)` or another shape that the loss accepts, in place of
    the argument of that name. The default loss is `SequenceCrossEntropy`, the default metric `TokenAccuracy`; both
    ignore the padding, as told by `compute_mask`. A subclass defines `names`, `labels`, `compute_mask` and
    `check_inputs`, and `serving` to be exported. If it defines `build`, that must be callable without shapes.

    Attributes:
        names: Names of the inputs.
    """

    names: ClassVar[InputNames] = InputNames()
    shared_batch = BatchOfStep()

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True
        self._compiled_shapes: set[Any] = set()

    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the labels in the inputs, int `(batch, time)`."""
        raise NotImplementedError(f"{type(self).__name__} must define labels(inputs).")

    def compute_mask(self, inputs: Mapping[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which outputs belong to real tokens, bool `(batch, time)`."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_mask(inputs).")

    def _classes_of_labels(self) -> int:
        """Return the number of classes to which `class_weight` gives weights.

        Raises:
            ValueError: If there is no class for each row or token.
        """
        raise ValueError(
            f"class_weight weights rows or tokens by the class of their label, but a {type(self).__name__} has no such "
            "classes. Give sample_weight instead."
        )

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        raise NotImplementedError(f"{type(self).__name__} must define check_inputs(inputs).")

    def check_targets(self, inputs: Mapping[str, Any]) -> None:
        """Raise ValueError if the model cannot be trained on the arrays in `inputs`."""

    def checked_dataset(self, dataset: Any) -> Any:
        """Return a `tf.data.Dataset` to train on with the checks that `check_targets` makes of arrays.

        An attribute `refusals` of the result is a list of the errors that its checks have raised.
        """
        return dataset

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model; raise ValueError if an option does not apply."""
        raise TypeError(f"{type(self).__name__} cannot be exported: it must define serving(options).")

    def compile(self, optimizer: Any = "adam", loss: Any = None, *, metrics: Any = None, **kwargs: Any) -> None:
        """Configure the training, as in Keras.

        `jit_compile=True` lets XLA compile the training step, once for each shape of a batch, which takes several
        seconds each. It pays where training takes minutes, and the shapes are few: see
        `kseq.training.bucket_by_length`.

        Raises:
            ValueError: If the loss or a metric expects probabilities: the model returns logits.
        """
        loss = SequenceCrossEntropy() if loss is None else loss
        if metrics is None:
            metrics = [TokenAccuracy(ignore_label=getattr(loss, "ignore_label", None))]
        check_takes_logits(loss, "loss")
        check_takes_logits(metrics, "metric")
        self._compiled_shapes = set()
        super().compile(optimizer, loss=loss, metrics=metrics, **kwargs)
        # Keras weighs the loss of a batch by its number of rows, which counts those that complete it.
        self._loss_tracker.update_state = _by_weight(weakref.ref(self), self._loss_tracker.update_state)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as the saved model was compiled."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the loss; the labels are the inputs' own unless `y` is given."""
        self._attach_mask(x, y_pred)
        labels, weights = self.labels(x) if y is None else y, self.sample_weights(x, sample_weight)
        return self._of_whole_batch(super().compute_loss(x, labels, y_pred, weights, training), y_pred, weights)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the metrics; the labels are the inputs' own unless `y` is given."""
        self._attach_mask(x, y_pred)
        labels, weights = self.labels(x) if y is None else y, self.sample_weights(x, sample_weight)
        return super().compute_metrics(x, labels, y_pred, weights)

    def loss_weight(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the weight of a batch's mean loss in that of an epoch, a float scalar: its number of real tokens."""
        return ops.sum(ops.cast(self.compute_mask(inputs), "float32"))

    def train_step(self, *args: Any) -> Any:
        """Train on one batch, as in Keras."""
        with self._sharing(args[-1]):
            return super().train_step(*args)

    def test_step(self, *args: Any) -> Any:
        """Evaluate one batch, as in Keras."""
        with self._sharing(args[-1], evaluates=True):
            return super().test_step(*args)

    @contextlib.contextmanager
    def _sharing(self, data: Any, *, evaluates: bool = False) -> Iterator[None]:
        """Share what is computed of a batch, in this step, by the methods that are `once_per_batch`.

        The mask and the labels are computed here, because a value that is first computed inside of a function with a
        graph of its own could not be used outside.
        """
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        self.shared_batch = SharedBatch(inputs, has_labels=labels is not None, evaluates=evaluates)
        try:
            self.compute_mask(inputs)
            if labels is None:
                self.labels(inputs)
            yield
        finally:
            self.shared_batch = None

    def sample_weights(self, inputs: Any, sample_weight: Tensor | None = None) -> Tensor | None:
        """Return `sample_weight`, or the one in the inputs if it is None."""
        return inputs.get("sample_weight") if sample_weight is None and isinstance(inputs, Mapping) else sample_weight

    def _attach_mask(self, inputs: Any, outputs: Tensor) -> None:
        """Attach the mask to the outputs; Keras's training on JAX skips the code around `call` that does it."""
        if implicit_mask(outputs) is None:
            set_implicit_mask(outputs, self.compute_mask(inputs))

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train, as in Keras, after checking the arrays.

        Raises:
            ValueError: If an array does not fit the model; see the class.
        """
        call = self._checked(super().fit, args, kwargs, to_train=True)
        inputs, arguments = call.arguments.get("x"), call.arguments
        if _is_stream(inputs) and not isinstance(inputs, keras.utils.PyDataset):
            arguments.setdefault("shuffle", False)  # without it, Keras warns that it does not shuffle such data
        given = arguments.get("callbacks")
        if not isinstance(given, keras.callbacks.CallbackList):
            order = getattr(inputs, "order", None)
            first = [] if order is None else [OrderOfEpochs(order, arguments.get("initial_epoch", 0))]
            arguments["callbacks"] = [*first, *keras.tree.flatten(given or []), *self._reports(arguments)]
        self._create_variables()
        refusals = getattr(inputs, "refusals", ())
        size, split = arguments.get("batch_size"), arguments.get("validation_split") or 0.0
        arguments["x"] = self._own_batches(inputs, batch_size=size, left_out=split)
        if "validation_data" in arguments:
            arguments["validation_data"] = self._own_batches(arguments["validation_data"])
        try:
            return super().fit(*call.args, **call.kwargs)
        except Exception:
            for refusal in refusals:  # in place of an error of TensorFlow's about it
                raise refusal from None
            raise

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate, as in Keras, after checking the arrays."""
        call = self._checked(super().evaluate, args, kwargs)
        if "x" in call.arguments:
            size = call.arguments.get("batch_size")
            call.arguments["x"] = self._own_batches(call.arguments["x"], batch_size=size)
        return super().evaluate(*call.args, **call.kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Train on one batch, as in Keras, after checking the arrays."""
        call = self._checked(super().train_on_batch, args, kwargs, to_train=True)
        self._create_variables()
        return super().train_on_batch(*call.args, **call.kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch, as in Keras, after checking the arrays."""
        call = self._checked(super().test_on_batch, args, kwargs)
        return super().test_on_batch(*call.args, **call.kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Return logits, as in Keras, after checking the arrays."""
        call = self._checked(super().predict, args, kwargs)
        return super().predict(*call.args, **call.kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        """Load weights, as in Keras, also into a model that has not been called yet."""
        if not self.built and type(self).build is not keras.Model.build:  # a `build` that needs no shapes
            self.build()
        super().load_weights(*args, **kwargs)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Export what `call` returns, as in Keras, if there is an `input_signature`.

        Raises:
            ValueError: Without one: `kseq.export_saved_model(model, path)` exports the model's answer.
        """
        call = inspect.signature(super().export).bind(filepath, *args, **kwargs)
        if call.arguments.get("input_signature") is None:
            refuse_keras_export(self)
        return super().export(filepath, *args, **kwargs)

    def _create_variables(self) -> None:
        """Create the optimizer's variables, and the model's, before the first training step.

        TensorFlow traces a training step twice if the first trace creates variables.
        """
        optimizer = getattr(self, "optimizer", None)
        frozen = not all(layer.trainable for layer in self._flatten_layers())  # a callback may yet unfreeze it
        if optimizer is None or optimizer.built or frozen:
            return
        with self._strategy_scope():
            if not self.built and type(self).build is not keras.Model.build:  # a `build` that needs no shapes
                self.build()
            if self.built:
                optimizer.build(self.trainable_variables)

    def _reports(self, arguments: Mapping[str, Any]) -> list[keras.callbacks.Callback]:
        """Return the callbacks that `fit` adds."""
        inputs = arguments.get("x")
        reports: list[keras.callbacks.Callback] = [] if isinstance(inputs, Mapping) else [FirstLoss()]
        shapes = getattr(inputs, "shapes", None)
        if isinstance(inputs, Mapping):
            rows = len(inputs[self.names.x])
            rows -= int(rows * (arguments.get("validation_split") or 0.0))
            shapes = ArrayShapes(rows, arguments.get("batch_size") or 32)
        if getattr(self, "jit_compile", False) and arguments.get("verbose", 1) and hasattr(shapes, "shape_of"):
            reports.append(CompilationReport(shapes, self._compiled_shapes))
        return reports

    def _checked(
        self, method: Callable, args: tuple, kwargs: Mapping[str, Any], *, to_train: bool = False
    ) -> inspect.BoundArguments:
        """Return the arguments with complete and checked arrays; of datasets, what is known before they run."""
        call = inspect.signature(method).bind(*args, **kwargs)
        inputs, arguments = call.arguments.get("x"), call.arguments
        by_class = arguments.pop("class_weight", None)
        by_class = None if by_class is None else ClassWeights(by_class, self._classes_of_labels(), self.names)
        if arguments.get("validation_data") is not None:
            arguments["validation_data"] = self._validation(arguments["validation_data"])
        if _is_stream(inputs):
            self._check_stream(inputs, to_train=to_train)
            arguments["x"] = checked_batches(inputs, partial(self._check_batch, to_train=to_train))
            if to_train and hasattr(inputs, "element_spec"):
                arguments["x"] = self.checked_dataset(inputs)
            if by_class is not None:
                arguments["x"] = by_class.of_stream(arguments["x"])
            return call
        inputs, labels = as_dict(self.names, inputs, arguments.get("y"))
        self.check_inputs(inputs)
        if to_train:
            self.check_targets(inputs)
        arguments["x"] = inputs
        if by_class is not None:
            arguments["sample_weight"] = self._weights_of_classes(by_class, inputs, labels, arguments)
        if labels is None:
            arguments.pop("y", None)
            # Keras ignores sample_weight if there is no y.
            if (weights := arguments.pop("sample_weight", None)) is not None:
                arguments["x"] = {**inputs, "sample_weight": _weights(weights, len(inputs[self.names.x]))}
        return call

    def _weights_of_classes(self, by_class: ClassWeights, inputs: Any, labels: Any, arguments: Any) -> np.ndarray:
        """Return `sample_weight` of arrays, times the weights of their classes but for the rows that validate."""
        given, rows = self.sample_weights(inputs, arguments.get("sample_weight")), len(inputs[self.names.x])
        given = None if given is None else _weights(given, rows)
        labels = inputs[self.names.y] if labels is None else labels
        return by_class.of_arrays(labels, given, int(rows * (1.0 - (arguments.get("validation_split") or 0.0))))

    def _validation(self, data: Any) -> Any:
        """Return validation data with complete and checked arrays."""
        if _is_stream(data):
            self._check_stream(data)
            return checked_batches(data, self._check_batch)
        inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        inputs, labels = as_dict(self.names, inputs, labels)
        self.check_inputs(inputs)
        if labels is not None:
            return inputs, labels, weights
        if weights is None:
            return (inputs,)
        return ({**inputs, "sample_weight": _weights(weights, len(inputs[self.names.x]))},)

    def _check_batch(self, batch: Any, *, to_train: bool = False) -> None:
        """Check a batch of a generator or `PyDataset`."""
        check_integers(self.names, batch)
        inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if to_train and labels is None:
            self.check_targets(inputs)

    def _check_stream(self, data: Any, *, to_train: bool = False) -> None:
        """Check what is known of a dataset or generator before it runs."""
        if hasattr(data, "element_spec"):
            spec, labels, _ = keras.utils.unpack_x_y_sample_weight(data.element_spec)
            for name, part in spec.items() if isinstance(spec, Mapping) else ():
                if hasattr(part, "ragged_rank"):
                    raise ValueError(
                        f"The dataset has RaggedTensors for {name}, but the model reads padded tensors and lengths. "
                        "Make them with kseq.training.bucket_by_length, or map ragged.to_tensor() and "
                        "ragged.row_lengths() over the dataset."
                    )
            check_spec(self.names, spec, with_labels=to_train and labels is None)
        elif isinstance(data, keras.utils.PyDataset) and data.num_batches != 0:
            inputs, labels, _ = keras.utils.unpack_x_y_sample_weight(data[0])
            if labels is None and isinstance(inputs, Mapping):
                self.check_inputs(inputs)


def _by_weight(model: Callable[[], Any], update_state: Callable) -> Callable:
    """Return `update_state` of a mean loss, with the weight that the model gives a batch."""

    def update(loss: Tensor, sample_weight: Any = None) -> Any:
        batch = model().shared_batch
        if batch is not None:  # the losses of the replicas add up, and Keras multiplies each by their number
            sample_weight = sum_over_replicas(model().loss_weight(batch.inputs)) / num_replicas()
        return update_state(loss, sample_weight)

    return update


def _is_stream(data: Any) -> bool:
    """Return whether data come in batches, as a dataset or a generator."""
    return hasattr(data, "element_spec") or isinstance(data, keras.utils.PyDataset) or hasattr(data, "__next__")


def _weights(weights: Any, rows: int) -> np.ndarray:
    """Return sample weights as an array, or raise ValueError if they are not finite or not one or more per row."""
    weights = np.asarray(weights)
    if weights.ndim == 0 or len(weights) != rows or not np.isfinite(weights).all():
        raise ValueError(
            f"sample_weight has shape {weights.shape} and must be finite numbers, with the {rows} rows of the inputs "
            "first."
        )
    return weights


for _name in (
    "fit",
    "evaluate",
    "predict",
    "train_on_batch",
    "test_on_batch",
    "export",
):  # shown by `help` and by editors
    getattr(SequenceModel, _name).__signature__ = inspect.signature(getattr(keras.Model, _name))
