"""Training data of `kseq.models.SkipGram` and `CBOW`: words, their windows, and noise words."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from kseq.numbers import real, whole
from kseq.training.word_corpus import WordCorpus, word_corpus


def context_windows(
    source_tokenizer: Any,
    texts: Any,
    batch_size: int = 32,
    *,
    window: int = 5,
    steps: int = 32,
    noise: int = 32,
    sample: float = 1e-3,
    noise_power: float = 0.75,
    seed: int = 0,
) -> tf.data.Dataset:
    """Return a dataset of windows of words, to train word vectors by `kseq.models.SkipGram` or `CBOW`.

    In each pass over the dataset frequent words are left out at random, the others move together, and each one gets a
    window of 1 to `window` words on either side, which ends at the ends of its text. Every word that is left in is the
    centre of one window in a pass. The draws depend on `seed` and on the number of the pass alone.

    The words are cut into pieces of up to `steps` centres. The pieces come in a random order. The centres of a piece
    share `noise` words, which the model contrasts with the real neighbours: two matrix products take the place of
    products pair by pair.

    Args:
        source_tokenizer: A tokenizer of `kseq.text` with a vocabulary. Unknown words are left out first.
        texts: As in `Tokenizer.adapt`: a list, iterable or dataset of texts, or paths of files. Their ids stay in
            memory.
        batch_size: Pieces in a batch.
        window: Largest number of words on either side of a centre.
        steps: Centres in a piece.
        noise: Noise words of a piece.
        sample: A word with the share `f` of all words is left in with the probability `(sqrt(f / sample) + 1) * sample
            / f`, at most 1. Use 0 to leave all words in. On average, a pass must have at least one pair of words of
            one text.
        noise_power: Noise words are drawn with probabilities proportional to their counts to this power.
        seed: Seed of all draws, at least 0.

    Returns:
        A `tf.data.Dataset` of known size. Its elements are dicts of `words` int32 `(batch_size, steps + 2 * window)`,
        a piece and the words around it; `before` and `after` int32 `(batch_size, steps)`, the number of words of the
        window on either side of the piece's centres `words[:, window:-window]`, 0 for padding; and `noise` int32
        `(batch_size, noise)`.

    Raises:
        TypeError: If `texts` are no texts, or `source_tokenizer` is no tokenizer.
        ValueError: If no text has two known words, `sample` leaves too few in, or a number is out of range.

    Example:
        >>> tokenizer = kseq.text.WordTokenizer().adapt(["a b c"])
        >>> dataset = context_windows(tokenizer, ["a b c"], batch_size=1, window=1, steps=4, noise=2, sample=0)
        >>> batch = next(iter(dataset))
        >>> batch["words"].numpy().tolist(), batch["before"].numpy().tolist(), batch["after"].numpy().tolist()
        ([[0, 4, 5, 6, 0, 0]], [[0, 1, 1, 0]], [[1, 1, 0, 0]])

    Reference: T. Mikolov, I. Sutskever, K. Chen, G. Corrado, J. Dean, "Distributed representations of words and
    phrases and their compositionality", 2013.
    """
    options = {"batch_size": batch_size, "window": window, "steps": steps, "noise": noise}
    sizes = {name: whole(name, value) for name, value in options.items()}
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    seed = whole("seed", seed)
    for name, value in (("sample", sample), ("noise_power", noise_power), ("seed", seed)):
        if real(name, value) < 0:
            raise ValueError(f"{name}={value} must not be negative.")
    corpus = word_corpus(source_tokenizer, texts)
    passes = _Passes(corpus, sample=sample, noise_power=noise_power, seed=seed, **sizes)
    shapes = {"words": steps + 2 * window, "before": steps, "after": steps, "noise": noise}
    specs = {name: tf.TensorSpec([batch_size, size], tf.int32) for name, size in shapes.items()}
    dataset = tf.data.Dataset.from_generator(passes, output_signature=specs)
    options_of_data = tf.data.Options()
    options_of_data.autotune.enabled = False  # as in `bucket_by_length`: its tuner may hold up the end of an epoch
    counted = dataset.apply(tf.data.experimental.assert_cardinality(passes.batches))
    return counted.prefetch(2).with_options(options_of_data)


class _Passes:
    """The batches of one pass after another over a corpus."""

    def __init__(
        self,
        corpus: WordCorpus,
        *,
        batch_size: int,
        window: int,
        steps: int,
        noise: int,
        sample: float,
        noise_power: float,
        seed: int,
    ):
        self.corpus, self.batch_size, self.window, self.steps, self.noise = corpus, batch_size, window, steps, noise
        self.seed, self.passed = seed, 0
        keep = _shares_left_in(corpus.counts, sample)
        self.keep = keep[corpus.ids]
        # Of shares of the largest count, no power is too large for a float.
        weights = np.where(corpus.counts > 0, (corpus.counts / corpus.counts.max()) ** noise_power, 0.0)
        self.noise_shares = np.cumsum(weights) / weights.sum()
        _check_pairs(self.keep, corpus.texts, sample)
        # A pass must not have more words than its batches hold: eight standard deviations are room enough.
        expected, variance = self.keep.sum(), (self.keep * (1 - self.keep)).sum()
        self.batches = max(1, int(np.ceil((expected + 8 * np.sqrt(variance)) / (steps * batch_size))))

    def __call__(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the batches of the next pass."""
        random = np.random.default_rng([self.seed, self.passed])
        self.passed += 1
        left = random.random(len(self.keep)) < self.keep
        ids, texts = self.corpus.ids[left], self.corpus.texts[left]
        reach = random.integers(1, self.window + 1, len(ids), "int32")
        first, last = _ends(texts)
        place = np.arange(len(ids), dtype="int32")
        before, after = np.minimum(reach, place - first), np.minimum(reach, last - place)
        # The pieces are of nearly equal size, so that no batch is nearly empty.
        pieces = self.batches * self.batch_size
        bounds = np.linspace(0, min(len(ids), pieces * self.steps), pieces + 1).astype("int32")
        order = random.permutation(pieces)
        ids = np.pad(ids, (self.window, self.window + self.steps))
        before, after = (np.pad(each, (0, self.steps)) for each in (before, after))
        inner, outer = np.arange(self.steps), np.arange(self.steps + 2 * self.window)
        for batch in order.reshape(self.batches, self.batch_size):
            begin, size = bounds[batch, None], (bounds[batch + 1] - bounds[batch])[:, None]
            drawn = np.searchsorted(self.noise_shares, random.random((self.batch_size, self.noise)), "right")
            yield {
                "words": np.where(outer < size + 2 * self.window, ids[begin + outer], 0),
                "before": np.where(inner < size, before[begin + inner], 0),
                "after": np.where(inner < size, after[begin + inner], 0),
                "noise": np.minimum(drawn, len(self.noise_shares) - 1).astype("int32"),
            }


