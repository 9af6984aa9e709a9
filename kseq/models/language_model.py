"""The language model."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, known_value
from kseq.decoding import StepOutput
from kseq.ids import NO_ID, Rows, check_ids, integers, read_rows, with_nan
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import AdaptiveSoftmax
from kseq.losses import SequenceCrossEntropy
from kseq.masking import mask_from_lengths
from kseq.metrics import Perplexity
from kseq.models.answers.language_serving import check_language_tokenizer, serving_of_language_model
from kseq.models.carried_states import CarriedStates
from kseq.models.decoders.tied_logits import TiedLogits
from kseq.models.encoders.token_encoder import Encoded, TokenEncoder
from kseq.models.export_contract import Serving, ServingOptions
from kseq.models.inputs.language_inputs import check_texts, with_names, with_targets
from kseq.models.inputs.model_inputs import InputNames
from kseq.models.inputs.shared_batch import once_per_batch
from kseq.models.inputs.text_batches import loaded_parts
from kseq.models.loss_checks import reads_labels_alone
from kseq.models.sequence_model import SequenceModel
from kseq.models.text_generation import TextGeneration, check_rows_of_state
from kseq.models.text_scoring import TextScoring
from kseq.numbers import flag, share, whole


@keras.saving.register_keras_serializable(package="kseq")
class LanguageModel(TextGeneration, TextScoring, SequenceModel):
    """A causal encoder and a classifier of the next token: a recurrent language model, or a decoder-only Transformer.

        p(token_1 ... token_n) = prod_t p(token_t | bos, token_1 ... token_(t-1))
        p(token_t | ...) = softmax(W h_(t-1) + b)    with h the encoder's outputs

    Args:
        encoder: `Encoder(..., bidirectional=False)` with any cell, or `TransformerEncoder(..., causal=True)`. A
            recurrent encoder has the dropout of Y. Gal and Z. Ghahramani (2016): each row drops the same inputs of a
            layer at all steps. Cells add more, such as `kseq.cells.DropoutCell(cell, recurrent_dropout=0.2)`, and
            `kseq.cells.WeightDropCell(cell, 0.5)` drops weights (S. Merity et al. 2018).
        bos_id: Id of the token that begins a text. None for a model of running text, such as one character after the
            other of a book: it needs a prompt to write.
        eos_id: Id of the token that ends a text.
        pad_id: Id of the padding.
        dropout: Share of the encoder's outputs dropped in training; a row's tokens share one dropout mask.
        tie_embeddings: Whether W is the transpose of the encoder's embedding, which needs an `embedding_dim` equal to
            the size of the encoder's outputs (O. Press, L. Wolf 2017).
        cutoffs: For large vocabularies whose ids are sorted by frequency: the ids at which the clusters of a
            `kseq.layers.AdaptiveSoftmax` begin, such as (2000, 10000), which then gives the logits. Training is fast
            with the default loss without label smoothing, and no metric but `kseq.metrics.Perplexity`: others need the
            probabilities of all tokens.
        div_value: By what factor the vectors of a cluster are smaller than those of the one before.
        tokenizer: The tokenizer of the texts, for `generate` and its kin and the export; saved with the model. None:
            the model reads and writes ids alone.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of tensors: `source` int `(batch, time)`, tokens; `lengths` int `(batch,)`; to train and evaluate
            `target` int `(batch, time)`, the token that follows each of them; and of a text that goes on from batch to
            batch `reset`, see below. `fit`, `evaluate` and `train_on_batch` also take whole texts, rows of ids without
            begin and end tokens: a list, a RaggedTensor, an array whose rows end before their trailing `pad_id`, or a
            dict with one of these as `source`. They add these tokens, and the targets. Batches of
            `kseq.training.bucket_by_length({"source": rows, "target": next_tokens}, bos_id=None, eos_id=None, ...)`
            have `source_lengths`, which are read as `lengths`.
        training: Whether dropout is on.

    Returns:
        Logits of the tokens that follow, float32 `(batch, time, vocabulary)`, with a Keras mask of the real tokens.

    `fit` and `evaluate` need no `y`. The default loss is `SequenceCrossEntropy`, whose value is the cross-entropy in
    nats per token; the default metric is `kseq.metrics.Perplexity`.

    Truncated backpropagation through time (R. Williams, J. Peng 1990): batches of
    `kseq.training.continuous_batches` hold chunks of texts that go on in the same row of the next batch. A recurrent
    encoder then begins a batch with the states in which the last one ended, and gradients end there. `reset` is bool
    `(batch,)`, True in rows that begin a text, or `(batch, time)`, True at tokens that begin one: these are read from
    the initial state. Training and evaluation carry states of their own, in variables that are not saved. A
    Transformer reads each chunk from its beginning, and takes `reset` for whole rows alone.

    `kseq.export_saved_model` exports it with `prompt` int32 `(batch, time)` and `lengths`, or with `text` if there is a
    tokenizer, as the request, and the continuation's `tokens` int32 `(batch, n, max_length)`, `lengths` and `scores`
    `(batch, n)` as the answer, and with a tokenizer its `text`. The strategy is `Sampling`, of which "greedy" is short
    for `top_k` 1. Requests also contain for each row `temperature` and `top_p` float32, `top_k` and `max_length` int32,
    and `seed` int64, `(batch,)`, of which -1 draws other numbers at each request. Requests may leave them out as they
    may leave out `lengths`, and then get the options of the strategy and the seed -1. Rows with options out of range,
    such as a temperature of 0, are refused. The greedy answer is that of `top_k` 1. Another signature,
    `serving_log_probability`, answers with `log_probability` float32 `(batch,)`, that of the whole text, its end token
    included, and with `num_tokens` int32 `(batch,)`, the number of tokens that it is the sum over.

    Raises:
        ValueError: If the encoder is not causal or reads characters, an option is out of range, or the tokenizer does
            not fit. In `fit` and its kin with arrays, if one is missing or empty, is not of integers, a length does not
            fit or an id is out of range. In a compiled step, a row with an id out of range or a length that does not
            fit makes the loss NaN, and has no gradient; without target its logits are NaN.

    Example:
        >>> encoder = kseq.models.Encoder(5000, 64, kseq.cells.LSTMCell(64), num_layers=2, bidirectional=False)
        >>> model = kseq.models.LanguageModel(encoder, tie_embeddings=True)
        >>> model.compile("adam")
        >>> model.fit([[4, 5, 6], [7, 8]], epochs=3)
        >>> model.generate([[4]], strategy="greedy", max_length=3)
        [[5, 6, 3]]

    References:
        - S. Merity, N. Keskar, R. Socher, "Regularizing and optimizing LSTM language models", 2018.
        - R. Williams, J. Peng, "An efficient gradient-based algorithm for on-line training of recurrent network
          trajectories", 1990.
    """

    def __init__(
        self,
        encoder: TokenEncoder,
        *,
        bos_id: int | None = 2,
        eos_id: int = 3,
        pad_id: int = 0,
        dropout: float = 0.0,
        tie_embeddings: bool = False,
        cutoffs: Sequence[int] | None = None,
        div_value: float = 4.0,
        tokenizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _check_encoder(encoder)
        self.encoder, self.dropout = encoder, share(self, "dropout", dropout)
        self.bos_id = None if bos_id is None else whole("bos_id", bos_id)
        self.eos_id, self.pad_id = whole("eos_id", eos_id), whole("pad_id", pad_id)
        for name, token in (("bos_id", self.bos_id), ("eos_id", self.eos_id)):
            if token is not None:
                check_ids(np.array([token]), self.vocabulary_size, name)
        check_language_tokenizer(self, tokenizer)
        self.tokenizer = tokenizer
        self.unit_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        self.tie_embeddings = flag("tie_embeddings", tie_embeddings)
        self.cutoffs, self.div_value, self._scores_labels = cutoffs, div_value, False
        self.to_logits = self._logits_layer()
        self._carried = CarriedStates()
        freeze_inner_layers(self)

    def _logits_layer(self) -> keras.layers.Layer:
        if self.cutoffs is not None and not self.tie_embeddings:
            layer = AdaptiveSoftmax(self.vocabulary_size, self.cutoffs, div_value=self.div_value, dtype="float32")
            self.cutoffs, self.div_value = layer.cutoffs, layer.div_value
            return layer
        if self.cutoffs is not None or self.div_value != 4.0:
            raise ValueError(
                f"cutoffs={self.cutoffs!r}, div_value={self.div_value!r}, tie_embeddings={self.tie_embeddings}: only "
                "cutoffs give an adaptive softmax, whose vectors have several sizes, so that no embedding has them."
            )
        if not self.tie_embeddings:
            return keras.layers.Dense(self.vocabulary_size, dtype="float32")
        dim, size = self.encoder.embedding.output_dim, self.encoder.encoded_shape().values[-1]
        if dim != size:
            raise ValueError(
                f"tie_embeddings=True needs embeddings of the size of the encoder's outputs, but they have {dim} and "
                f"{size} numbers. Make the encoder with embedding_dim={size}."
            )
        return TiedLogits(self.encoder.embedding, dtype="float32")

    @property
    def names(self) -> InputNames:
        """Names of the inputs."""
        return InputNames("source", "target", {"source": "lengths"}, {"source": self.pad_id}, aligned=ALIGNED)

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids."""
        return self.encoder.vocabulary_size

    @property
    def variables(self) -> list:
        """All variables, including the carried states, which are not among the weights."""
        return [*super().variables, *self._carried.variables]

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        if not self.encoder.built:  # an encoder loaded from a file is built already
            self.encoder.build()
        self.to_logits.build(self.encoder.encoded_shape().values)

    def compile(self, optimizer: Any = "adam", loss: Any = None, *, metrics: Any = None, **kwargs: Any) -> None:
        """Configure the training, as in Keras."""
        metrics = [Perplexity(ignore_label=getattr(loss, "ignore_label", None))] if metrics is None else metrics
        loss = SequenceCrossEntropy() if loss is None else loss
        super().compile(optimizer, loss, metrics=metrics, **kwargs)
        alone = reads_labels_alone(loss, metrics, kwargs.get("weighted_metrics"))
        self._scores_labels = self.cutoffs is not None and alone

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the logits of the token that follows each token."""
        source = self._rows(inputs)
        if "reset" in inputs:
            encoded = self._read_on(source, inputs["reset"], bool(training))
        else:
            encoded = self.encoder(source.ids, source.lengths, training=training)
        values = encoded.values[:, : ops.shape(inputs["source"])[1]]  # an encoder pads empty rows to one step
        hidden, batch = self.unit_dropout(values, training=training), self.shared_batch
        if self._scores_labels and batch is not None and not batch.has_labels:  # in a step of `fit` or `evaluate`
            return self.to_logits.log_probability(hidden, self.labels(inputs))
        logits = self.to_logits(hidden)
        return logits if training else with_nan(logits, source.valid)  # in training the labels are wrong

    def _read_on(self, source: Rows, reset: Tensor, training: bool) -> Encoded:
        """Encode chunks of texts from the states in which the last batch ended, and store the new ones."""
        batch = source.ids.shape[0]
        if getattr(reset.shape, "rank", 0) is None:  # in a graph for batches of both shapes
            reset = _to_width(ops.reshape(reset, (batch, -1)), ops.shape(source.ids)[1])
        if not self.encoder.carries_state:
            if len(reset.shape) != 1:
                raise ValueError(
                    f"reset has shape {tuple(reset.shape)}, but a {type(self.encoder).__name__} attends to all tokens "
                    "of a row, those of other texts too. Train it on whole texts, or on chunks without document_ends."
                )
            return self.encoder(source.ids, source.lengths, training=training)
        if not self._carried.has(batch, training=training):
            if batch is None or known_value(source.lengths) is None:
                raise ValueError(
                    f"Batches of {batch} rows with reset need states of as many rows, which cannot be created while a "
                    "graph is traced. Give batches of one size, as kseq.training.continuous_batches makes them."
                )
            self._carried.create(self.initial_state, batch, training=training)
        start = self.encoder.initial_state(batch)
        rows, tokens = (reset, None) if len(reset.shape) == 1 else (None, reset)
        state = self._carried.begin(batch, start, rows, training=training)
        encoded, state = self.encoder.read_on(source.ids, source.lengths, state, tokens, training=training)
        self._carried.keep(batch, state, training=training)
        return encoded

    @once_per_batch
    def compute_mask(self, inputs: Mapping[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which logits belong to real tokens, bool `(batch, time)`; all of a wrong row do."""
        source = self._rows(inputs)
        mask = mask_from_lengths(source.lengths, ops.shape(source.ids)[1])
        return mask if source.valid is None else ops.logical_or(mask, ops.logical_not(source.valid)[:, None])

    @once_per_batch
    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the token that follows each token; in a wrong row a number that is no token id."""
        target, valid = integers(inputs["target"], "target"), self._rows(inputs).valid
        return target if valid is None else ops.where(valid[:, None], target, NO_ID)

    @once_per_batch
    def _rows(self, inputs: Mapping[str, Tensor]) -> Rows:
        """Return the tokens, safe to look up, and which rows are valid."""
        return read_rows(inputs["source"], inputs["lengths"], self.vocabulary_size, name="source")

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        check_texts(inputs, self.vocabulary_size)

    def check_targets(self, inputs: Mapping[str, Any]) -> None:
        """Raise ValueError if there is nothing to learn."""
        if isinstance(inputs, Mapping) and "target" not in inputs:
            raise ValueError(
                f"The inputs {sorted(inputs)} lack target, the token that follows each token of source. Give whole "
                "texts as a list of rows, or batches of kseq.training.continuous_batches."
            )

    def _checked(self, method: Any, args: tuple, kwargs: Mapping[str, Any], *, to_train: bool = False) -> Any:
        """Return the arguments, with the targets of whole texts, and create the states that batches carry."""
        call = inspect.signature(method).bind(*args, **kwargs)
        data = with_names(call.arguments.get("x"))
        if method.__name__ != "predict" and call.arguments.get("y") is None:
            data = self._with_targets(data)
        call.arguments["x"] = data
        self._carry(data, method.__name__, training=to_train)
        return super()._checked(method, call.args, call.kwargs, to_train=to_train)

    def _validation(self, data: Any) -> Any:
        """Return validation data, with the targets of whole texts."""
        data = data[0] if isinstance(data, tuple) and len(data) == 1 else data
        data = with_names(data) if isinstance(data, tuple) else self._with_targets(with_names(data))
        self._carry(data, "fit", training=False)
        return super()._validation(data)

    def _with_targets(self, data: Any) -> Any:
        return with_targets(data, bos_id=self.bos_id, eos_id=self.eos_id, pad_id=self.pad_id)

    def _carry(self, data: Any, method: str, *, training: bool) -> None:
        """Create the states that the batches of `data` carry, before a graph is traced."""
        batch = getattr(data, "element_spec", None)
        if isinstance(data, keras.utils.PyDataset) and data.num_batches != 0:
            batch = data[0]
        elif isinstance(data, Mapping):
            batch = data
        if not isinstance(batch, Mapping) or "reset" not in batch or not self.encoder.carries_state:
            return
        if batch is data and not method.endswith("on_batch"):
            raise ValueError(
                f"{method} would cut and shuffle arrays with reset, so that rows would not go on from batch to batch. "
                "Give it the batches of kseq.training.continuous_batches."
            )
        rows = batch["source"].shape[0]
        for mode in {training, False} if rows else set():  # Keras builds for training by a call without it
            self._carried.create_for(self, cast(int, rows), training=mode)

    def initial_state(self, batch: int | Tensor, max_length: int | None = None) -> Any:
        """Return the state before the first token of `batch` texts, see `TokenEncoder.initial_state`."""
        if not self.built:
            self.build()
        return self.encoder.initial_state(batch, max_length)

    def step(self, tokens: Tensor, state: Any, memory: Any = None) -> StepOutput:
        """Run one decoding step for every hypothesis; the search strategies of `kseq.decoding` call this method.

        Args:
            tokens: int `(rows,)`, the previous tokens.
            state: What `initial_state`, `read` or the last step returned.
            memory: None; the model reads no source.

        Returns:
            Logits, float32 `(rows, vocabulary)`; the new state; None; and the inputs of the logits' layer, `(rows,
            units)`.
        """
        hidden, state = self.encoder.step(tokens, state)
        return StepOutput(self.to_logits(hidden), state, None, hidden)

    def read(self, tokens: Any, lengths: Any, state: Any = None) -> tuple[Tensor, Any]:
        """Read tokens, from the begin of a text or from a state.

        Args:
            tokens: int `(batch, time)`; the begin token is one of them, if texts have one.
            lengths: int `(batch,)`, how many of them are real.
            state: The state before them; None: the initial one.

        Returns:
            `(logits, state)`: the logits of the token that follows each token, float32 `(batch, time, vocabulary)`,
            and the state after each row's last token, from which `read`, `decode` and `generate` go on.

        Raises:
            ValueError: If the encoder carries no state, as a Transformer does not, or the state has another number of
                rows; or as in `fit`.
        """
        if not self.encoder.carries_state:
            raise ValueError(
                f"A {type(self.encoder).__name__} carries no state from text to text. Give the whole text as a prompt."
            )
        rows = read_rows(tokens, lengths, self.vocabulary_size, name="tokens")
        if state is not None:
            check_rows_of_state(state, ops.shape(rows.ids)[0], "texts")
        state = self.initial_state(ops.shape(rows.ids)[0]) if state is None else state
        encoded, state = self.encoder.read_on(rows.ids, rows.lengths, state)
        return with_nan(self.to_logits(encoded.values), rows.valid), state

    def serving_defaults(self) -> dict[str, Any]:
        """Return the tokenizers with which the model is exported if the call gives none."""
        return {"source": self.tokenizer, "target": self.tokenizer}

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model: from prompts to continuations."""
        return serving_of_language_model(self, options)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "pad_id": self.pad_id,
            "dropout": self.dropout,
            "tie_embeddings": self.tie_embeddings,
            "cutoffs": None if self.cutoffs is None else list(self.cutoffs),
            "div_value": self.div_value,
            "tokenizer": keras.saving.serialize_keras_object(self.tokenizer),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "LanguageModel":
        """Create a model from the result of `get_config`."""
        return cls(**{**config, **loaded_parts(config, ("encoder", "tokenizer"), custom_objects)})


ALIGNED = {"target": "source"}


def _check_encoder(encoder: TokenEncoder) -> None:
    if not encoder.causal or type(encoder).step is TokenEncoder.step:
        raise ValueError(
            f"A LanguageModel predicts a token from those before it, but the encoder, a {type(encoder).__name__}, is "
            "not causal or cannot take single steps. Give kseq.models.Encoder(..., bidirectional=False) or "
            "TransformerEncoder(..., causal=True)."
        )
    if encoder.characters is not None:
        raise ValueError(
            f"A LanguageModel writes tokens, but the encoder, a {type(encoder).__name__}, also reads the characters of "
            "words. Give one without characters, such as kseq.models.Encoder."
        )


def _to_width(values: Tensor, width: int | Tensor) -> Tensor:
    """Return bool `(batch, n)` with `width` columns, which are False beyond the given ones."""
    return ops.pad(values, [(0, 0), (0, width - ops.shape(values)[1])], constant_values=False)
