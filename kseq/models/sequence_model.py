"""What whole models have in common."""

from collections.abc import Mapping
from typing import Any

import keras

from kseq.backend import Tensor
from kseq.losses import SequenceCrossEntropy
from kseq.masking import implicit_mask, set_implicit_mask
from kseq.metrics import TokenAccuracy


class SequenceModel(keras.Model):
    """A Keras model of sequences whose inputs, a dict of arrays, hold their labels too: `fit` needs no `y`.

    The default loss is `SequenceCrossEntropy`, the default metric `TokenAccuracy`; both leave out what
    `compute_mask` says is padding. A subclass gives `labels`, `compute_mask` and `check_inputs`.
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
        return super().compute_loss(x, self.labels(x) if y is None else y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the metrics; the labels are the inputs' own unless `y` is given."""
        self._attach_mask(x, y_pred)
        return super().compute_metrics(x, self.labels(x) if y is None else y, y_pred, sample_weight)

    def _attach_mask(self, inputs: Any, outputs: Tensor) -> None:
        """Have the outputs carry their mask: when Keras trains on JAX, it leaves out what does so around `call`."""
        if implicit_mask(outputs) is None:
            set_implicit_mask(outputs, self.compute_mask(inputs))

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train, as in Keras, after a look at the arrays."""
        self._check_arrays(x)
        if hasattr(x, "element_spec"):  # a dataset shuffles itself, and Keras warns unless told so
            kwargs.setdefault("shuffle", False)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluate, as in Keras, after a look at the arrays."""
        self._check_arrays(x)
        return super().evaluate(x, *args, **kwargs)

    def train_on_batch(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train on one batch, as in Keras, after a look at the arrays."""
        self._check_arrays(x)
        return super().train_on_batch(x, *args, **kwargs)

    def predict(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Predict logits, as in Keras, after a look at the arrays."""
        self._check_arrays(x)
        return super().predict(x, *args, **kwargs)

    def _check_arrays(self, inputs: Any) -> None:
        """Look at arrays; datasets and generators are taken as they come."""
        if hasattr(inputs, "element_spec") or isinstance(inputs, keras.utils.PyDataset) or hasattr(inputs, "__next__"):
            return
        self.check_inputs(inputs)