def _shares_left_in(counts: np.ndarray, sample: float) -> np.ndarray:
    """Return the probability with which each id is left in, float `(vocabulary_size,)`."""
    if not sample:
        return np.ones(len(counts))
    shares = np.maximum(counts, 1) / counts.sum()
    return np.minimum((np.sqrt(shares / sample) + 1) * sample / shares, 1.0)


def _check_pairs(keep: np.ndarray, texts: np.ndarray, sample: float) -> None:
    """Raise ValueError if, on average, fewer than one pair of words of one text is left in.

    Args:
        keep: Probability with which each word is left in, float `(words,)`.
        texts: The number of each word's text, int `(words,)`.
        sample: The option that the probabilities are from.
    """
    of_texts = np.bincount(texts, keep) ** 2 - np.bincount(texts, keep**2)
    pairs = of_texts.sum() / 2
    if pairs < 1 - 1e-6:
        raise ValueError(
            f"sample={sample} leaves {keep.sum():.3g} of {len(keep)} words in, on average, and {pairs:.3g} pairs of "
            "words of one text, but at least one is needed. Give more texts, a larger sample, or 0 to leave all in."
        )


def _ends(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the first and the last word of each word's text, int32 `(words,)`."""
    new = np.flatnonzero(np.diff(texts, prepend=-1))
    sizes = np.diff(np.append(new, len(texts)))
    first = np.repeat(new, sizes).astype("int32")
    return first, first + np.repeat(sizes, sizes).astype("int32") - 1
