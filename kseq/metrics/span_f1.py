"""F1 of spans of tagged tokens, such as named entities."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, known_value
from kseq.ids import NO_ID, integers, known_integers, token_labels
from kseq.masking import implicit_mask, mask_from_lengths, token_weights
from kseq.numbers import whole
from kseq.tag_schemes import Spans, find_spans, span_rules, sum_of_pieces


class SpanScores(NamedTuple):
    """The scores of the spans of one type.

    Attributes:
        precision: Share of the predicted spans that are right; 0 if there is none.
        recall: Share of the expected spans that are found; 0 if there is none.
        f1: Harmonic mean of both.
        support: Number of expected spans.
    """

    precision: float
    recall: float
    f1: float
    support: int


@keras.saving.register_keras_serializable(package="kseq")
class SpanF1(keras.metrics.Metric):
    """F1 of the spans that rows of tags mark: a predicted span is right if type, first and last token are.

        F1 = 2 right / (predicted + expected),    the counts summed over all types and batches (micro average)

    It equals `f1_score` of the package seqeval, in both modes. The counts are integers, so they add up exactly over
    batches and replicas. It runs in the compiled step.

    Args:
        names: The names of the tags in the order of their ids, such as `["O", "B-PER", "I-PER"]`.
        scheme: "BIO" (IOB2), "BIOES", "BILOU", "IOB1" or "IO": how the names mark spans.
        mode: What counts as a span where tags do not follow the scheme. None: a span starts at each tag that cannot
            continue the one before, such as I after O, as in the script `conlleval.pl`. "strict": only what the scheme
            allows is a span; for "BIO", "BIOES" and "BILOU".
        ignore_label: Label of tokens that do not count, such as -100: the rows are read without them. None: all real
            tokens count.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Call arguments:
        y_true: int `(batch, time)` or `(batch, time, 1)`, ids of tags; whole numbers of a float dtype are accepted.
        y_pred: int `(batch, time)`, ids of tags; or float `(batch, time, tags)`, logits or probabilities, of which the
            largest decides. Their Keras mask, if they carry one, tells the real tokens.
        sample_weight: `(batch,)` or `(batch, time)`, of 0 and 1: rows and tokens with weight 0 do not count. Spans
            cannot be weighted: inside compiled graphs every other weight counts as 1.
        lengths: int `(batch,)`, the number of real tokens in each row, in place of a mask; by keyword.

    Returns:
        A float32 scalar from 0 to 1; 0 if there is no span. `result_by_type()` returns the scores of each type.

    Raises:
        ValueError: If the names do not follow the scheme, the predictions have another number of tags, or, outside
            compiled graphs, a real token's tag is not one of the names, or a weight is not 0 or 1. Inside compiled
            graphs, such a tag, or one of NaN logits, is in no span.

    Example:
        >>> metric = kseq.metrics.SpanF1(["O", "B-PER", "I-PER"])
        >>> float(metric(np.array([[1, 2, 0, 1]]), np.array([[1, 2, 0, 0]])))
        0.6666667
        >>> metric.result_by_type()
        {'PER': SpanScores(precision=1.0, recall=0.5, f1=0.6666666666666666, support=2)}

    Reference: E. Tjong Kim Sang, F. De Meulder, "Introduction to the CoNLL-2003 shared task", 2003.
    """

    def __init__(
        self,
        names: Sequence[str],
        scheme: str = "BIO",
        *,
        mode: str | None = None,
        ignore_label: int | None = None,
        name: str = "span_f1",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.rules = span_rules(names, scheme, mode)
        self.names, self.scheme, self.mode = [str(each) for each in names], scheme, mode
        self.ignore_label = None if ignore_label is None else whole("ignore_label", ignore_label)
        self.right, self.predicted, self.expected = (
            self.add_weight(name=of, shape=(len(self.rules.type_names),), dtype="int32", initializer="zeros")
            for of in ("right", "predicted", "expected")
        )

    def update_state(
        self,
        y_true: Tensor,
        y_pred: Tensor,
        sample_weight: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> None:
        """Count the spans of one batch."""
        mask = implicit_mask(y_pred)
        predicted, known = self._predicted(y_pred)
        expected, known_expected = token_labels(y_true, predicted[..., None])
        if lengths is not None:
            mask = mask_from_lengths(integers(lengths, "lengths"), ops.shape(predicted)[1])
        counted = self._counted(expected, mask, sample_weight)
        self._check("y_true", known_expected, counted)
        self._check("y_pred", known, counted)
        if self.ignore_label is not None or sample_weight is not None:
            expected, predicted, mask = _without_gaps(expected, predicted, counted)
        true, found = (find_spans(tags, mask, self.rules) for tags in (expected, predicted))
        right = ops.logical_and(found.first, _is_right(true, found))
        for variable, spans, starts in (
            (self.right, found, right),
            (self.predicted, found, found.first),
            (self.expected, true, true.first),
        ):
            places = ops.where(starts, spans.types, -1)[..., None] == np.arange(len(self.rules.type_names))
            variable.assign_add(ops.sum(ops.cast(places, "int32"), axis=(0, 1)))

    def result(self) -> Tensor:
        """Return the F1 of all spans so far."""
        right, predicted, expected = (
            ops.cast(ops.sum(of), "float32") for of in (self.right, self.predicted, self.expected)
        )
        return ops.divide_no_nan(2.0 * right, predicted + expected)

    def result_by_type(self) -> dict[str, SpanScores]:
        """Return the scores of the spans of each type so far, by the type's name."""
        counts = (ops.convert_to_numpy(of).tolist() for of in (self.right, self.predicted, self.expected))
        scores = {}
        for name, right, predicted, expected in zip(self.rules.type_names, *counts, strict=True):
            both = predicted + expected
            scores[name] = SpanScores(
                right / predicted if predicted else 0.0,
                right / expected if expected else 0.0,
                2 * right / both if both else 0.0,
                expected,
            )
        return scores

    def _predicted(self, y_pred: Any) -> tuple[Tensor, np.ndarray | None]:
        """Return the predicted tags, int32 `(batch, time)`, and their values, or None while a graph is traced."""
        shape = np.shape(y_pred) if isinstance(y_pred, list) else tuple(y_pred.shape)
        if len(shape) == 2:
            known = known_integers(y_pred, "y_pred", whole_floats=True)
            return integers(y_pred, "y_pred", whole_floats=True), known
        if len(shape) != 3 or shape[2] != len(self.names):
            raise ValueError(
                f"y_pred has shape {shape}, but expected are ids of tags (batch, time), or logits (batch, time, "
                f"{len(self.names)}), one for each of the {len(self.names)} names of the metric."
            )
        odd = ops.any(ops.isnan(y_pred), axis=-1)
        return ops.where(odd, NO_ID, ops.cast(ops.argmax(y_pred, axis=-1), "int32")), None

    def _counted(self, expected: Tensor, mask: Tensor | None, sample_weight: Tensor | None) -> Tensor:
        """Return which tokens count, bool `(batch, time)`."""
        if sample_weight is not None and (known := known_value(sample_weight)) is not None:
            wrong = known[(known != 0) & (known != 1)]
            if wrong.size:
                raise ValueError(
                    f"sample_weight has {wrong[0]}, but spans cannot be weighted: give weights of 0 and 1."
                )
        counted = token_weights(ops.ones_like(expected, dtype="float32"), mask, sample_weight) != 0
        return counted if self.ignore_label is None else ops.logical_and(counted, expected != self.ignore_label)

    def _check(self, name: str, known: np.ndarray | None, counted: Tensor) -> None:
        """Raise ValueError if a tag that counts is not one of the names."""
        real = None if known is None else known_value(counted)
        if known is None or real is None:
            return
        wrong = ((known < 0) | (known >= len(self.names))) & real
        if wrong.any():
            place = tuple(int(axis) for axis in np.argwhere(wrong)[0])
            raise ValueError(
                f"{name}{list(place)} = {known[place]} is not a tag: the metric has {len(self.names)} names, ids 0 to "
                f"{len(self.names) - 1}. If it marks tokens that do not count, give ignore_label={known[place]}, or "
                "the lengths of the rows."
            )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        own = {"names": self.names, "scheme": self.scheme, "mode": self.mode, "ignore_label": self.ignore_label}
        return {**super().get_config(), **own}


def _is_right(true: Spans, found: Spans) -> Tensor:
    """Return which tokens are in a piece of `found` whose every token is the same in `true`, bool `(batch, time)`."""
    differs = found.types != true.types
    for of_found, of_true in zip(found[:3], true[:3], strict=True):
        differs = ops.logical_or(differs, of_found != of_true)
    return sum_of_pieces(ops.cast(differs, "int32"), found.pieces) == 0


def _without_gaps(expected: Tensor, predicted: Tensor, counted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the tags with those that count first, in their order, and which these are."""
    time = ops.shape(expected)[1]
    steps = ops.arange(time, dtype="int32")
    order = ops.sort(ops.where(counted, steps, steps + time), axis=1) % ops.maximum(time, 1)
    mask = mask_from_lengths(ops.sum(ops.cast(counted, "int32"), axis=1), time)
    expected, predicted = (ops.take_along_axis(tags, order, axis=1) for tags in (expected, predicted))
    return expected, predicted, mask
