"""The exported form of models of word vectors: from a text to its vector and the nearest words."""

import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.masking import mask_from_lengths
from kseq.models.export_contract import Serving, ServingOptions, StepInputs, check_tokenizers

NEAREST = 10  # words in an answer


def known_words(vocabulary: Any) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the words of a vocabulary in the order of their ids, and which are no special tokens, bool `(words,)`.

    Raises:
        TypeError: If it is no tokenizer, `Vocabulary` or list of words.
    """
    vocabulary = getattr(vocabulary, "vocabulary", vocabulary)
    given = getattr(vocabulary, "strings", vocabulary)
    words = tuple(given) if isinstance(given, Iterable) else ()
    if isinstance(given, str) or not isinstance(given, Iterable) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"vocabulary={vocabulary!r}, but expected a tokenizer, a Vocabulary, or a list of words.")
    known = np.ones(len(words), bool)
    if hasattr(vocabulary, "special_tokens"):
        known[list(vocabulary.special_tokens.ids)] = False
    return words, known


def checked_tokenizer(name: str, tokenizer: Any) -> Any:
    """Return a tokenizer with a vocabulary, or None.

    Raises:
        TypeError: If it is neither.
    """
    if tokenizer is not None and not hasattr(tokenizer, "vocabulary"):
        raise TypeError(
            f"{name} must be a tokenizer of kseq.text with a vocabulary, such as WordTokenizer().adapt(texts), but is "
            f"{reprlib.repr(tokenizer)} of type {type(tokenizer).__name__}."
        )
    return tokenizer


def serving_of_words(model: Any, options: ServingOptions) -> Serving:
    """Return the `Serving` of a `WordModel`: from the words of a text to the mean of their vectors.

    The answer has `vector` float32 `(batch, dim)`, `nearest` int32 `(batch, n)`, the ids or names of the words whose
    vectors have the greatest cosine similarity with it, and `similarities` float32 `(batch, n)`. Words of the text are
    not left out of `nearest`. A text without a known word is refused.

    Raises:
        ValueError: If an option does not apply, or the tokenizers or names do not fit the model.
    """
    name = type(model).__name__
    options.refuse(name, "strategy", "target", "max_length", "seed_input", "alignments")
    if options.class_names is not None and len(options.class_names) != model.vocabulary_size:
        raise ValueError(
            f"There are {len(options.class_names)} names, but the model has {model.vocabulary_size} words."
        )
    tokenizer = model.source_tokenizer
    if tokenizer is None:
        tokenizer = options.source.get("tokens") if isinstance(options.source, Mapping) else options.source
    special = () if tokenizer is None else tokenizer.special_tokens.ids
    inputs = model.in_requests(special)
    check_tokenizers(inputs, options.source)
    if not model.built:
        model.build()
    table = model.prepare_serving()
    is_word = np.ones(model.vocabulary_size, bool)
    is_word[list(special)] = False

    def answer(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        lengths = tensors.get("tokens_lengths", tensors.get("lengths"))
        real = mask_from_lengths(lengths, ops.shape(tensors["tokens"])[1])
        vectors, has_one = model.vectors_of(tensors, is_word)
        counted = ops.logical_and(real, has_one)[..., None]  # (batch, time, 1)
        count = ops.cast(ops.sum(ops.cast(counted, "int32"), axis=1), "float32")
        total = ops.sum(ops.where(counted, ops.cast(vectors, "float32"), 0.0), axis=1)
        vector = ops.where(count > 0, total / ops.maximum(count, 1.0), np.nan)
        similarities = ops.matmul(_directions(vector), ops.transpose(_directions(ops.cast(table(), "float32"))))
        similarities = ops.where(is_word, similarities, -2.0)  # below all cosines
        best, nearest = ops.top_k(similarities, min(NEAREST, int(is_word.sum())))
        return {"vector": vector, "nearest": ops.cast(nearest, "int32"), "similarities": best}

    named = ("nearest", "similarities")
    return Serving(inputs, answer, padding={"nearest": -1}, named=named[:1], classify=named)


def inputs_of_words(
    vocabulary_size: int, special: Sequence[int], characters: int | None = None
) -> dict[str, StepInputs]:
    """Return the inputs of an exported model: word ids, and with a number of `characters` also these.

    Without characters, rows whose ids are all `special` are refused, since only other ids are words with a vector.
    """
    refusals = () if characters is not None or not special else (_without_known_words(special),)
    tokens = StepInputs(dtype="int32", vocabulary_size=vocabulary_size, fewest=1, refusals=refusals)
    inputs = {"tokens": tokens}
    if characters is not None:
        inputs["characters"] = StepInputs(dtype="int32", vocabulary_size=characters, steps_of="tokens")
    return inputs


def _without_known_words(special: Sequence[int]) -> tuple[str, Callable[[Tensor, Tensor], Tensor]]:
    """Return the reason why rows without a known word are refused, and the function that finds them."""

    def applies(tokens: Tensor, lengths: Tensor) -> Tensor:
        real = mask_from_lengths(lengths, ops.shape(tokens)[1])
        unknown = ops.any(ops.equal(tokens[..., None], ops.convert_to_tensor(special, "int32")), axis=-1)
        all_unknown = ops.all(ops.logical_or(unknown, ops.logical_not(real)), axis=1)
        return ops.logical_and(all_unknown, lengths > 0)  # another reason refuses empty rows

    return "The row has no word of the model's vocabulary, so it has no vector.", applies


def _directions(vectors: Tensor) -> Tensor:
    """Return vectors `(n, dim)` of length 1; zero vectors stay."""
    lengths = ops.sqrt(ops.sum(ops.square(vectors), axis=-1, keepdims=True))
    return vectors / ops.where(lengths == 0, 1.0, lengths)
