"""BLEU."""

from typing import Any

import keras

from kseq.metrics.corpus_score import CorpusScore
from kseq.numbers import flag, whole


@keras.saving.register_keras_serializable(package="kseq")
class Bleu(CorpusScore):
    """BLEU of texts, from 0 to 100, equal to sacrebleu's of all texts together, exact over batches.

        BLEU = 100 * min(1, exp(1 - r / c)) * exp(1/N sum_n log p_n)

    p_n is the share of the hypotheses' n-grams that are in their references, c and r are the total lengths of
    hypotheses and of the closest references. It needs the package sacrebleu, and runs in Python:
    `kseq.training.DecodedMetric` computes it in `fit`.

    Args:
        tokenize: How sacrebleu splits texts: "13a", "intl", "char" (for texts without spaces, such as Chinese),
            "none" (at spaces alone), or another of its tokenizers.
        lowercase: Whether case does not count.
        max_ngram_order: The largest n, usually 4.
        smooth_method: What sacrebleu does where no n-gram of an order is right: "exp", "floor", "add-k" or "none".
        smooth_value: The value of "floor" and "add-k"; None: sacrebleu's.
        name: Name of the metric.
        **kwargs: Arguments of `keras.metrics.Metric`.

    Call arguments:
        references: A list with a text, or a list of texts, for each row.
        hypotheses: A list of texts.
        sample_weight: `(batch,)`, of 0 and 1: texts with weight 0 do not count.

    Returns:
        A float32 scalar; 0 before the first text.

    Raises:
        ImportError: If sacrebleu is not installed.
        ValueError: If an option is unknown to sacrebleu, the arguments are no texts, or their numbers differ.

    Example:
        >>> float(kseq.metrics.Bleu()(["the cat sat on the mat"], ["the cat sat on a mat"]))
        53.728497

    References:
        - K. Papineni, S. Roukos, T. Ward, W. Zhu, "BLEU: a method for automatic evaluation of machine translation",
          2002.
        - M. Post, "A call for clarity in reporting BLEU scores", 2018.
    """

    options = ("tokenize", "lowercase", "max_ngram_order", "smooth_method", "smooth_value")

    def __init__(
        self,
        *,
        tokenize: str = "13a",
        lowercase: bool = False,
        max_ngram_order: int = 4,
        smooth_method: str = "exp",
        smooth_value: float | None = None,
        name: str = "bleu",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.tokenize, self.lowercase = tokenize, flag("lowercase", lowercase)
        self.max_ngram_order = whole("max_ngram_order", max_ngram_order)
        self.smooth_method = smooth_method
        self.smooth_value = None if smooth_value is None else float(smooth_value)
        if self.max_ngram_order < 1:
            raise ValueError(f"max_ngram_order={max_ngram_order}, but it must be at least 1.")
        self.create_counts()

    def make_scorer(self) -> Any:
        """Return sacrebleu's BLEU."""
        from sacrebleu.metrics.bleu import BLEU

        for name, known in (("tokenize", [*BLEU.TOKENIZERS]), ("smooth_method", [*BLEU.SMOOTH_DEFAULTS])):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}, but sacrebleu has {known}.")
        return BLEU(**self.chosen_options(), force=True)
