"""The tagger of tokens."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.ids import NO_ID, Rows, all_valid, integers, read_rows, with_nan
from kseq.inner_layers import freeze_inner_layers
from kseq.masking import mask_from_lengths
from kseq.models.encoder import Encoder
from kseq.models.export_contract import Serving, ServingOptions, StepInputs, check_tokenizers
from kseq.models.model_inputs import InputNames, check_row_sizes
from kseq.models.sequence_model import SequenceModel
from kseq.models.shared_batch import once_per_batch
from kseq.models.tag_answer import tags_and_scores
from kseq.models.text_batches import ids_of_words, loaded_parts, map_rows, one_or_many, tokenizer_of
from kseq.models.token_checks import check_batch, check_characters, check_tags, integer_array
from kseq.models.word_encoder import WordEncoder
from kseq.numbers import whole


@keras.saving.register_keras_serializable(package="kseq")
class Tagger(SequenceModel):
    """An encoder and a classifier of tokens: for parts of speech, named entities, accents or word boundaries.

        logits_t = W h_t + b    with h_t the encoder's output at token t

    Args:
        encoder: An `Encoder` of the tokens, or a `WordEncoder`, which reads their characters as well.
        num_tags: Number of tags, ids 0 to `num_tags - 1`.
        dropout: Share of the encoder's outputs dropped in training; a row's tokens share one dropout mask.
        source_tokenizer: The tokenizer of the sentences, for `tag` and the export; saved with the model, as are the two
            below. None: the model reads ids alone.
        character_tokenizer: For a `WordEncoder`, the tokenizer of the words' characters.
        class_names: The names of the tags, in the order of their ids. None: their ids.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict of int tensors: `source` `(batch, time)` and `source_lengths` `(batch,)`; for a `WordEncoder`
            `characters` `(batch, time, characters)` and `characters_lengths` `(batch, time)`; to train and evaluate
            `tags` `(batch, time)`. Padding never changes an answer. `fit`, `predict` and their kin also take lists of
            rows, such as `{"source": [[4, 5], [6]], "tags": [[1, 0], [2]]}`, or RaggedTensors, without lengths; and
            `fit(source, tags)`, where the rows of an array end before their trailing zeros.
        training: Whether dropout is on.

    Returns:
        Logits of each token's tag, float32 `(batch, time, num_tags)`, with a Keras mask of the real tokens.

    `kseq.training.tagged_words` makes training rows from words and names of tags. `fit` and `evaluate` need no `y`. The
    default loss is `SequenceCrossEntropy`, the default metric `TokenAccuracy`.

    `kseq.export_saved_model` exports it with `tags` and `scores` as the answer. With `source`, a tokenizer, requests
    are texts and the answer contains the `tokens`; for a `WordEncoder` `source` is `{"tokens": words, "characters":
    characters}`, two tokenizers, of which the second one gets the words as the first one writes them.

    Raises:
        ValueError: In `fit`, `evaluate`, `predict` and `train_on_batch` with arrays, if one is missing or empty, is not
            of integers, a length does not fit, or an id is out of range. The rows of a dataset are not checked, but
            `kseq.training.bucket_by_length` checks those that it batches. In a compiled step, a row with an id or tag
            out of range or a length that does not fit makes the loss NaN, and has no gradient; without tags its logits
            are NaN.

    Example:
        >>> model = kseq.models.Tagger(kseq.models.Encoder(5000, 64, kseq.cells.LSTMCell(80)), num_tags=17)
        >>> model({"source": np.ones((2, 7), "int32"), "source_lengths": np.array([7, 3])}).shape
        (2, 7, 17)

    Reference: Z. Huang, W. Xu, K. Yu, "Bidirectional LSTM-CRF models for sequence tagging", 2015 (without its CRF).
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
        encoder: Encoder,
        num_tags: int,
        *,
        dropout: float = 0.0,
        source_tokenizer: Any = None,
        character_tokenizer: Any = None,
        class_names: Sequence[str] | None = None,
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
        self.encoder, self.num_tags, self.dropout = encoder, num_tags, float(dropout)
        self.source_tokenizer, self.character_tokenizer = source_tokenizer, character_tokenizer
        self.class_names = None if class_names is None else tuple(class_names)
        self.unit_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=self.dtype_policy)
        self.to_logits = keras.layers.Dense(num_tags, dtype="float32")
        freeze_inner_layers(self)

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        if not self.encoder.built:  # an encoder loaded from a file is built already
            self.encoder.build()
        self.to_logits.build(self.encoder.encoded_shape().values)

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
        sizes = {"source": self.encoder.vocabulary_size}
        if isinstance(self.encoder, WordEncoder):
            sizes["characters"] = self.encoder.characters.vocabulary_size
        rows = [read_rows(inputs[name], inputs[f"{name}_lengths"], size, name=name) for name, size in sizes.items()]
        return rows, all_valid(*rows)

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        check_batch(inputs, {"source": self.encoder.vocabulary_size})
        shape = np.shape(inputs["source"])
        if isinstance(self.encoder, WordEncoder):
            check_characters(inputs, shape, self.encoder.characters.vocabulary_size)
        if "tags" in inputs:
            ignored = getattr(getattr(self, "loss", None), "ignore_label", None)
            lengths = integer_array(inputs["source_lengths"], "source_lengths")
            check_tags(inputs["tags"], lengths, shape, self.num_tags, ignored)
            if "tags_lengths" in inputs:  # the model does not read them, but bucket_by_length makes them
                of_tags = integer_array(inputs["tags_lengths"], "tags_lengths")
                check_row_sizes(of_tags.tolist(), lengths.tolist(), "tags", "source")

    def tag(self, sentences: str | Sequence[str | Sequence[str]]) -> Any:
        """Return the most probable tag of each word of each sentence, by the model's tokenizers.

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
            return list(ops.convert_to_numpy(ops.argmax(logits, axis=-1)))

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
        if isinstance(self.encoder, WordEncoder):
            spelt, lengths = tokenizer_of(self, "character_tokenizer", "tag")(flat)
            tables |= {"characters": spelt.numpy(), "characters_lengths": lengths.numpy()}
        ends = np.cumsum([0, *map(len, words)])
        return tables, [np.arange(start, end) for start, end in itertools.pairwise(ends)]

    def serving_defaults(self) -> dict[str, Any]:
        """Return the tokenizers and names with which the model is exported if the call gives none."""
        source = self.source_tokenizer
        if source is not None and isinstance(self.encoder, WordEncoder):
            source = {"tokens": source, "characters": self.character_tokenizer}
        return {"source": source, "class_names": self.class_names}

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model: from tokens or words to tags."""
        return _serving_of_tagger(self, options)

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
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Tagger":
        """Create a tagger from the result of `get_config`."""
        return cls(
            **{**config, **loaded_parts(config, ("encoder", "source_tokenizer", "character_tokenizer"), custom_objects)}
        )


