"""Training rows made from pairs of texts."""

from collections.abc import Sequence
from typing import Any


def text_pairs(
    source_tokenizer: Any, target_tokenizer: Any, sources: Sequence[str], targets: Sequence[str]
) -> dict[str, list[list[int]]]:
    """Return the rows of a `kseq.models.Seq2Seq` for pairs of texts: tokens, and targets with begin and end tokens.

    The tokenizers' options `add_bos`, `add_eos` and `max_length` do not apply: sources get neither token and targets
    both, once each, and no row is cut.

    Args:
        source_tokenizer: A tokenizer of `kseq.text` with a vocabulary.
        target_tokenizer: The same for the targets.
        sources: Texts, a list of str or bytes.
        targets: As many texts.

    Returns:
        `{"source": rows, "target": rows}`, lists of token ids, for `bucket_by_length` or for `fit`.

    Raises:
        ValueError: If there are not as many sources as targets, or one of them is a single text.

    Example:
        >>> letters = kseq.text.CharacterTokenizer(["a", "b"])
        >>> kseq.training.text_pairs(letters, letters, ["ab", "b"], ["a", "ba"])
        {'source': [[4, 5], [5]], 'target': [[2, 4, 3], [2, 5, 4, 3]]}
    """
    for name, texts in (("sources", sources), ("targets", targets)):
        if isinstance(texts, str | bytes):
            raise ValueError(f"{name} is the single text {texts!r}, but expected a list of texts.")
    if len(sources) != len(targets):
        raise ValueError(f"There are {len(sources)} sources and {len(targets)} targets. Give one target per source.")
    bos, eos = target_tokenizer.bos_id, target_tokenizer.eos_id
    return {
        "source": source_tokenizer.tokenize(sources).to_list(),
        "target": [[bos, *row, eos] for row in target_tokenizer.tokenize(targets).to_list()],
    }
