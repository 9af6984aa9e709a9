"""The base class of models that learn vectors of words."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, num_replicas, strategy_scope
from kseq.inner_layers import freeze_inner_layers
from kseq.models.export_contract import Serving, ServingOptions, StepInputs, refuse_keras_export
from kseq.models.inputs.text_batches import loaded_parts
from kseq.models.word_vectors.word_serving import checked_tokenizer, inputs_of_words, known_words, serving_of_words
from kseq.numbers import positive_int
from kseq.short_help import ShortHelp

if TYPE_CHECKING:
    from kseq.text import WordVectors


class WordModel(keras.Model, metaclass=ShortHelp):
    """A Keras model whose result is a vector for each word of a vocabulary.

    A subclass defines `call`, which returns the loss of each row, and `loss_weight`. Training minimises the sum of the
    rows' losses, so that learning rates are those per pair of words, as in the literature; the loss that `fit` shows is
    divided by the sum of `loss_weight`.

    Args:
        vocabulary_size: Number of word ids.
        dim: Size of a vector.
        source_tokenizer: The tokenizer of the words, saved with the model. None: `word_vectors` needs a vocabulary, and
            the model cannot be exported.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        TypeError: If the tokenizer is none.
        ValueError: If a size is not positive, or the tokenizer has another number of ids.
    """

    names: tuple[str, ...] = ()
    """Names of the inputs."""
    axes: int = 1
    """Number of axes of each input."""
    maker: str = ""
    """Name of the function that makes the inputs."""

    def __init__(self, vocabulary_size: int, dim: int = 100, *, source_tokenizer: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocabulary_size = positive_int(self, "vocabulary_size", vocabulary_size)
        self.dim = positive_int(self, "dim", dim)
        self.source_tokenizer = checked_tokenizer("source_tokenizer", source_tokenizer)
        if source_tokenizer is not None and source_tokenizer.vocabulary_size != self.vocabulary_size:
            raise ValueError(
                f"The source tokenizer has {source_tokenizer.vocabulary_size} ids, but the model has "
                f"{self.vocabulary_size}. Give vocabulary_size=source_tokenizer.vocabulary_size."
            )
        small = keras.initializers.RandomUniform(-0.5 / self.dim, 0.5 / self.dim)
        self.embedding = keras.layers.Embedding(
            self.vocabulary_size, self.dim, embeddings_initializer=small, dtype=self.dtype_policy
        )
        self.mean_loss = keras.metrics.Mean(name="mean_loss")
        freeze_inner_layers(self)

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        if not self.embedding.built:
            self.embedding.build()

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        *,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configure the training, as in Keras, without losses and metrics of labels, which there are none of.

        Raises:
            ValueError: If there is a loss, a weight of a loss, or a metric, or a strategy has several replicas.
        """
        options = {"loss": loss, "loss_weights": loss_weights, "metrics": metrics, "weighted_metrics": weighted_metrics}
        if given := [name for name, value in options.items() if value is not None and value != []]:
            raise ValueError(
                f"A {type(self).__name__} has a loss of its own and no labels, but compile got {', '.join(given)}. "
                "Leave them out; to judge the vectors, use word_vectors().score_similarity."
            )
        with strategy_scope(self):
            if (count := num_replicas()) > 1:
                raise ValueError(
                    f"A {type(self).__name__} trains on one device, but the strategy that it was made under has "
                    f"{count} replicas. Make it outside the scope of a strategy."
                )
        super().compile(optimizer, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as the saved model was compiled."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def loss_weight(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return what the losses of a batch are divided by when they are shown, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must define loss_weight(inputs).")

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the sum of the rows' losses.

        Raises:
            ValueError: If there are labels or weights.
        """
        if y is not None or sample_weight is not None:
            raise ValueError(
                f"A {type(self).__name__} learns from the words alone, but got y or sample_weight. Give fit a dataset "
                "or a dict as the functions of kseq.training make them, and nothing else."
            )
        return ops.sum(y_pred)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Add a batch to the mean loss of the epoch, and return the metrics."""
        weight = ops.cast(self.loss_weight(x), "float32")
        self.mean_loss.update_state(ops.sum(y_pred) / ops.maximum(weight, 1.0), weight)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the metrics; the loss is the mean."""
        results = super().get_metrics_result()
        return {**{name: value for name, value in results.items() if name != "mean_loss"}, "loss": results["mean_loss"]}

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Train, as in Keras, after checking arrays.

        Raises:
            ValueError: If an array does not fit the model, or there are labels or weights.
        """
        call = inspect.signature(super().fit).bind(*args, **kwargs)
        if given := [name for name in ("y", "sample_weight", "class_weight") if call.arguments.get(name) is not None]:
            raise ValueError(
                f"A {type(self).__name__} learns from the words alone, but fit got {', '.join(given)}. Leave them out."
            )
        data = call.arguments.get("x")
        if isinstance(data, Mapping):
            self.check_inputs(data)
        elif hasattr(data, "element_spec"):
            call.arguments.setdefault("shuffle", False)  # without it, Keras warns that it does not shuffle datasets
        return super().fit(*call.args, **call.kwargs)

    def check_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        self.check_axes(inputs)
        rows = {name: np.shape(inputs[name])[:1] for name in self.names}
        if len(set(rows.values())) > 1:
            raise ValueError(
                f"The inputs have different numbers of rows: {rows}. kseq.training.{self.maker} makes them."
            )

    def check_axes(self, inputs: Mapping[str, Any]) -> None:
        """Raise ValueError if an input is missing, or has another number of axes."""
        if missing := [name for name in self.names if name not in inputs]:
            raise ValueError(
                f"The inputs are {sorted(inputs)}, without {missing}. kseq.training.{self.maker} makes all of them."
            )
        for name in self.names:
            shape = getattr(inputs[name], "shape", np.shape(inputs[name]) if isinstance(inputs[name], list) else ())
            found = getattr(shape, "rank", len(shape) if isinstance(shape, tuple) else None)
            if found not in (None, self.axes):
                expected = ("(batch,)", "(batch, n)")[self.axes - 1]
                raise ValueError(
                    f"{name} has shape {tuple(shape)}, but expected {expected}, as of kseq.training.{self.maker}."
                )

    def word_vectors(self, vocabulary: Any = None) -> "WordVectors":
        """Return the vectors of the words, as `kseq.text.WordVectors`, which an embedding layer loads.

        Args:
            vocabulary: A tokenizer of words, a `kseq.text.Vocabulary`, or a list of words in the order of their ids.
                None: the model's own tokenizer.

        Raises:
            ValueError: If there is none, or it has other words than the model's own tokenizer; of a model without one,
                another number of words.

        Example:
            >>> vectors = model.word_vectors()
            >>> vectors.nearest("king", 2)
            [('henry', 0.83), ('prince', 0.79)]
            >>> embedding = vectors.embedding(trainable=False)
        """
        from kseq.text import WordVectors  # needs tensorflow, as the tokenizers do

        vocabulary = self.source_tokenizer if vocabulary is None else vocabulary
        if vocabulary is None:
            raise ValueError("word_vectors: the model has no source_tokenizer. Give a vocabulary.")
        words, known = known_words(vocabulary)
        if not self.built:
            self.build()
        return WordVectors(words, np.where(known[:, None], self.vectors_for(words, known), 0.0), known)

    def vectors_for(self, words: Sequence[str], known: np.ndarray) -> np.ndarray:
        """Return the vectors of a vocabulary's words, float32 `(words, dim)`.

        Args:
            words: The words in the order of their ids.
            known: bool `(words,)`, False for special tokens.
        """
        if len(words) != self.vocabulary_size:
            raise ValueError(
                f"The vocabulary has {len(words)} words, but the model has {self.vocabulary_size}. Give the vocabulary "
                "that it was trained with."
            )
        own = words if self.source_tokenizer is None else self.source_tokenizer.vocabulary.strings
        if tuple(words) != tuple(own):
            place = next(place for place, pair in enumerate(zip(words, own, strict=True)) if pair[0] != pair[1])
            raise ValueError(
                f"The vocabulary has the word {words[place]!r} with the id {place}, but the model's own tokenizer has "
                f"{own[place]!r}. Leave the vocabulary out."
            )
        return ops.convert_to_numpy(self.matrix())

    def matrix(self) -> Tensor:
        """Return the vectors of all ids, float `(vocabulary_size, dim)`."""
        return ops.convert_to_tensor(self.embedding.embeddings)

    def in_requests(self, special: Sequence[int] = ()) -> dict[str, StepInputs]:
        """Return the inputs of the exported model; `special` are the ids that are no words."""
        return inputs_of_words(self.vocabulary_size, special)

    def prepare_serving(self) -> Callable[[], Tensor]:
        """Return a function that returns the vectors of all ids, float `(vocabulary_size, dim)`, in a graph."""
        return self.matrix

    def vectors_of(self, inputs: Mapping[str, Tensor], is_word: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the vectors of the words of requests, and which words have one.

        Args:
            inputs: The inputs of the exported model.
            is_word: bool `(vocabulary_size,)`, False for special tokens.

        Returns:
            Float `(batch, time, dim)` and bool `(batch, time)`.
        """
        return ops.take(self.matrix(), inputs["tokens"], axis=0), ops.take(is_word, inputs["tokens"])

    def serving_defaults(self) -> dict[str, Any]:
        """Return the tokenizers and names with which the model is exported if the call gives none."""
        names = None if self.source_tokenizer is None else self.source_tokenizer.vocabulary.strings
        return {"source": self.source_tokenizer, "class_names": names}

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model: from words to a vector and its neighbours."""
        return serving_of_words(self, options)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Raise ValueError: `kseq.export_saved_model(model, path)` exports the model."""
        refuse_keras_export(self)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "dim": self.dim,
            "source_tokenizer": keras.saving.serialize_keras_object(self.source_tokenizer),
        }

    parts: tuple[str, ...] = ("source_tokenizer",)
    """Names of the constructor's arguments that are objects."""

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "WordModel":
        """Create a model from the result of `get_config`."""
        return cls(**{**config, **loaded_parts(config, cls.parts, custom_objects)})


WordModel.fit.__signature__ = inspect.signature(keras.Model.fit)  # type: ignore[attr-defined]  # shown by `help`
