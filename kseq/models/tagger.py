"""The tagger of tokens."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kseq import losses
from kseq.backend import Tensor
from kseq.ids import NO_ID, Rows, integers, with_nan
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import CRF
from kseq.masking import lengths_from_mask, mask_from_lengths, set_implicit_mask
from kseq.metrics import SpanF1, TokenAccuracy
from kseq.models.answers.tag_decoder import TagDecoder
from kseq.models.answers.tagger_serving import serving_of_tagger
from kseq.models.encoders.token_encoder import TokenEncoder
from kseq.models.export_contract import Serving, ServingOptions, check_tokenizers
from kseq.models.inputs.encoder_inputs import EncoderInputs
from kseq.models.inputs.model_inputs import InputNames, check_row_sizes
from kseq.models.inputs.shared_batch import once_per_batch
from kseq.models.inputs.text_batches import ids_of_words, loaded_parts, map_rows, one_or_many, tokenizer_of
from kseq.models.inputs.token_checks import check_tag_sequences, check_tags, integer_array
from kseq.models.sequence_model import SequenceModel
from kseq.numbers import flag, whole
from kseq.tag_schemes import allowed_transitions


@keras.saving.register_keras_serializable(package="kseq")
class Tagger(SequenceModel):
    """An encoder and a classifier of tokens: for parts of speech, named entities, accents or word boundaries.

        logits_t = W h_t + b    with h_t the encoder's output at token t

    With `crf=True`, a conditional random field scores whole sequences of tags: the sum of their logits and of learned
    scores of each transition, of the first tag and of the last one. Without it, each token's tag is chosen by itself.

    Args:
        encoder: The encoder of the tokens, such as an `Encoder`, or a `WordEncoder`, which reads characters as well.
        num_tags: Number of tags, ids 0 to `num_tags - 1`.
        dropout: Share of the encoder's outputs dropped in training; a row's tokens share one dropout mask.
        source_tokenizer: The tokenizer of the sentences, for `tag` and the export; saved with the model, as are the two
            below. None: the model reads ids alone.
        character_tokenizer: For a `WordEncoder`, the tokenizer of the words' characters.
        class_names: The names of the tags, in the order of their ids. None: their ids.
        crf: Whether to score sequences of tags by a `kseq.layers.CRF`, whose loss is then the model's.
        scheme: "BIO", "BIOES" or another scheme of `kseq.tag_schemes`, which `class_names` follow. No sequence of tags
            is then predicted that the scheme forbids, such as "I-X" after "O", and the CRF is trained without them;
            `SpanF1` is a default metric; and an exported model answers with spans. May be set after training without
            it, by `Tagger.from_config`. None: all sequences are possible.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of int tensors: `source` `(batch, time)` and `source_lengths` `(batch,)`; for a `WordEncoder`
            `characters` `(batch, time, characters)` and `characters_lengths` `(batch, time)`; to train and evaluate
            `tags` `(batch, time)`. Padding never changes an answer. `fit`, `predict` and their kin also take lists of
            rows, such as `{"source": [[4, 5], [6]], "tags": [[1, 0], [2]]}`, or RaggedTensors, without lengths; and
            `fit(source, tags)`, where the rows of an array end before their trailing zeros.
        training: Whether dropout is on.

    Returns:
        Logits of each token's tag, float32 `(batch, time, num_tags)`, with a Keras mask of the real tokens. `predict`
        returns them, too; `decode(logits, lengths)` makes tags of them, and `tag` makes tags of texts.

    `kseq.training.tagged_words` makes training rows from words and names of tags. `fit` and `evaluate` need no `y`. The
    default loss is `SequenceCrossEntropy`, or the negative log-likelihood of the CRF; the default metrics are
    `TokenAccuracy` and, with a scheme, `SpanF1`. With a CRF or a scheme, metrics get the decoded tags, one-hot.
    `fit(class_weight={3: 2.0})` weights tokens by their tag, of arrays and datasets; not with a CRF.

    `kseq.export_saved_model` exports it with `tags` and `scores` as the answer. A score is the probability of the tag
    at its token: with a CRF its marginal probability, summed over all sequences of tags. With `source`, a tokenizer,
    requests are texts and the answer contains the `tokens`; for a `WordEncoder` `source` is `{"tokens": words,
    "characters": characters}`, two tokenizers, of which the second one gets the words as the first one writes them.
    With a scheme, the answer contains `span_starts` and `span_ends`, int32 `(batch, n)`, padded with -1, and
    `span_types`, string `(batch, n)`: the places of spans in bytes of the text, or in tokens if requests are tokens; a
    span ends before its `span_ends`. Rows longer than the largest bucket are read in overlapping windows.

    Raises:
        ValueError: If `class_names` do not follow the scheme, or a tokenizer has more ids than the encoder. In `fit`,
            `evaluate`, `predict` and `train_on_batch` with arrays, if one is missing or empty, is not of integers, a
            length does not fit, an id is out of range, or the scheme forbids a row's tags. The rows of a dataset are
            not checked, but `kseq.training.bucket_by_length` checks those that it batches. In a compiled step, a row
            with an id or tag out of range or a length that does not fit makes the loss NaN or, with a CRF, infinite,
            and has no gradient; without tags its logits are NaN.

    Example:
        >>> model = kseq.models.Tagger(kseq.models.Encoder(5000, 64, kseq.cells.LSTMCell(80)), num_tags=17)
        >>> model({"source": np.ones((2, 7), "int32"), "source_lengths": np.array([7, 3])}).shape
        (2, 7, 17)

    Reference: Z. Huang, W. Xu, K. Yu, "Bidirectional LSTM-CRF models for sequence tagging", 2015.
    """

    names: ClassVar[InputNames] = InputNames(
        x="source",
        y="tags",
        lengths={"source": "source_lengths", "characters": "characters_lengths"},
        ends={"source": 0},
        words=("characters",),
        aligned={"tags": "source", "characters": "source"},
    )

    def __init__(
        self,
        encoder: TokenEncoder,
        num_tags: int,
        *,
        dropout: float = 0.0,
        source_tokenizer: Any = None,
        character_tokenizer: Any = None,
        class_names: Sequence[str] | None = None,
        crf: bool = False,
        scheme: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        num_tags = whole("num_tags", num_tags)
        if num_tags < 1:
            raise ValueError(f"num_tags={num_tags}, but a tagger needs at least 1 tag.")
        if class_names is not None and (len(class_names) != num_tags or isinstance(class_names, str)):
            raise ValueError(f"class_names are {class_names!r}, but num_tags={num_tags} needs one name for each tag.")
        if class_names is not None and len(set(class_names)) < len(class_names):
            twice = next(name for place, name in enumerate(class_names) if name in class_names[:place])
            raise ValueError(f"class_names has {twice!r} twice, so answers would not tell the tags apart.")
        if encoder.subsampling != 1:
            raise ValueError(
                f"A tagger needs values for each token, but the encoder, a {type(encoder).__name__}, has values for "
                f"every {encoder.subsampling} tokens. Give one with subsampling=1, such as kseq.models.Encoder."
            )
        self.encoder, self.num_tags, self.dropout = encoder, num_tags, float(dropout)
        self.source_tokenizer, self.character_tokenizer = source_tokenizer, character_tokenizer
        self.reads = EncoderInputs(encoder)
        check_tokenizers(self.reads.in_requests(), self.reads.tokenizers_of(self))
        self.class_names = None if class_names is None else tuple(class_names)
        self.unit_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        self.to_logits = keras.layers.Dense(num_tags, dtype="float32")
        if scheme is not None and class_names is None:
            raise ValueError(f"scheme={scheme!r} needs class_names, the names of the tags that follow it.")
        self.scheme = scheme
        allowed = None if scheme is None else allowed_transitions(class_names or (), scheme)
        named = {} if scheme is None else {"names": self.class_names, "scheme": scheme}
        self.crf = CRF(num_tags, use_kernel=False, dtype="float32", **named) if flag("crf", crf) else None
        self.decoder = TagDecoder(num_tags, self.crf, allowed)
        freeze_inner_layers(self)

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        if not self.encoder.built:  # an encoder loaded from a file is built already
            self.encoder.build()
        self.to_logits.build(self.encoder.encoded_shape().values)
        if self.crf is not None:
            self.crf.build((None, None, self.num_tags))

    def compile(self, optimizer: Any = "adam", loss: Any = None, *, metrics: Any = None, **kwargs: Any) -> None:
        """Configure the training, as in Keras.

        Raises:
            ValueError: If the model has a CRF, and the loss is not `kseq.losses.CRF`, or the other way around.
        """
        loss = self._checked_loss(loss)
        if metrics is None and self.scheme is not None:
            ignored = getattr(loss, "ignore_label", None)
            metrics = [
                TokenAccuracy(ignore_label=ignored),
                SpanF1(self.class_names or (), self.scheme, ignore_label=ignored),
            ]
        super().compile(optimizer, loss, metrics=metrics, **kwargs)

    def _checked_loss(self, loss: Any) -> Any:
        """Return the loss, by default that of the CRF if there is one."""
        if self.crf is None:
            if isinstance(loss, losses.CRF):
                raise ValueError("The loss is kseq.losses.CRF, but the model has no CRF. Create it with crf=True.")
            return loss
        loss = losses.CRF() if loss is None else loss
        if not isinstance(loss, losses.CRF):
            raise ValueError(
                f"The loss is {loss!r}, but a Tagger with crf=True is trained by the likelihood of its CRF, whose "
                "transitions another loss would not train. Leave loss out, or give kseq.losses.CRF(...)."
            )
        return loss

    def _real_rows(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return 1 for rows with tokens and 0 for those that complete a batch, float32 `(batch,)`."""
        return ops.cast(ops.any(self.compute_mask(inputs), axis=1), "float32")

    def loss_weight(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the number of real tokens, or with a CRF, whose loss is a mean over rows, of real rows."""
        return super().loss_weight(inputs) if self.crf is None else ops.sum(self._real_rows(inputs))

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the loss; with a CRF its mean over the rows that have tokens."""
        if self.crf is not None:
            real, weights = self._real_rows(x), self.sample_weights(x, sample_weight)
            sample_weight = real if weights is None else real * ops.cast(weights, "float32")
            y_pred = self.crf(y_pred, mask=self.compute_mask(x))  # tells the loss where the transitions are
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the logits of each token's tag."""
        rows, valid = self._rows(inputs)
        encoded = self.encoder(*(part for each in rows for part in each[:2]), training=training)
        values = encoded.values[:, : ops.shape(inputs["source"])[1]]  # an encoder pads empty rows to one step
        logits = self.to_logits(self.unit_dropout(values, training=training))
        return logits if training else with_nan(logits, valid)  # in training the labels are wrong

    @once_per_batch
    def compute_mask(self, inputs: Mapping[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which logits belong to real tokens, bool `(batch, time)`; all of a wrong row do."""
        (source, *_), valid = self._rows(inputs)
        mask = mask_from_lengths(source.lengths, ops.shape(source.ids)[1])
        return mask if valid is None else ops.logical_or(mask, ops.logical_not(valid)[:, None])

    @once_per_batch
    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the tags; in a wrong row a number that is no tag."""
        tags, valid = integers(inputs["tags"], "tags"), self._rows(inputs)[1]
        return tags if valid is None else ops.where(valid[:, None], tags, NO_ID)

    @once_per_batch
    def _rows(self, inputs: Mapping[str, Tensor]) -> tuple[list[Rows], Tensor | None]:
        """Return the tokens, and for a `WordEncoder` their characters, safe to look up, and which rows are valid."""
        return self.reads.read(inputs)

    def _classes_of_labels(self) -> int:
        """Return the number of tags; raise ValueError if the loss is that of whole sequences of tags."""
        if self.crf is not None:
            raise ValueError(
                "class_weight weights tokens by their tag, but with crf=True the loss is the likelihood of a row's "
                "sequence of tags as a whole. Give sample_weight, a number for each row, instead."
            )
        return self.num_tags

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        self.reads.check(inputs)
        if "tags" in inputs:
            shape = np.shape(inputs["source"])
            ignored = getattr(getattr(self, "loss", None), "ignore_label", None)
            lengths = integer_array(inputs["source_lengths"], "source_lengths")
            check_tags(inputs["tags"], lengths, shape, self.num_tags, ignored)
            if self.class_names is not None and self.decoder.allowed is not None and ignored is None:
                check_tag_sequences(inputs["tags"], lengths, self.decoder.allowed, self.class_names, self.scheme)
            if "tags_lengths" in inputs:  # the model does not read them, but bucket_by_length makes them
                of_tags = integer_array(inputs["tags_lengths"], "tags_lengths")
                check_row_sizes(of_tags.tolist(), lengths.tolist(), "tags", "source")

    def decode(self, logits: Any, lengths: Any) -> Tensor:
        """Return the tags that logits tell: each token's best one, or with a CRF or a scheme the best sequence.

        Args:
            logits: float `(batch, time, num_tags)`, what the model or `predict` returns.
            lengths: int `(batch,)`, the number of real tokens in each row.

        Returns:
            int32 `(batch, time)`; in the padding any tag.
        """
        return self.decoder.tags(ops.convert_to_tensor(logits), lengths)

    def train_step(self, *args: Any) -> Any:
        """Train on one batch, as in Keras."""
        with self.decoder.values_of_step(self, args):
            return super().train_step(*args)

    def test_step(self, *args: Any) -> Any:
        """Evaluate one batch, as in Keras."""
        with self.decoder.values_of_step(self, args):
            return super().test_step(*args)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the metrics; with a CRF or a scheme they get the decoded tags, one-hot."""
        if not self.decoder.by_token:
            mask = self.compute_mask(x)
            tags = self.decoder.tags(y_pred, lengths_from_mask(mask))
            y_pred = ops.one_hot(tags, self.num_tags, dtype="float32")
            set_implicit_mask(y_pred, mask)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def tag(self, sentences: str | Sequence[str | Sequence[str]]) -> Any:
        """Return the tag of each word of each sentence, by the model's tokenizers: the tags that `decode` returns.

        Args:
            sentences: A list of sentences, each a text, which the source tokenizer splits, or a list of words. Or a
                single text.

        Returns:
            For each sentence a list of `(word, tag)`; a tag is a name, or an id if the model has no `class_names`. For
            a single text, its list alone.

        Raises:
            ValueError: If the model has no tokenizer, or the tokenizer splits one of the given words.

        Example:
            >>> model.tag("Time flies")
            [('Time', 'NOUN'), ('flies', 'VERB')]
        """
        sentences, single = one_or_many(sentences, (str, bytes))
        words = self._words(sentences)
        if not any(words):
            return [] if single else words
        tables, rows = self._look_up(words)

        def answer(places: np.ndarray, lengths: np.ndarray) -> list:
            inputs = {name: table[places] for name, table in tables.items()}
            logits = self({**inputs, "source_lengths": lengths}, training=False)
            return list(ops.convert_to_numpy(self.decode(logits, lengths)))

        names = range(self.num_tags) if self.class_names is None else self.class_names
        tags = map_rows(answer, rows, "int32")
        # The tags of a row go on into its padding.
        pairs = [zip(row, of_row, strict=False) for row, of_row in zip(words, tags, strict=True)]
        tagged = [[(word, names[tag]) for word, tag in row] for row in pairs]
        return tagged[0] if single else tagged

    def _words(self, sentences: list) -> list[list[str]]:
        """Return the words of sentences, each a text or a list of words."""
        split = tokenizer_of(self, "source_tokenizer", "tag").split
        texts = [sentence for sentence in sentences if isinstance(sentence, str | bytes)]
        of_text = iter(split(texts).to_list() if texts else [])
        words = [next(of_text) if isinstance(sentence, str | bytes) else sentence for sentence in sentences]
        return [[word.decode("utf-8", "replace") if isinstance(word, bytes) else word for word in row] for row in words]

    def _look_up(self, words: list[list[str]]) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Return the model's inputs for every word, and for each sentence the places of its words in them."""
        flat = [word for row in words for word in row]
        tables = {"source": ids_of_words(tokenizer_of(self, "source_tokenizer", "tag"), flat)}
        if self.reads.reads_characters:
            spelt, lengths = tokenizer_of(self, "character_tokenizer", "tag")(flat)
            tables |= {"characters": spelt.numpy(), "characters_lengths": lengths.numpy()}
        ends = np.cumsum([0, *map(len, words)])
        return tables, [np.arange(start, end) for start, end in itertools.pairwise(ends)]

    def serving_defaults(self) -> dict[str, Any]:
        """Return the tokenizers and names with which the model is exported if the call gives none."""
        return {"source": self.reads.tokenizers_of(self), "class_names": self.class_names}

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model: from tokens or words to tags."""
        return serving_of_tagger(self, options)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "num_tags": self.num_tags,
            "dropout": self.dropout,
            "source_tokenizer": keras.saving.serialize_keras_object(self.source_tokenizer),
            "character_tokenizer": keras.saving.serialize_keras_object(self.character_tokenizer),
            "class_names": self.class_names,
            "crf": self.crf is not None,
            "scheme": self.scheme,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Tagger":
        """Create a tagger from the result of `get_config`."""
        return cls(
            **{**config, **loaded_parts(config, ("encoder", "source_tokenizer", "character_tokenizer"), custom_objects)}
        )
