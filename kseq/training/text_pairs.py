"""Training rows made from pairs of texts."""

from collections.abc import Sequence
from typing import Any

from kseq.numbers import whole


def text_pairs(
    source_tokenizer: Any,
    target_tokenizer: Any,
    sources: Sequence[str],
    targets: Sequence[str],
    *,
    copied_positions: int = 0,
) -> dict[str, list[list[int]]]:
    """Return the rows of a `kseq.models.Seq2Seq` for pairs of texts: tokens, and targets with begin and end tokens.

    The tokenizers' options `add_bos`, `add_eos` and `max_length` do not apply: sources get neither token and targets
    both, once each, and no row is cut.

    Args:
        source_tokenizer: A tokenizer of `kseq.text` with a vocabulary.
        target_tokenizer: The same for the targets.
        sources: Texts, a list of str or bytes.
        targets: As many texts.
        copied_positions: That of a `kseq.models.PointerDecoder`: a target token that its vocabulary lacks, but that is
            among this many first tokens of the source, becomes `vocabulary_size + position`. 0: all are unknown.

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
    rows = target_tokenizer.tokenize(targets).to_list()
    if whole("copied_positions", copied_positions) < 0:
        raise ValueError(f"copied_positions={copied_positions}, but a number of positions is at least 0.")
    if copied_positions:
        words = [tokenizer.split(tokenizer.normalize(texts)).to_list() for tokenizer, texts in (
            (source_tokenizer, sources), (target_tokenizer, targets)
        )]  # fmt: skip
        size, unknown = target_tokenizer.vocabulary_size, target_tokenizer.unk_id
        for row, source, target in zip(rows, *words, strict=True):
            first = {word: place for place, word in reversed(list(enumerate(source[:copied_positions])))}
            row[:] = [
                size + first[word] if each == unknown and word in first else each
                for each, word in zip(row, target, strict=True)
            ]
    return {
        "source": source_tokenizer.tokenize(sources).to_list(),
        "target": [[bos, *row, eos] for row in rows],
    }
