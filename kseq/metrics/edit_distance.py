"""Edit distance, character error rate and word error rate."""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, scan
from kseq.decoding import ctc_greedy_decode
from kseq.ids import check_lengths, from_bools, integers, known_integers
from kseq.masking import implicit_mask, lengths_from_mask, mask_from_lengths
from kseq.metrics.levenshtein import edit_counts
from kseq.numbers import whole


@keras.saving.register_keras_serializable(package="kseq")
class EditDistance(keras.metrics.Metric):
    """The fewest insertions, deletions and substitutions that turn the references into the hypotheses.

    Exact over batches: the sum of all edits, divided by the sum of the references' lengths, or by the number of
    references. Token ids are compared in compilable operations, also within a training step; texts in Python.

    The variables `insertions`, `deletions` and `substitutions` hold the numbers of edits, `reference_tokens` and
    `reference_count` the divisors. Among sequences of equally few edits, one with the fewest insertions and deletions
    is counted. The variables are float32, exact up to 16 million.

    Args:
        normalize: Whether to divide by the number of reference tokens; if False, by the number of references.
        pad_id: Id that ends a row whose length is not given.
        blank_index: Class of the blank, if the hypotheses are the logits of a CTC model, as in `compile(metrics=...)`;
            they are then decoded greedily; -1 is the last. None: the hypotheses are ids or texts.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Call arguments:
        references: int `(batch, n)`, token ids (whole numbers of a float dtype are accepted); or a list of texts,
            compared by characters; or a list of sequences of hashable values. With `blank_index`, negative ids are
            padding.
        hypotheses: int `(batch, m)`; or a list likewise; with `blank_index` float `(batch, time, classes)`,
            unnormalised logits, whose implicit Keras mask tells the real frames.
        reference_lengths: int `(batch,)`; None: up to the first `pad_id`.
        hypothesis_lengths: int `(batch,)`; None: up to the first `pad_id`.
        sample_weight: Float `(batch,)`, multiplies each row's edits and length.

    Returns:
        A float32 scalar; 0 before the first reference token.

    Raises:
        ValueError: If the numbers of references and hypotheses differ, ids are no integers or do not have two axes, or
            n + m is statically known and above 32,767, or the logits have no class `blank_index`; outside compiled
            graphs also if a length does not fit.

    Example:
        >>> metric = kseq.metrics.EditDistance()
        >>> float(metric(["kitten", "abc"], ["sitting", "abc"]))
        0.3333333
        >>> float(metric.substitutions), float(metric.insertions)
        (2.0, 1.0)
    """

    def __init__(
        self,
        normalize: bool = True,
        *,
        pad_id: int = -1,
        blank_index: int | None = None,
        name: str = "edit_distance",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.normalize, self.pad_id = bool(normalize), whole("pad_id", pad_id)
        self.blank_index = None if blank_index is None else whole("blank_index", blank_index)
        self.insertions = self.add_weight(name="insertions", initializer="zeros")
        self.deletions = self.add_weight(name="deletions", initializer="zeros")
        self.substitutions = self.add_weight(name="substitutions", initializer="zeros")
        self.reference_tokens = self.add_weight(name="reference_tokens", initializer="zeros")
        self.reference_count = self.add_weight(name="reference_count", initializer="zeros")

    def update_state(
        self,
        references: Any,
        hypotheses: Any,
        reference_lengths: Tensor | None = None,
        hypothesis_lengths: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> None:
        """Count the edits of one batch."""
        if self.blank_index is not None:
            references, reference_lengths = _labels(references, reference_lengths)
            hypotheses, hypothesis_lengths = self._decoded(hypotheses, hypothesis_lengths)
        if _is_text(references) or _is_text(hypotheses):
            pairs = self._numbered(references, hypotheses)
        else:
            pairs = [
                self._units(*self._tokens("references", references, reference_lengths)),
                self._units(*self._tokens("hypotheses", hypotheses, hypothesis_lengths)),
            ]
        (references, reference_lengths), (hypotheses, hypothesis_lengths) = pairs
        rows = references.shape[0], hypotheses.shape[0]
        if None not in rows and rows[0] != rows[1]:
            raise ValueError(f"Got {rows[0]} references and {rows[1]} hypotheses. Give one hypothesis per reference.")
        counts = edit_counts(references, hypotheses, reference_lengths, hypothesis_lengths)
        weights = ops.ones_like(ops.cast(reference_lengths, "float32"))
        if sample_weight is not None:
            weights = weights * ops.cast(sample_weight, "float32")
        for variable, count in [
            (self.insertions, counts.insertions),
            (self.deletions, counts.deletions),
            (self.substitutions, counts.substitutions),
            (self.reference_tokens, reference_lengths),
            (self.reference_count, ops.ones_like(reference_lengths)),
        ]:
            variable.assign_add(ops.sum(weights * ops.cast(count, "float32")))

    def result(self) -> Tensor:
        """Return the edits so far per reference token or per reference."""
        edits = self.insertions + self.deletions + self.substitutions
        return ops.divide_no_nan(edits, self.reference_tokens if self.normalize else self.reference_count)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"normalize": self.normalize, "pad_id": self.pad_id, "blank_index": self.blank_index}
        return {**super().get_config(), **own}

    def _tokens(self, name: str, tokens: Any, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return ids int32 `(batch, n)` and lengths int32 `(batch,)`."""
        shape = tuple(np.shape(tokens) if isinstance(tokens, list) else tokens.shape)
        if len(shape) != 2:
            raise ValueError(
                f"{name} must be token ids of shape (batch, tokens), but have shape {shape}. If each row has several "
                "hypotheses, choose one, such as decoded.tokens[:, 0]. If they are logits of a CTC model, give the "
                "metric blank_index=, or use kseq.metrics.TokenErrorRate; decode other logits first."
            )
        tokens = integers(from_bools(tokens), name, whole_floats=True)
        if lengths is None:
            ended = ops.cumsum(ops.cast(tokens == self.pad_id, "int32"), axis=1)
            lengths = ops.sum(ops.cast(ended == 0, "int32"), axis=1)
            return tokens, lengths
        known = known_integers(lengths, f"lengths of the {name}", whole_floats=True)
        if known is not None and shape[1] is not None:
            check_lengths(known, shape[1], f"lengths of the {name}", name)
        lengths = integers(lengths, f"lengths of the {name}", whole_floats=True)
        return tokens, ops.clip(lengths, 0, ops.shape(tokens)[1])

    def _decoded(self, logits: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the ids int32 `(batch, time)` that CTC logits spell, and their lengths int32 `(batch,)`."""
        mask = implicit_mask(logits)
        if lengths is None and mask is None:
            lengths = ops.full((ops.shape(logits)[0],), ops.shape(logits)[1], dtype="int32")
        elif lengths is None:
            lengths = lengths_from_mask(mask)
        decoded = ctc_greedy_decode(logits, lengths, blank_index=self.blank_index)
        return decoded.tokens[:, 0], decoded.lengths[:, 0]

    def _units(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the units to compare, such as words, and their number in each row."""
        return tokens, lengths

    def _split(self, text: str) -> Sequence[Hashable]:
        """Return the units of a text to compare."""
        return text

    def _numbered(self, references: Any, hypotheses: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return ids and lengths of texts or sequences; equal units have equal ids."""
        numbers: dict[Hashable, int] = {}
        pairs = []
        for texts in (references, hypotheses):
            units = [self._split(text) if isinstance(text, str) else text for text in map(_decoded, _listed(texts))]
            ids = np.zeros((len(units), max(map(len, units), default=0)), "int32")
            for row, unit in enumerate(units):
                ids[row, : len(unit)] = [numbers.setdefault(one, len(numbers)) for one in unit]
            pairs.append((ids, np.array([len(unit) for unit in units], "int32")))
        return pairs


@keras.saving.register_keras_serializable(package="kseq")
class CharacterErrorRate(EditDistance):
    """Edits per character of the references: `EditDistance(normalize=True)` over texts, or over ids of characters.

    Args:
        pad_id: Id that ends a row whose length is not given.
        name: Name of the metric.
        **kwargs: Other arguments of `EditDistance`, such as `blank_index`.

    Call arguments, result and errors are those of `EditDistance`.

    Example:
        >>> float(kseq.metrics.CharacterErrorRate()(["kitten"], ["sitting"]))
        0.5
        >>> model.compile("adam", loss=kseq.losses.CTC(), metrics=[kseq.metrics.CharacterErrorRate(blank_index=0)])
    """

    def __init__(self, *, pad_id: int = -1, name: str = "character_error_rate", **kwargs: Any):
        _check_normalized(kwargs)
        super().__init__(normalize=True, pad_id=pad_id, name=name, **kwargs)


@keras.saving.register_keras_serializable(package="kseq")
class WordErrorRate(EditDistance):
    """Edits per word of the references. White space separates the words of a text.

    Args:
        separator: Id, or sequence of ids, that separates words made of several ids, such as characters. Runs of
            separators count once; those before the first word and after the last do not count. None: every id is a
            word. Words of several ids are compared by a hash of 64 bits, which differed for all of 2.3 million words.
        pad_id: Id that ends a row whose length is not given.
        name: Name of the metric.
        **kwargs: Other arguments of `EditDistance`, such as `blank_index`.

    Call arguments, result and errors are those of `EditDistance`.

    Example:
        >>> float(kseq.metrics.WordErrorRate()(["the cat sat"], ["the cat sits down"]))
        0.6666667
        >>> space, ids = 0, np.array([[7, 8, 0, 9]])
        >>> float(kseq.metrics.WordErrorRate(separator=space)(ids, np.array([[7, 8, 0, 8]])))
        0.5
    """

    def __init__(
        self,
        *,
        separator: int | Sequence[int] | None = None,
        pad_id: int = -1,
        name: str = "word_error_rate",
        **kwargs: Any,
    ):
        _check_normalized(kwargs)
        super().__init__(normalize=True, pad_id=pad_id, name=name, **kwargs)
        several = isinstance(separator, Iterable)
        ids = [whole("separator", each) for each in (separator if several else [separator]) if each is not None]
        self.separator: Any = ids if several else ids[0] if ids else None

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "separator": self.separator}

    def _split(self, text: str) -> Sequence[Hashable]:
        return text.split()

    def _units(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return (tokens, lengths) if self.separator is None else words_of(tokens, lengths, self.separator)


def words_of(tokens: Tensor, lengths: Tensor, separator: int | Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the hashes of the words in rows of ids.

    Args:
        tokens: int32 `(batch, n)`.
        lengths: int32 `(batch,)`.
        separator: Id, or ids, between words.

    Returns:
        `(words, lengths)`: words int32 `(batch, n, 2)`, two hashes for each word; lengths int32 `(batch,)`, the number
        of words.
    """
    batch, n = ops.shape(tokens)
    inside = mask_from_lengths(lengths, n)  # (batch, n)
    for each in (separator,) if isinstance(separator, int) else separator:
        inside = ops.logical_and(inside, tokens != each)
    ends = ops.logical_and(inside, ops.logical_not(ops.pad(inside[:, 1:], ((0, 0), (0, 1)))))

    def extend(hashes: Tensor, element: tuple) -> tuple[Tensor, Tensor]:
        token, inside = element
        longer = hashes * np.array([668265263, -1640531527], "int32") + (token[:, None] + 1) * 374761393
        longer = ops.bitwise_xor(longer, ops.right_shift(longer, 15))
        hashes = ops.where(inside[:, None], longer, ops.zeros_like(hashes))
        return hashes, hashes

    elements = (ops.transpose(tokens), ops.transpose(inside))
    # One more column, since a loop needs at least one step.
    elements = (ops.pad(elements[0], ((0, 1), (0, 0))), ops.pad(elements[1], ((0, 1), (0, 0))))
    _, hashes = scan(extend, ops.zeros((batch, 2), dtype="int32"), elements, fetch_ahead=True)  # (n + 1, batch, 2)
    hashes = ops.reshape(ops.transpose(hashes[:-1], (1, 0, 2)), (batch * n, 2))
    count = ops.cumsum(ops.cast(ends, "int32"), axis=1)  # (batch, n)
    places = ops.where(ends, count - 1, n) + ops.arange(batch, dtype="int32")[:, None] * (n + 1)
    words = ops.scatter(ops.reshape(places, (batch * n, 1)), hashes, (batch * (n + 1), 2))
    return ops.reshape(words, (batch, n + 1, 2))[:, :-1], ops.sum(ops.cast(ends, "int32"), axis=1)


def _check_normalized(kwargs: dict[str, Any]) -> None:
    """Remove `normalize`, which is in configs, or raise ValueError if it is False: a rate is normalised."""
    if not kwargs.pop("normalize", True):
        raise ValueError("An error rate is edits per unit. For edits per reference use EditDistance(normalize=False).")


def _labels(labels: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return labels int32 `(batch, n)` and, unless given, their lengths up to the first negative label."""
    labels = integers(from_bools(labels), "references", whole_floats=True)
    if lengths is None:
        lengths = ops.sum(ops.cumprod(ops.cast(labels >= 0, "int32"), axis=1), axis=1)
    return labels, lengths


def _listed(texts: Any) -> list:
    return [texts] if isinstance(texts, str | bytes) else list(np.asarray(texts) if hasattr(texts, "dtype") else texts)


def _decoded(text: Any) -> Any:
    return text.decode() if isinstance(text, bytes) else text


def _is_text(values: Any) -> bool:
    """Return whether `values` are texts or a list of sequences, rather than a tensor of ids."""
    if hasattr(values, "dtype"):
        return not np.issubdtype(np.dtype(getattr(values.dtype, "as_numpy_dtype", values.dtype)), np.number)
    return True
