"""Training rows made from words and the names of their tags."""

from collections.abc import Sequence
from typing import Any

from kseq.models.inputs.model_inputs import check_row_sizes
from kseq.models.inputs.text_batches import ids_of_words
from kseq.training.class_number import class_number


def tagged_words(
    source_tokenizer: Any,
    class_names: Sequence[str],
    words: Sequence[Sequence[str]],
    tags: Sequence[Sequence[str]],
    *,
    character_tokenizer: Any = None,
) -> dict[str, list]:
    """Return the rows of a `kseq.models.Tagger` for sentences of words, of which each one has a tag.

    The tokenizers' options `add_bos`, `add_eos` and `max_length` do not apply: a row has one id for each word.

    Args:
        source_tokenizer: A tokenizer of `kseq.text` with a vocabulary, such as `WordTokenizer`, that does not split the
            words.
        class_names: Names of all tags, in the order of their ids, such as the `class_names` of the model.
        words: Sentences, each a list of words.
        tags: As many lists of names of tags, one name for each word.
        character_tokenizer: For a `WordEncoder`, the tokenizer of the words' characters.

    Returns:
        `{"source": rows, "tags": rows}`, lists of ids, for `bucket_by_length` or for `fit`; with a
        `character_tokenizer` also `"characters"`, lists of lists of ids, for `fit`.

    Raises:
        ValueError: If there is no sentence, or one has no words; if the numbers of sentences, or of words and tags,
            differ; if a tag is not among `class_names`, or they contain a name twice; if a sentence is a text instead
            of a list; or if a word is not one token.

    Example:
        >>> tokenizer = kseq.text.WordTokenizer(["time", "flies"])
        >>> tagged_words(tokenizer, ["NOUN", "VERB"], [["time", "flies"], ["time"]], [["NOUN", "VERB"], ["NOUN"]])
        {'source': [[4, 5], [4]], 'tags': [[0, 1], [0]]}
    """
    if isinstance(class_names, str) or len(set(class_names)) < len(class_names):
        raise ValueError(f"class_names must be a list of different names, but are {class_names!r}.")
    sentences, names = _rows("words", words), _rows("tags", tags)
    if len(sentences) != len(names) or not sentences:
        raise ValueError(
            f"There are {len(sentences)} sentences of words and {len(names)} of tags. Give equally many, at least one."
        )
    check_row_sizes([len(row) for row in names], [len(row) for row in sentences], "tags", "words")
    if [] in sentences:
        raise ValueError(f"words[{sentences.index([])}] has no words. Leave such sentences out.")
    flat = [word for row in sentences for word in row]
    ids = iter(ids_of_words(source_tokenizer, flat).tolist())
    numbers = {name: number for number, name in enumerate(class_names)}
    rows: dict[str, list] = {
        "source": [[next(ids) for _ in row] for row in sentences],
        "tags": [
            [class_number(name, numbers, f"tags[{index}][{place}]") for place, name in enumerate(row)]
            for index, row in enumerate(names)
        ],
    }
    if character_tokenizer is not None:
        spelt = iter(character_tokenizer.tokenize(flat).to_list())
        rows["characters"] = [[next(spelt) for _ in row] for row in sentences]
    return rows


def _rows(name: str, rows: Any) -> list[list]:
    """Return lists of strings, or raise ValueError if one is a single text."""
    if isinstance(rows, str | bytes):
        raise ValueError(f"{name} is the text {rows!r}, but expected a list of sentences, each a list of strings.")
    for index, row in enumerate(rows):
        if isinstance(row, str | bytes):
            raise ValueError(
                f"{name}[{index}] is the text {row!r}, but expected a list of strings, such as {str(row).split()}."
            )
    return [list(row) for row in rows]
