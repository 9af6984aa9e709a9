"""The base class of models whose inputs contain their labels."""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras

from kseq.backend import Tensor
from kseq.losses import SequenceCrossEntropy
from kseq.masking import implicit_mask, set_implicit_mask
from kseq.metrics import TokenAccuracy
from kseq.models.export_contract import Serving, ServingOptions
from kseq.short_help import ShortHelp


class SequenceModel(keras.Model, metaclass=ShortHelp):
    """A Keras model whose inputs, a dict of arrays, contain the labels, so that `fit` needs no `y`.

    The inputs may also contain `sample_weight`, float `(batch,)` or another shape that the loss accepts, in place of
    the argument of that name. The default loss is `SequenceCrossEntropy`, the default metric `TokenAccuracy`; both
    ignore the padding, as told by `compute_mask`. A subclass defines `labels`, `compute_mask` and `check_inputs`, and
    `serving` to be exported. If it defines `build`, that must be callable without shapes.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the labels in the inputs, int `(batch, time)`."""
        raise NotImplementedError(f"{type(self).__name__} must define labels(inputs).")

    def compute_mask(self, inputs: Mapping[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which outputs belong to real tokens, bool `(batch, time)`."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_mask(inputs).")

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        raise NotImplementedError(f"{type(self).__name__} must define check_inputs(inputs).")

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model; raise ValueError if an option does not apply."""
        raise TypeError(f"{type(self).__name__} cannot be exported: it must define serving(options).")

    def compile(self, optimizer: Any = "adam", loss: Any = None, *, metrics: Any = None, **kwargs: Any) -> None:
        """Configure the training, as in Keras."""
        loss = SequenceCrossEntropy() if loss is None else loss
        super().compile(optimizer, loss=loss, metrics=[TokenAccuracy()] if metrics is None else metrics, **kwargs)

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
        return super().compute_loss(x, labels, y_pred, weights, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the metrics; the labels are the inputs' own unless `y` is given."""
        self._attach_mask(x, y_pred)
        labels, weights = self.labels(x) if y is None else y, self.sample_weights(x, sample_weight)
        return super().compute_metrics(x, labels, y_pred, weights)

    def sample_weights(self, inputs: Any, sample_weight: Tensor | None = None) -> Tensor | None:
        """Return `sample_weight`, or the one in the inputs if it is None."""
        return inputs.get("sample_weight") if sample_weight is None and isinstance(inputs, Mapping) else sample_weight

    def _attach_mask(self, inputs: Any, outputs: Tensor) -> None:
        """Attach the mask to the outputs; Keras's training on JAX skips the code around `call` that does it."""
        if implicit_mask(outputs) is None:
            set_implicit_mask(outputs, self.compute_mask(inputs))

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train, as in Keras, after checking the arrays."""
        call = self._checked(super().fit, *args, **kwargs)
        if hasattr(call.arguments.get("x"), "element_spec"):
            call.arguments.setdefault("shuffle", False)  # without it, Keras warns that a dataset shuffles itself
        self._create_variables()
        return super().fit(*call.args, **call.kwargs)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate, as in Keras, after checking the arrays."""
        call = self._checked(super().evaluate, *args, **kwargs)
        return super().evaluate(*call.args, **call.kwargs)

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Train on one batch, as in Keras, after checking the arrays."""
        call = self._checked(super().train_on_batch, *args, **kwargs)
        self._create_variables()
        return super().train_on_batch(*call.args, **call.kwargs)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch, as in Keras, after checking the arrays."""
        call = self._checked(super().test_on_batch, *args, **kwargs)
        return super().test_on_batch(*call.args, **call.kwargs)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """Predict logits, as in Keras, after checking the arrays."""
        call = self._checked(super().predict, *args, **kwargs)
        return super().predict(*call.args, **call.kwargs)

    def _create_variables(self) -> None:
        """Create the optimizer's variables, and the model's, before the first training step.

        TensorFlow traces a training step twice if the first trace creates variables.
        """
        optimizer = getattr(self, "optimizer", None)
        frozen = not all(layer.trainable for layer in self._flatten_layers())  # a callback may yet unfreeze it
        if optimizer is None or optimizer.built or frozen:
            return
        strategy = getattr(self, "distribute_strategy", None)  # on TensorFlow
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            if not self.built and type(self).build is not keras.Model.build:  # a `build` that needs no shapes
                self.build()
            if self.built:
                optimizer.build(self.trainable_variables)

    def _checked(self, method: Callable, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        """Check the arrays among the arguments and return the arguments; datasets and generators pass unchecked."""
        call = inspect.signature(method).bind(*args, **kwargs)
        inputs = call.arguments.get("x")
        if hasattr(inputs, "element_spec") or isinstance(inputs, keras.utils.PyDataset) or hasattr(inputs, "__next__"):
            return call
        self.check_inputs(inputs)
        # Keras ignores sample_weight if there is no y.
        if call.arguments.get("y") is None and call.arguments.get("sample_weight") is not None:
            call.arguments["x"] = {**call.arguments["x"], "sample_weight": call.arguments.pop("sample_weight")}
        validation = call.arguments.get("validation_data")
        if isinstance(validation, tuple) and len(validation) == 3 and validation[1] is None:
            self.check_inputs(validation[0])
            call.arguments["validation_data"] = ({**validation[0], "sample_weight": validation[2]},)
        return call


for _name in ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch"):  # shown by `help` and by editors
    getattr(SequenceModel, _name).__signature__ = inspect.signature(getattr(keras.Model, _name))
