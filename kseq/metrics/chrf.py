"""chrF."""

from typing import Any

import keras

from kseq.metrics.corpus_score import CorpusScore
from kseq.numbers import flag, whole


@keras.saving.register_keras_serializable(package="kseq")
class ChrF(CorpusScore):
    """chrF of texts, from 0 to 100, equal to sacrebleu's of all texts together, exact over batches.

        chrF = 100 (1 + beta^2) P R / (beta^2 P + R)

    P and R are precision and recall of the n-grams of characters, means over the orders n. With `word_order=2` it is
    chrF++. It needs the package sacrebleu, and runs in Python: `kseq.training.DecodedMetric` computes it in `fit`.

    Args:
        char_order: The largest number of characters in an n-gram.
        word_order: The largest number of words in an n-gram of words; 0: words do not count.
        beta: Weight of the recall.
        lowercase: Whether case does not count.
        whitespace: Whether white space is among the characters.
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
        ValueError: If an option is out of range, the arguments are no texts, or their numbers differ.

    Example:
        >>> float(kseq.metrics.ChrF()(["the cat sat on the mat"], ["the cat sat on a mat"]))
        65.97966

    References:
        - M. Popovic, "chrF: character n-gram F-score for automatic MT evaluation", 2015.
        - M. Popovic, "chrF++: words helping character n-grams", 2017.
    """

    options = ("char_order", "word_order", "beta", "lowercase", "whitespace")

    def __init__(
        self,
        *,
        char_order: int = 6,
        word_order: int = 0,
        beta: int = 2,
        lowercase: bool = False,
        whitespace: bool = False,
        name: str = "chrf",
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.char_order, self.word_order = whole("char_order", char_order), whole("word_order", word_order)
        self.beta, self.lowercase = whole("beta", beta), flag("lowercase", lowercase)
        self.whitespace = flag("whitespace", whitespace)
        if self.char_order < 1 or self.word_order < 0 or self.beta < 1:
            raise ValueError(
                f"char_order={char_order}, word_order={word_order} and beta={beta} must be at least 1, 0 and 1."
            )
        self.create_counts()

    def make_scorer(self) -> Any:
        """Return sacrebleu's chrF."""
        from sacrebleu.metrics.chrf import CHRF

        return CHRF(**self.chosen_options())