def _serving_of_tagger(model: Tagger, options: ServingOptions) -> Serving:
    """Return the `Serving` of a tagger: from tokens, with a `WordEncoder` also their characters, to tags.

    Raises:
        ValueError: If an option does not apply to a tagger, or a tokenizer or the class names do not fit the model.
    """
    options.refuse("Tagger", "strategy", "target", "max_length", "seed_input", "alignments")
    names = options.class_names
    if names is not None and len(names) != model.num_tags:
        raise ValueError(
            f"class_names has {len(names)} names, but the model has {model.num_tags} tags. Give one name for each tag, "
            "in the order of the ids."
        )
    encoder = model.encoder
    inputs = {"tokens": StepInputs(dtype="int32", vocabulary_size=encoder.vocabulary_size)}
    lengths = "lengths"
    if isinstance(encoder, WordEncoder):
        size = encoder.characters.vocabulary_size
        inputs["characters"] = StepInputs(dtype="int32", vocabulary_size=size, steps_of="tokens")
        lengths = "tokens_lengths"
    check_tokenizers(inputs, options.source)

    def answer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        called = {**tensors, "source": tensors["tokens"], "source_lengths": tensors[lengths]}
        mask = mask_from_lengths(tensors[lengths], ops.shape(tensors["tokens"])[1])
        return tags_and_scores(ops.softmax(model(called, training=False), axis=-1), mask)

    return Serving(inputs, answer, padding={"tags": -1}, named=("tags",), spelled="tokens")
