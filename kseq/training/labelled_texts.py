"""Training rows made from texts and the names of their classes."""

from collections.abc import Sequence
from typing import Any

from kseq.training.class_number import class_number


def labelled_texts(
    source_tokenizer: Any,
    class_names: Sequence[str] | None,
    texts: Sequence[str],
    labels: Sequence[Any],
    *,
    character_tokenizer: Any = None,
) -> dict[str, list]:
    """Return the rows of a `kseq.models.SequenceClassifier` for texts, each with a label.

    The tokenizers' options apply, so rows are what the exported model reads.

    Args:
        source_tokenizer: A tokenizer of `kseq.text` with a vocabulary.
        class_names: Names of all classes, in the order of their ids, such as the `class_names` of the model. None: the
            labels are the numbers of a regression.
        texts: Texts, a list of str.
        labels: For each text the name of its class; or a list of names, any number of them, for a model with
            `task="multi_label"`; without `class_names` a number, or a list of numbers.
        character_tokenizer: For a `WordEncoder`, the tokenizer of the words' characters.

    Returns:
        `{"source": rows, "labels": labels}`, lists of ids and a label for each: its id, or 0.0 and 1.0 for each class.
        They are for `bucket_by_length` or for `fit`; with a `character_tokenizer` also `"characters"`, lists of lists
        of ids, for `fit`.

    Raises:
        ValueError: If there is no text, or one is empty; if there are not as many labels as texts; if a label is not
            among `class_names`, or they contain a name twice.

    Example:
        >>> tokenizer = kseq.text.WordTokenizer(["who", "when"])
        >>> labelled_texts(tokenizer, ["HUM", "NUM"], ["when", "who who"], ["NUM", "HUM"])
        {'source': [[5], [4, 4]], 'labels': [1, 0]}
    """
    for name, given in (("texts", texts), ("labels", labels), ("class_names", class_names)):
        if isinstance(given, str | bytes):
            raise ValueError(f"{name} is the single text {given!r}, but expected a list.")
    if len(texts) != len(labels) or not len(texts):
        raise ValueError(f"There are {len(texts)} texts and {len(labels)} labels. Give equally many, at least one.")
    if class_names is not None and len(set(class_names)) < len(class_names):
        raise ValueError(f"class_names must be a list of different names, but are {class_names!r}.")
    ids, lengths = (value.numpy() for value in source_tokenizer(list(texts)))
    if not lengths.all():
        place = int((lengths == 0).argmax())
        raise ValueError(f"texts[{place}] is {texts[place]!r}, which has no tokens. Leave such texts out.")
    rows: dict[str, list] = {
        "source": [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)],
        "labels": _labels(labels, class_names),
    }
    if character_tokenizer is not None:
        words = source_tokenizer.strings(list(texts), normalized=False).numpy()
        flat = [word for row, length in zip(words, lengths, strict=True) for word in row[:length]]
        spelt, counts = (value.numpy() for value in character_tokenizer(flat))
        each = iter(word[:count].tolist() for word, count in zip(spelt, counts, strict=True))
        rows["characters"] = [[next(each) for _ in row] for row in rows["source"]]
    return rows


def _labels(labels: Sequence[Any], class_names: Sequence[str] | None) -> list:
    """Return the ids of names of classes, or 0.0 and 1.0 for each class in place of lists of names."""
    if class_names is None:
        return list(labels)
    numbers = {name: number for number, name in enumerate(class_names)}
    if not any(isinstance(label, list | tuple | set | frozenset) for label in labels):
        return [class_number(label, numbers, f"labels[{index}]") for index, label in enumerate(labels)]
    rows = []
    for index, given in enumerate(labels):
        if not isinstance(given, list | tuple | set | frozenset):
            raise ValueError(f"labels[{index}] is {given!r}, but others are lists of names. Give a list for each text.")
        of_row = {class_number(label, numbers, f"labels[{index}]") for label in given}
        rows.append([float(number in of_row) for number in range(len(numbers))])
    return rows
