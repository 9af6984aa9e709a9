"""Rows that are decoded while a model is trained, and the right answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kseq.backend import Tensor
from kseq.decoding import GreedySearch, Sampling, get_ctc_strategy, get_strategy
from kseq.models import CTCRecognizer, LanguageModel, Tagger
from kseq.models.encoder_decoder import EncoderDecoder
from kseq.models.inputs.ctc_checks import frames_of
from kseq.models.inputs.model_inputs import as_dict
from kseq.models.inputs.source_inputs import ArraySource, source_of
from kseq.models.inputs.text_batches import best_texts, rows_of_ids, tokenizer_of
from kseq.models.inputs.token_checks import integer_array
from kseq.numbers import whole
from kseq.training.tagged_words import tagged_words


class HeldOut:
    """The contract of data to decode: what `map_rows` needs, and how the model's answers are read.

    Attributes:
        rows: For each row an array `(time, ...)`, of which `map_rows` makes batches.
        right: For each row the right answer: a text, or a list of ids or of names.
        dtype: Dtype of the batches.
        pad: Whether rows of similar lengths make up a batch; False: of equal lengths.
    """

    rows: list[np.ndarray]
    right: list
    dtype: str = "int32"
    pad: bool = True

    def inputs(self, values: np.ndarray) -> Any:
        """Return the arrays that `decode` reads, of those of `map_rows`."""
        return values

    def decode(self, values: Any, lengths: Tensor) -> dict[str, Tensor]:
        """Return the model's answers to a batch; a pure function of its arguments and the model's weights."""
        raise NotImplementedError

    def read(self, outputs: Mapping[str, np.ndarray], values: np.ndarray, lengths: np.ndarray) -> list:
        """Return the answer to each row of a batch, as `right` has them."""
        raise NotImplementedError


class HeldOutTexts(HeldOut):
    """Sources of a `Seq2Seq`, and their targets."""

    def __init__(self, model: Any, data: Any, strategy: Any, max_length: int | None, seed: int):
        self.model, self.reads = model, source_of(model)
        self.strategy, self.max_length = get_strategy(strategy), max_length
        self.call = {"seed": seed} if getattr(self.strategy, "draws", False) else {}
        sources, targets = _pair(model, data)
        self.strings: Any = None
        if isinstance(self.reads, ArraySource):
            self.rows, self.dtype, self.pad = [np.asarray(each) for each in sources], "float32", False
        else:
            if model.copies and _is_texts(sources):
                self.strings = tokenizer_of(model, "source_tokenizer", "DecodedMetric").strings(sources).numpy()
            ids = _ids(model, "source_tokenizer", sources)
            self.rows = [np.stack([row, np.full_like(row, place)], axis=1) for place, row in enumerate(ids)]
        ends = (model.bos_id, model.eos_id)
        self.right = _right(model, targets, lambda row: _without_ends(row, *ends))
        if self.strings is None and model.copies and model.target_tokenizer is not None:
            raise ValueError("The model copies tokens of its source into its texts: give the sources as texts.")

    def inputs(self, values: np.ndarray) -> np.ndarray:
        """Return the tokens, or the arrays."""
        return values if self.dtype == "float32" else values[..., 0]

    def decode(self, values: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the tokens and their numbers."""
        of_tokens = self.dtype != "float32"
        most = max(16, self.reads.longest_text(int(values.shape[1]))) if self.max_length is None else self.max_length
        source = (values, lengths) if of_tokens else (values,)
        decoded = self.model.decode(*source, strategy=self.strategy, max_length=most, **self.call)
        return {"tokens": decoded.tokens, "lengths": decoded.lengths, "scores": decoded.scores}

    def read(self, outputs: Mapping[str, np.ndarray], values: np.ndarray, lengths: np.ndarray) -> list:
        """Return texts, or without a tokenizer ids without the end token."""
        copied = None if self.strings is None else self.strings[values[:, :1, 1].max(axis=1, initial=0)]
        return _written(self.model.target_tokenizer, outputs, self.model.eos_id, copied)


