"""The base class of scores of texts that sacrebleu computes."""

from typing import Any, ClassVar

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.metrics.texts import same_number, text_rows

STRINGS = ("string", "object", "str", "bytes")  # beginnings of names of dtypes


class CorpusScore(keras.metrics.Metric):
    """A score of a corpus from counts of each text, which are added up over texts, batches and replicas.

    The counts, and the score of their sums, are sacrebleu's, so the score does not depend on the batches and equals
    sacrebleu's. A subclass defines `make_scorer`, `options` and the attributes that they name, and calls
    `create_counts`.

    Args:
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.
    """

    options: ClassVar[tuple[str, ...]] = ()  # names of the constructor's arguments that sacrebleu gets
    counts: Any

    def chosen_options(self) -> dict[str, Any]:
        """Return the values of `options`."""
        return {name: getattr(self, name) for name in self.options}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), **self.chosen_options()}

    def make_scorer(self) -> Any:
        """Return the metric of sacrebleu."""
        raise NotImplementedError(f"{type(self).__name__} must define make_scorer().")

    def create_counts(self) -> None:
        """Create the metric of sacrebleu and the sums of its counts.

        Raises:
            ImportError: If sacrebleu is not installed.
            ValueError: If sacrebleu does not know an option.
        """
        try:
            import sacrebleu  # noqa: F401  (not a dependency of kseq)
        except ImportError as error:
            raise ImportError(
                f"kseq.metrics.{type(self).__name__} counts by the package sacrebleu, which is not installed: "
                "pip install 'sacrebleu>=2.4'."
            ) from error
        self._scorer = self.make_scorer()
        # Methods of sacrebleu's base class of metrics, with a leading underscore, that its own significance tests use.
        size = len(self._scorer._extract_corpus_statistics([""], [[""]])[0])
        self.counts = self.add_weight(name="counts", shape=(size,), dtype="int32", initializer="zeros")

    def update_state(self, references: Any, hypotheses: Any, sample_weight: Any = None) -> None:
        """Count the texts of one batch."""
        hypotheses, rows = _texts("hypotheses", hypotheses), _reference_rows(references)
        same_number(rows, hypotheses)
        if sample_weight is not None:
            counted = _counted(sample_weight, len(rows))
            hypotheses, rows = ([each[place] for place in counted] for each in (hypotheses, rows))
        if not hypotheses:
            return
        most = max(map(len, rows))
        columns = [[row[place] if place < len(row) else None for row in rows] for place in range(most)]
        counts = self._scorer._extract_corpus_statistics(hypotheses, columns)
        sums = [int(sum(each)) for each in zip(*counts, strict=True)]
        self.counts.assign_add(ops.convert_to_tensor(sums, dtype="int32"))

    def result(self) -> Tensor:
        """Return the score so far."""
        counts = ops.convert_to_numpy(self.counts).tolist()
        score = self._scorer._compute_score_from_stats(counts).score if any(counts) else 0.0
        return ops.convert_to_tensor(score, dtype="float32")


def _reference_rows(references: Any) -> list[list[str]]:
    """Return the references of each text."""
    given = _listed("references", references)
    rows = [[row] if isinstance(row, str) else row for row in given]
    for index, row in enumerate(rows):
        if not isinstance(row, list) or not row or not all(isinstance(each, str) for each in row):
            raise ValueError(f"references[{index}] is {given[index]!r}, but expected a text, or a list of texts.")
    return rows


def _texts(name: str, values: Any) -> list[str]:
    texts = _listed(name, values)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{name}[{index}] is {text!r}, but expected a text.")
    return texts


def _listed(name: str, values: Any) -> list:
    dtype = getattr(values, "dtype", None)
    kind = getattr(dtype, "name", str(dtype))
    if dtype is not None and not (kind.startswith(STRINGS) and hasattr(values, "__array__")):
        raise ValueError(
            f"{name} must be a list of texts, but are a tensor of {kind}. To compute this "
            "score in fit, of what the model decodes, use kseq.training.DecodedMetric in place of compile(metrics=...)."
        )
    return text_rows(values)


def _counted(weights: Any, rows: int) -> np.ndarray:
    """Return the places of the texts that count."""
    weights = np.asarray(weights, "float32")
    wrong = weights[(weights != 0) & (weights != 1)]
    if weights.shape != (rows,) or wrong.size:
        raise ValueError(
            f"sample_weight has shape {weights.shape} and values such as {weights.flat[:3].tolist()}, but texts cannot "
            f"be weighted: give 0 or 1 for each of the {rows} texts."
        )
    return np.flatnonzero(weights)
