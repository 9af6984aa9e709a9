"""Training data of `kseq.models.GloVe`: how often pairs of words occur near each other."""

from typing import Any

import numpy as np

from kseq.numbers import whole
from kseq.training.word_corpus import word_corpus


def co_occurrences(source_tokenizer: Any, texts: Any, *, window: int = 10) -> dict[str, np.ndarray]:
    """Return the pairs of words that occur at most `window` words apart, and their counts.

    Two words that are `d` words apart count 1 / d, in both orders. Pairs do not reach over the ends of texts.

    Args:
        source_tokenizer: A tokenizer of `kseq.text` with a vocabulary. Unknown words are left out first.
        texts: As in `Tokenizer.adapt`: a list, iterable or dataset of texts, or paths of files. Their pairs stay in
            memory.
        window: Largest distance.

    Returns:
        `{"word": ..., "context": ..., "count": ...}` for `GloVe.fit`: int32, int32 and float32 `(pairs,)`, sorted by
        word and context.

    Raises:
        TypeError: If `texts` are no texts.
        ValueError: If `window` is not positive, or no text has two known words.

    Example:
        >>> tokenizer = kseq.text.WordTokenizer().adapt(["a b c"])
        >>> pairs = co_occurrences(tokenizer, ["a b c"], window=2)
        >>> {name: values.tolist() for name, values in pairs.items()}
        {'word': [4, 4, 5, 5, 6, 6], 'context': [5, 6, 4, 6, 4, 5], 'count': [1.0, 0.5, 1.0, 1.0, 0.5, 1.0]}

    Reference: J. Pennington, R. Socher, C. Manning, "GloVe: global vectors for word representation", 2014.
    """
    window = whole("window", window)
    if window < 1:
        raise ValueError(f"window={window} must be at least 1.")
    corpus = word_corpus(source_tokenizer, texts)
    ids, size = corpus.ids.astype("int64"), len(corpus.counts)
    keys, counts = np.zeros(0, "int64"), np.zeros(0)
    for distance in range(1, min(window, len(ids) - 1) + 1):
        near = corpus.texts[distance:] == corpus.texts[:-distance]
        if not near.any():
            break  # no text is longer
        first, second = ids[:-distance][near], ids[distance:][near]
        pairs = np.concatenate([first * size + second, second * size + first])
        keys, places = np.unique(np.concatenate([keys, pairs]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, np.full(len(pairs), 1 / distance)]), len(keys))
    word, context = np.divmod(keys, size)
    return {"word": word.astype("int32"), "context": context.astype("int32"), "count": counts.astype("float32")}
