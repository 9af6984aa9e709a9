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
        outputs = dict(outputs)
        alignments = outputs.pop("alignments", None)  # (batch, n, time, steps)
        if (self.replace_unknown or self.alignments) and alignments is None:
            raise ValueError(
                f"replace_unknown={self.replace_unknown}, alignments={self.alignments}: one of them needs the model's "
                f"alignments, but it answers with {sorted(outputs)}. Leave them out."
            )
        if self.target is not None:
            outputs = {"text": self._written(outputs["tokens"], alignments, text), **outputs}
        if not self.alignments:
            return outputs
        outputs["alignments"] = alignments
        if self.source is not None:
            outputs["source_tokens"] = self._source_tokens(text, tf.shape(alignments)[3])
        if self.target is not None:
            real = tf.sequence_mask(outputs["lengths"], tf.shape(outputs["tokens"])[2])  # (batch, n, time)
            outputs["target_tokens"] = tf.where(real, self.target.vocabulary.tokens(outputs["tokens"]), "")
        return outputs

    def _written(self, tokens: tf.Tensor, alignments: tf.Tensor | None, text: tf.Tensor | None) -> tf.Tensor:
        if not self.replace_unknown:
            return self.target.detokenize(tokens)
        from kseq.text import replace_unknown  # needs tensorflow-text, as the tokenizers do

        return replace_unknown(self.target, tokens, alignments, self.source.strings(text))

    def _source_tokens(self, text: tf.Tensor | None, steps: tf.Tensor) -> tf.Tensor:
        """Return the tokens of `text`, string `(batch, steps)`, empty in the padding."""
        ids, lengths = self.source(text)
        spelt = self.source.strings(text)  # (batch, time), empty for begin and end
        named = tf.where(spelt == "", self.source.vocabulary.tokens(ids), spelt)
        named = tf.where(tf.sequence_mask(lengths, tf.shape(ids)[1]), named, "")[:, :steps]
        missing = tf.convert_to_tensor([[0, 0], [0, steps - tf.shape(named)[1]]])
        return tf.pad(named, missing, constant_values="")