class HeldOutFrames(HeldOut):
    """Features of a `CTCRecognizer`, and their labels."""

    dtype = "float32"

    def __init__(self, model: Any, data: Any, strategy: Any, max_length: int | None, seed: int):
        _refuse(model, max_length=max_length)
        self.model, self.strategy = model, get_ctc_strategy(strategy, blank_index=model.blank_index)
        features, labels = _pair(model, data)
        self.rows = [frames_of(row, model.feature_size) for row in features]
        self.right = _right(model, labels, list)

    def decode(self, values: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the labels and their numbers."""
        decoded = self.model.decode(values, lengths, strategy=self.strategy)
        return {"tokens": decoded.tokens, "lengths": decoded.lengths, "scores": decoded.scores}

    def read(self, outputs: Mapping[str, np.ndarray], values: np.ndarray, lengths: np.ndarray) -> list:
        """Return texts, or without a tokenizer labels."""
        return _written(self.model.target_tokenizer, outputs, None)


class HeldOutSentences(HeldOut):
    """Sentences of a `Tagger`, and their tags."""

    def __init__(self, model: Any, data: Any, strategy: Any, max_length: int | None, seed: int):
        _refuse(model, strategy=None if strategy == "greedy" else strategy, max_length=max_length)
        self.model = model
        if not isinstance(data, Mapping):
            sentences, tags = _two(data)
            if any(isinstance(word, str | bytes) for row in sentences for word in row):
                source = tokenizer_of(model, "source_tokenizer", "DecodedMetric")
                characters = model.character_tokenizer if model.reads.reads_characters else None
                data = tagged_words(source, model.class_names or (), sentences, tags, character_tokenizer=characters)
            else:
                data = {"source": sentences, "tags": tags}
        arrays, _ = as_dict(model.names, data, None)
        model.check_inputs(arrays)
        lengths, width = arrays["source_lengths"], arrays["source"].shape[1]
        names = [name for name in arrays if name.startswith(("source", "characters")) and name != "source_lengths"]
        # Tables of all tokens: `map_rows` pads one array, the places of a row's tokens in them.
        self.tables = {name: np.asarray(arrays[name]).reshape(-1, *np.shape(arrays[name])[2:]) for name in names}
        self.rows = [np.arange(row * width, row * width + count) for row, count in enumerate(lengths)]
        self.right = [self._named(row[:count]) for row, count in zip(arrays["tags"], lengths, strict=True)]

    def inputs(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the tokens, and for a `WordEncoder` their characters."""
        return {name: table[values] for name, table in self.tables.items()}

    def decode(self, values: dict[str, Tensor], lengths: Tensor) -> dict[str, Tensor]:
        """Return the tags."""
        logits = self.model({**values, "source_lengths": lengths}, training=False)
        return {"tags": self.model.decode(logits, lengths)}

    def read(self, outputs: Mapping[str, np.ndarray], values: np.ndarray, lengths: np.ndarray) -> list:
        """Return the names of tags, or their ids if they have no names."""
        return [self._named(row[:count]) for row, count in zip(outputs["tags"], lengths, strict=True)]

    def _named(self, tags: np.ndarray) -> list:
        names = self.model.class_names
        return [names[tag] if names is not None and 0 <= tag < len(names) else int(tag) for tag in tags]


class HeldOutPrompts(HeldOut):
    """Prompts of a `LanguageModel`, and their continuations."""

    def __init__(self, model: Any, data: Any, strategy: Any, max_length: int | None, seed: int):
        if isinstance(data, Mapping):
            raise ValueError(
                f"The data are a dict of {sorted(data)}, but a LanguageModel goes on from prompts: give a pair "
                "(prompts, continuations) of lists."
            )
        if max_length is None:
            raise ValueError("A LanguageModel may write on without end: give max_length, tokens of a continuation.")
        self.model, self.strategy, self.max_length = model, get_strategy(strategy), max_length
        self.call = {"seed": seed} if getattr(self.strategy, "draws", False) else {}
        # Other strategies rank hypotheses by tokens after `max_length`, if prompts of a batch have different lengths.
        self.pad = isinstance(self.strategy, GreedySearch | Sampling)
        prompts, texts = _two(data)
        self.rows, of_texts = rows_of_ids(model, prompts, "DecodedMetric")
        if len(prompts) and of_texts != _is_texts(texts):
            raise ValueError(
                "Of prompts and continuations, one are texts and the other rows of ids. Give texts for both."
            )
        self.tokenizer = model.tokenizer if of_texts else None
        self.right = _right(model, texts, lambda row: _without_ends(row, None, model.eos_id), tokenizer="tokenizer")

    def decode(self, values: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the tokens after the prompts, and their numbers."""
        most = int(values.shape[1]) + self.max_length
        decoded = self.model.decode(values, lengths, strategy=self.strategy, max_length=most, **self.call)
        return {"tokens": decoded.tokens, "lengths": decoded.lengths, "scores": decoded.scores}

    def read(self, outputs: Mapping[str, np.ndarray], values: np.ndarray, lengths: np.ndarray) -> list:
        """Return the continuations as texts, or as ids without the end token."""
        counts = np.clip(outputs["lengths"][:, 0] - lengths, 0, self.max_length)
        tokens = np.full((len(counts), 1, self.max_length), self.model.pad_id, "int32")
        for row, (start, count) in enumerate(zip(lengths, counts, strict=True)):
            tokens[row, 0, :count] = outputs["tokens"][row, 0, start : start + count]
        cut = {"tokens": tokens, "lengths": counts[:, None], "scores": outputs["scores"]}
        return _written(self.tokenizer, cut, self.model.eos_id)


KINDS: dict[type, type] = {
    EncoderDecoder: HeldOutTexts,
    CTCRecognizer: HeldOutFrames,
    Tagger: HeldOutSentences,
    LanguageModel: HeldOutPrompts,
}


def held_out(model: Any, data: Any, *, strategy: Any, max_length: int | None, seed: int) -> HeldOut:
    """Return the rows of `data` that `model` decodes, and the right answers.

    Raises:
        ValueError: If the model does not decode, or the data do not fit it.
    """
    make = next((kind for of_model, kind in KINDS.items() if isinstance(model, of_model)), None)
    if make is None:
        raise ValueError(
            f"A {type(model).__name__} decodes nothing: it answers at once. Give its metrics to compile(metrics=[...]) "
            "and the held-out rows to fit(validation_data=...)."
        )
    found = make(model, data, strategy, None if max_length is None else whole("max_length", max_length), seed)
    if len(found.rows) != len(found.right) or not found.rows:
        raise ValueError(
            f"There are {len(found.rows)} rows to decode and {len(found.right)} right answers. Give equally many, at "
            "least one."
        )
    return found


def _two(data: Any) -> tuple[Any, Any]:
    if isinstance(data, str | bytes | Mapping) or not hasattr(data, "__len__") or len(data) != 2:
        raise ValueError(
            f"The data are a {type(data).__name__}, but expected a pair of lists (inputs, right answers), or a dict of "
            "rows as fit takes it."
        )
    return data[0], data[1]


def _pair(model: Any, data: Any) -> tuple[Any, Any]:
    """Return inputs and right answers; of a dict, as `fit` takes it, rows without padding."""
    if not isinstance(data, Mapping):
        return _two(data)
    names = model.names
    if missing := [name for name in (names.x, names.y) if name not in data]:
        raise ValueError(f"The data are a dict of {sorted(data)}, but {missing} are missing.")
    arrays, _ = as_dict(names, data, None)

    def rows(name: str) -> list:
        lengths = arrays.get(names.lengths.get(name, ""))
        return list(arrays[name]) if lengths is None else [
            row[:count] for row, count in zip(arrays[name], np.asarray(lengths), strict=True)
        ]  # fmt: skip

    return rows(names.x), rows(names.y)


def _is_texts(values: Any) -> bool:
    return any(isinstance(value, str | bytes) for value in values)


def _ids(model: Any, tokenizer: str, rows: Sequence) -> list[np.ndarray]:
    """Return the ids of texts, or rows of ids, as arrays."""
    if _is_texts(rows):
        rows = tokenizer_of(model, tokenizer, "DecodedMetric").tokenize(list(rows)).to_list()
    return [integer_array(row, f"row {index}") for index, row in enumerate(rows)]


def _right(model: Any, values: Sequence, cut: Any, tokenizer: str = "target_tokenizer") -> list:
    """Return right answers: texts, or without a tokenizer rows of ids."""
    if _is_texts(values):
        tokenizer_of(model, tokenizer, "DecodedMetric")
        return [value.decode() if isinstance(value, bytes) else value for value in values]
    rows = [cut(integer_array(row, f"right answer {index}").tolist()) for index, row in enumerate(values)]
    found = getattr(model, tokenizer)
    if found is None or (tokenizer == "tokenizer"):
        return rows
    return [text.decode("utf-8", "replace") for text in _texts_of(found, rows)]


def _texts_of(tokenizer: Any, rows: list[list[int]]) -> list[bytes]:
    longest = max(map(len, rows), default=0)
    ids = np.full((len(rows), longest), tokenizer.pad_id, "int32")
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    return tokenizer.detokenize(ids).numpy().tolist()


def _without_ends(row: list[int], bos_id: int | None, eos_id: int) -> list[int]:
    row = row[1:] if row and row[0] == bos_id else row
    return row[:-1] if row and row[-1] == eos_id else row


def _written(tokenizer: Any, outputs: Mapping[str, np.ndarray], eos_id: int | None, copied: Any = None) -> list:
    """Return the best text of each row, or without a tokenizer its ids without the end token."""
    if tokenizer is not None:
        return best_texts(tokenizer, outputs["tokens"], outputs["scores"], False, copied)
    rows = zip(outputs["tokens"][:, 0], outputs["lengths"][:, 0], strict=True)
    cut = [row[:count].tolist() for row, count in rows]
    return cut if eos_id is None else [_without_ends(row, None, eos_id) for row in cut]


def _refuse(model: Any, **options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"{name}={value!r}, but a {type(model).__name__} has no use for it. Leave it out.")
