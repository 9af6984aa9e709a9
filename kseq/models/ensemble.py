"""Ensembles of encoder-decoder models."""

from collections.abc import Sequence
from typing import Any

import keras

from kseq.backend import Tensor
from kseq.decoding import EnsembleStep, StepOutput
from kseq.decoding.ensemble import Mean, check_weights
from kseq.models.encoder_decoder import EncoderDecoder
from kseq.models.export_contract import refuse_keras_export
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class Ensemble(EncoderDecoder, keras.Model, metaclass=ShortHelp):
    """Several trained models that decode one target together, by the mean of their predictions.

    An ensemble is decoded, exported and saved like one model, but it cannot be trained. The models may differ in
    everything except their vocabularies. See `kseq.decoding.EnsembleStep` for the two means. The tokenizers of
    `translate` are those of the first model.

    Args:
        models: `Seq2Seq` models.
        weights: One weight above 0 for each model, divided by their sum. None: equal weights.
        mean: "probabilities" or "log_probabilities".
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If there is no model, an option is out of range, or the vocabularies or special tokens differ.

    Example:
        >>> both = kseq.models.Ensemble([first, second])
        >>> both.decode(source, source_lengths, strategy=kseq.decoding.BeamSearch(beam_width=4), max_length=20).tokens
        >>> kseq.export_saved_model(both, "models/g2p", strategy=..., source=letters, target=phones)

    Reference: I. Sutskever, O. Vinyals, Q. Le, "Sequence to sequence learning with neural networks", 2014.
    """

    def __init__(
        self,
        models: Sequence[Any],
        *,
        weights: Sequence[float] | None = None,
        mean: Mean = "probabilities",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not models:
            raise ValueError("An Ensemble needs at least one model, but models is empty.")
        _check_alike(models)
        check_weights(weights, len(models))
        self.models, self.mean = list(models), mean
        self.model_weights = None if weights is None else [float(weight) for weight in weights]
        self._step = EnsembleStep(steps=tuple(model.step for model in models), weights=self.model_weights, mean=mean)
        first = models[0]
        self.bos_id, self.eos_id, self.pad_id = first.bos_id, first.eos_id, first.pad_id
        self.source_tokenizer, self.target_tokenizer = (
            getattr(first, name, None) for name in ("source_tokenizer", "target_tokenizer")
        )

    @property
    def source_vocabulary_size(self) -> int | None:
        """Number of token ids that the models read; None if they read arrays."""
        return self.models[0].source_vocabulary_size

    @property
    def source_shape(self) -> tuple[int, ...] | None:
        """Shape of a row of the source, if the models read arrays; None for tokens."""
        return self.models[0].source_shape

    @property
    def source_subsampling(self) -> int:
        """Number of source tokens for each step that the attentions choose from."""
        return self.models[0].source_subsampling

    @property
    def target_vocabulary_size(self) -> int:
        """Number of token ids that the models write."""
        return self.models[0].target_vocabulary_size

    @property
    def copies(self) -> bool:
        """Whether the models copy source tokens."""
        return self.models[0].copies

    @property
    def num_target_ids(self) -> int:
        """Number of ids that the models write: those of the vocabulary, and of copied tokens."""
        return self.models[0].num_target_ids

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights of models that are not built yet."""
        for model in self.models:
            if not model.built:
                model.build()

    def call(self, inputs: Any, training: bool | None = None) -> Tensor:
        """Raise NotImplementedError: an ensemble only decodes."""
        raise NotImplementedError("An Ensemble only decodes. Train its models one by one.")

    def encode(self, source: Tensor, source_lengths: Tensor | None = None) -> tuple[tuple, tuple]:
        """Return the models' initial states and memories, see `EncoderDecoder.encode`."""
        states, memories = zip(*(model.encode(source, source_lengths) for model in self.models), strict=True)
        return states, memories

    def with_room(self, state: Any, max_length: int | None) -> tuple:
        """Return the models' initial states with room for `max_length` tokens, see `EncoderDecoder.with_room`."""
        return tuple(model.with_room(each, max_length) for model, each in zip(self.models, state, strict=True))

    def step(self, tokens: Tensor, state: Any, memory: Any) -> StepOutput:
        """Run one step of every model and return the mean, see `kseq.decoding.EnsembleStep`."""
        return self._step(tokens, state, memory)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Raise ValueError: `kseq.export_saved_model(ensemble, path)` exports an ensemble."""
        refuse_keras_export(self)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        models = [keras.saving.serialize_keras_object(model) for model in self.models]
        return {**super().get_config(), "models": models, "weights": self.model_weights, "mean": self.mean}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Ensemble":
        """Create an ensemble from the result of `get_config`."""
        models = [
            keras.saving.deserialize_keras_object(model, custom_objects=custom_objects) for model in config["models"]
        ]
        return cls(**{**config, "models": models})


def _check_alike(models: Sequence[Any]) -> None:
    names = (
        "source_vocabulary_size", "target_vocabulary_size", "num_target_ids", "bos_id", "eos_id", "pad_id",
        "source_subsampling", "source_shape",
    )  # fmt: skip
    each = [{name: getattr(model, name) for name in names} for model in models]
    for model, alike in zip(models, each, strict=True):
        if model.copies:
            alike.update({name: getattr(model.decoder, name) for name in ("copies", "source_unknown_id", "unknown_id")})
    different = [(index, alike) for index, alike in enumerate(each) if alike != each[0]]
    if different:
        index, alike = different[0]
        raise ValueError(
            f"The models of an Ensemble need the same vocabularies, special tokens, subsampling and source_shape, but "
            f"model 0 has {each[0]} and model {index} has {alike}. Train them with the same tokenizers."
        )
