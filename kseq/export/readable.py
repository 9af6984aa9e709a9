"""What an exported model answers in words: the texts that it writes, and the tokens that its alignments are between."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class Readable:
    """Adds to a model's answer what it says in words.

    Attributes:
        source: Tokenizer of the inputs, or None.
        target: Tokenizer of the outputs, or None.
        replace_unknown: Whether texts have the most attended source token for each unknown one.
        alignments: Whether the answer keeps the model's `alignments`, and says which tokens they are between.
    """

    source: Any = None
    target: Any = None
    replace_unknown: bool = False
    alignments: bool = False

    def add_to(self, outputs: dict[str, tf.Tensor], text: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Return a model's `outputs` with texts and the names of tokens, as far as there are tokenizers for them.

        Args:
            outputs: The model's answer by name.
            text: string `(batch,)`, what was read, if the model has a source tokenizer.

        Raises:
            ValueError: If alignments are needed, and the model gives none.
        """
        if (self.replace_unknown or self.alignments) and "alignments" not in outputs:
            raise ValueError(
                f"replace_unknown={self.replace_unknown}, alignments={self.alignments}: one of them needs the model's "
                f"alignments, but it answers with {sorted(outputs)}. Leave them out."
            )
        if self.target is not None:
            outputs = {"text": self._written(outputs, text), **outputs}
        if self.alignments:
            return {**outputs, **self._names(outputs, text)}
        if self.replace_unknown:
            return {name: value for name, value in outputs.items() if name != "alignments"}
        return outputs

    def _written(self, outputs: dict[str, tf.Tensor], text: tf.Tensor | None) -> tf.Tensor:
        if not self.replace_unknown:
            return self.target.detokenize(outputs["tokens"])
        from kseq.text import replace_unknown  # needs tensorflow-text, as the tokenizers do

        return replace_unknown(self.target, outputs["tokens"], outputs["alignments"], self.source.strings(text))

    def _names(self, outputs: dict[str, tf.Tensor], text: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Return the tokens that the alignments are between, empty in the padding."""
        names = {}
        if self.source is not None:
            names["source_tokens"] = self._source_tokens(text, tf.shape(outputs["alignments"])[3])
        if self.target is not None:
            real = tf.sequence_mask(outputs["lengths"], tf.shape(outputs["tokens"])[2])  # (batch, n, time)
            names["target_tokens"] = tf.where(real, self.target.vocabulary.tokens(outputs["tokens"]), "")
        return names

    def _source_tokens(self, text: tf.Tensor | None, steps: tf.Tensor) -> tf.Tensor:
        ids, lengths = self.source(text)
        spelt = self.source.strings(text)  # (batch, time), empty for begin and end
        named = tf.where(spelt == "", self.source.vocabulary.tokens(ids), spelt)
        named = tf.where(tf.sequence_mask(lengths, tf.shape(ids)[1]), named, "")[:, :steps]
        missing = tf.convert_to_tensor([[0, 0], [0, steps - tf.shape(named)[1]]])
        return tf.pad(named, missing, constant_values="")  # (batch, steps)
