"""The text outputs of an exported model: decoded texts, and the tokens of its alignments."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class TextOutputs:
    """Adds texts, and the source and target tokens of alignments, to a model's answer.

    Attributes:
        source: Tokenizer of the inputs, or None.
        target: Tokenizer of the outputs, or None.
        replace_unknown: Whether unknown tokens are replaced by the source token with the most attention.
        alignments: Whether the answer keeps the model's `alignments`, with the source and target tokens beside them.
    """

    source: Any = None
    target: Any = None
    replace_unknown: bool = False
    alignments: bool = False

    def add_to(self, outputs: dict[str, tf.Tensor], text: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Return `outputs` with the texts and tokens for which there are tokenizers.

        Args:
            outputs: The model's answer by name.
            text: string `(batch,)`, the request; None without a source tokenizer.

        Raises:
            ValueError: If alignments are needed, but the model answers with none.
        """
        if (self.replace_unknown or self.alignments) and "alignments" not in outputs:
            raise ValueError(
                f"replace_unknown={self.replace_unknown} and alignments={self.alignments} need the model's alignments, "
                f"but it answers with {sorted(outputs)}. Leave the options out."
            )
        if self.target is not None:
            outputs = {"text": self._texts(outputs, text), **outputs}
        if self.alignments:
            return {**outputs, **self._tokens(outputs, text)}
        if self.replace_unknown:
            return {name: value for name, value in outputs.items() if name != "alignments"}
        return outputs

    def _texts(self, outputs: dict[str, tf.Tensor], text: tf.Tensor | None) -> tf.Tensor:
        if not self.replace_unknown:
            return self.target.detokenize(outputs["tokens"])
        from kseq.text import replace_unknown  # needs tensorflow-text, as the tokenizers do

        return replace_unknown(self.target, outputs["tokens"], outputs["alignments"], self.source.strings(text))

    def _tokens(self, outputs: dict[str, tf.Tensor], text: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Return the source and target tokens of the alignments' axes, empty in the padding."""
        tokens = {}
        if self.source is not None:
            tokens["source_tokens"] = self._source_tokens(text, tf.shape(outputs["alignments"])[3])
        if self.target is not None:
            real = tf.sequence_mask(outputs["lengths"], tf.shape(outputs["tokens"])[2])  # (batch, n, time)
            tokens["target_tokens"] = tf.where(real, self.target.vocabulary.tokens(outputs["tokens"]), "")
        return tokens

    def _source_tokens(self, text: tf.Tensor | None, steps: tf.Tensor) -> tf.Tensor:
        ids, lengths = self.source(text)
        strings = self.source.strings(text)  # (batch, time), empty for begin and end
        tokens = tf.where(strings == "", self.source.vocabulary.tokens(ids), strings)
        tokens = tf.where(tf.sequence_mask(lengths, tf.shape(ids)[1]), tokens, "")[:, :steps]
        missing = tf.convert_to_tensor([[0, 0], [0, steps - tf.shape(tokens)[1]]])
        return tf.pad(tokens, missing, constant_values="")  # (batch, steps)
