"""The inputs of models that read tokens with an encoder: what is in them, their checks, and their form in requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kseq.backend import Tensor
from kseq.ids import Rows, all_valid, read_rows
from kseq.models.encoders.token_encoder import TokenEncoder
from kseq.models.export_contract import StepInputs
from kseq.models.inputs.text_batches import tokenizer_of
from kseq.models.inputs.token_checks import check_batch, check_characters


@dataclass(frozen=True)
class EncoderInputs:
    """The inputs of an encoder: `source`, the tokens, and `characters`, if it reads them; with their lengths.

    Attributes:
        encoder: A `TokenEncoder`.
    """

    encoder: TokenEncoder

    def __post_init__(self) -> None:
        if not hasattr(self.encoder, "vocabulary_size"):
            raise ValueError(
                f"This model reads tokens, but a {type(self.encoder).__name__} reads arrays. Use it in a "
                "kseq.models.Seq2Seq, or give an encoder of tokens, such as kseq.models.Encoder."
            )

    @property
    def reads_characters(self) -> bool:
        """Whether the encoder reads the characters of words."""
        return self.encoder.characters is not None

    @property
    def vocabulary_sizes(self) -> dict[str, int]:
        """The number of ids of each input."""
        sizes = {"source": self.encoder.vocabulary_size}
        return sizes | {"characters": self.encoder.characters.vocabulary_size} if self.reads_characters else sizes

    def read(self, inputs: Mapping[str, Tensor]) -> tuple[list[Rows], Tensor | None]:
        """Return the rows of each input, safe to look up, and which ones are valid in all, bool `(batch,)` or None."""
        sizes = self.vocabulary_sizes.items()
        rows = [read_rows(inputs[name], inputs[f"{name}_lengths"], size, name=name) for name, size in sizes]
        return rows, all_valid(*rows)

    def check(self, inputs: Any) -> None:
        """Raise ValueError if arrays do not fit the encoder."""
        check_batch(inputs, {"source": self.encoder.vocabulary_size})
        if self.reads_characters:
            check_characters(inputs, np.shape(inputs["source"]), self.vocabulary_sizes["characters"])

    def in_requests(self, *, fewest: int = 0) -> dict[str, StepInputs]:
        """Return the inputs of an exported model; `fewest` is the smallest number of tokens in a row."""
        sizes = self.vocabulary_sizes
        inputs = {"tokens": StepInputs(dtype="int32", vocabulary_size=sizes["source"], fewest=fewest)}
        if self.reads_characters:
            size = sizes["characters"]
            inputs["characters"] = StepInputs(dtype="int32", vocabulary_size=size, steps_of="tokens")
        return inputs

    def of_request(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the model's inputs for the inputs of an exported model."""
        lengths = tensors["tokens_lengths" if self.reads_characters else "lengths"]
        return {**tensors, "source": tensors["tokens"], "source_lengths": lengths}

    def tokenizers_of(self, model: Any) -> Any:
        """Return a model's tokenizers as the export takes them, or None if it has none."""
        source = model.source_tokenizer
        both = {"tokens": source, "characters": model.character_tokenizer}
        return both if source is not None and self.reads_characters else source

    def of_texts(self, model: Any, texts: Sequence[str | bytes], method: str) -> dict[str, np.ndarray]:
        """Return the model's inputs for texts, by its tokenizers; rows are as long as the longest text.

        Args:
            model: The model that has the tokenizers.
            texts: The texts, at least one.
            method: Name of the model's method, for errors.

        Raises:
            ValueError: If the model lacks a tokenizer.
        """
        tokenizer = tokenizer_of(model, "source_tokenizer", method)
        ids, lengths = (value.numpy() for value in tokenizer(texts))
        inputs = {"source": ids, "source_lengths": lengths}
        if self.reads_characters:
            spelling = tokenizer_of(model, "character_tokenizer", method)
            words = tokenizer.strings(texts, normalized=False).numpy()[:, : ids.shape[1]]
            words = np.pad(words, [(0, 0), (0, ids.shape[1] - words.shape[1])], constant_values=b"")
            spelt, counts = (value.numpy() for value in spelling(words.reshape(-1)))
            inputs |= {"characters": spelt.reshape(*ids.shape, -1), "characters_lengths": counts.reshape(ids.shape)}
        return inputs
