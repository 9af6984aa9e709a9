"""What whole models have in common."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from kseq.backend import Tensor
from kseq.losses import SequenceCrossEntropy
from kseq.masking import implicit_mask, set_implicit_mask
from kseq.metrics import TokenAccuracy
from kseq.models.serving import Serving, ServingOptions


class SequenceModel(keras.Model):
    """A Keras model of sequences whose inputs, a dict of arrays, hold their labels too: `fit` needs no `y`.

    They may also hold `sample_weight`, float `(batch,)` or what else the loss takes, if the argument of that name is
    not given. The default loss is `SequenceCrossEntropy`, the default metric `TokenAccuracy`; both leave out what
    `compute_mask` says is padding. A subclass gives `labels`, `compute_mask` and `check_inputs`, and
    to be exported `serving`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the labels, int `(batch, time)`, that the inputs hold."""
        raise NotImplementedError(f"{type(self).__name__} must define labels(inputs).")

    def compute_mask(self, inputs: Mapping[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which outputs stand for a real token, bool `(batch, time)`."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_mask(inputs).")

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if `inputs`, arrays, are not what the model takes."""
        raise NotImplementedError(f"{type(self).__name__} must define check_inputs(inputs).")

    def serving(self, options: ServingOptions) -> Serving:
        """Return what the exported model is fed and answers, or raise ValueError if an option is not for it."""
        del options
        raise TypeError(f"{type(self).__name__} does not say how it is served: it must define serving(options).")

    def compile(self, optimizer: Any = "adam", loss: Any = None, *, metrics: Any = None, **kwargs: Any) -> None:
        """Configure the training, as in Keras."""
        loss = SequenceCrossEntropy() if loss is None else loss
        super().compile(optimizer, loss=loss, metrics=[TokenAccuracy()] if metrics is None else metrics, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as the saved model was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the loss; the labels are the inputs' own unless `y` is given."""
        self._attach_mask(x, y_pred)
        labels, weights = self.labels(x) if y is None else y, self.sample_weights(x, sample_weight)
        return super().compute_loss(x, labels, y_pred, weights, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the metrics; the labels are the inputs' own unless `y` is given."""
        self._attach_mask(x, y_pred)
        labels, weights = self.labels(x) if y is None else y, self.sample_weights(x, sample_weight)
        return super().compute_metrics(x, labels, y_pred, weights)

    def sample_weights(self, inputs: Any, sample_weight: Tensor | None = None) -> Tensor | None:
        """Return `sample_weight`, or that of the inputs if it is None."""
        return inputs.get("sample_weight") if sample_weight is None and isinstance(inputs, Mapping) else sample_weight

    def _attach_mask(self, inputs: Any, outputs: Tensor) -> None:
        """Have the outputs carry their mask: when Keras trains on JAX, it leaves out what does so around `call`."""
        if implicit_mask(outputs) is None:
            set_implicit_mask(outputs, self.compute_mask(inputs))

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train, as in Keras, after a look at the arrays."""
        call = self._checked(super().fit, *args, **kwargs)
        if hasattr(
            call.arguments.get("x"), "element_spec"
        ):  # a dataset shuffles itself, and Keras warns unless told so
            call.arguments.setdefault("shuffle", False)
        return super().fit(*call.args, **call.kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate, as in Keras, after a look at the arrays."""
        call = self._checked(super().evaluate, *args, **kwargs)
        return super().evaluate(*call.args, **call.kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Train on one batch, as in Keras, after a look at the arrays."""
        call = self._checked(super().train_on_batch, *args, **kwargs)
        return super().train_on_batch(*call.args, **call.kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch, as in Keras, after a look at the arrays."""
        call = self._checked(super().test_on_batch, *args, **kwargs)
        return super().test_on_batch(*call.args, **call.kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict logits, as in Keras, after a look at the arrays."""
        call = self._checked(super().predict, *args, **kwargs)
        return super().predict(*call.args, **call.kwargs)

    def _checked(self, method: Callable, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        """Look at arrays and return the arguments; datasets and generators are taken as they come."""
        call = inspect.signature(method).bind(*args, **kwargs)
        inputs = call.arguments.get("x")
        if hasattr(inputs, "element_spec") or isinstance(inputs, keras.utils.PyDataset) or hasattr(inputs, "__next__"):
            return call
        self.check_inputs(inputs)
        # Keras drops the weights of rows without y.
        if call.arguments.get("y") is None and call.arguments.get("sample_weight") is not None:
            call.arguments["x"] = {**call.arguments["x"], "sample_weight": call.arguments.pop("sample_weight")}
        validation = call.arguments.get("validation_data")
        if isinstance(validation, tuple) and len(validation) == 3 and validation[1] is None:
            self.check_inputs(validation[0])
            call.arguments["validation_data"] = ({**validation[0], "sample_weight": validation[2]},)
        return call
