"""The known words of texts, as one array of ids."""

import reprlib
from typing import Any, NamedTuple

import numpy as np


class WordCorpus(NamedTuple):
    """The known words of texts, one text after the other.

    Attributes:
        ids: int32 `(words,)`; unknown words and other special tokens are left out.
        texts: int32 `(words,)`, the number of the text that each word is from.
        counts: int64 `(vocabulary_size,)`, how often each id is in `ids`.
    """

    ids: np.ndarray
    texts: np.ndarray
    counts: np.ndarray


def word_corpus(tokenizer: Any, texts: Any) -> WordCorpus:
    """Return the known words of texts.

    Args:
        tokenizer: A tokenizer of `kseq.text` with a vocabulary.
        texts: As in `Tokenizer.adapt`: a list, iterable or dataset of texts, or paths of files.

    Raises:
        TypeError: If `texts` are none of these, or `tokenizer` is none.
        ValueError: If no text has two known words.
    """
    if not hasattr(tokenizer, "tokenize") or not hasattr(tokenizer, "special_tokens"):
        raise TypeError(
            f"source_tokenizer must be a tokenizer of kseq.text with a vocabulary, but is {reprlib.repr(tokenizer)} of "
            f"type {type(tokenizer).__name__}."
        )
    from kseq.text.corpus import text_batches

    parts, lengths = [np.zeros(0, "int32")], [np.zeros(0, "int64")]
    for batch in text_batches(texts):
        rows = tokenizer.tokenize(batch)
        parts.append(rows.flat_values.numpy())
        lengths.append(rows.row_lengths().numpy())
    ids, of_rows = np.concatenate(parts), np.concatenate(lengths)
    of_words = np.repeat(np.arange(len(of_rows), dtype="int32"), of_rows)
    known = ~np.isin(ids, tokenizer.special_tokens.ids)
    ids, of_words = ids[known], of_words[known]
    if not (of_words[1:] == of_words[:-1]).any():
        raise ValueError(
            f"The {len(of_rows)} texts have {len(ids)} known words, but none of the texts has two, so no words occur "
            "together. Give longer texts. Is the vocabulary that of these texts?"
        )
    return WordCorpus(ids, of_words, np.bincount(ids, minlength=tokenizer.vocabulary_size))
