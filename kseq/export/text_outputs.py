"""The text outputs of an exported model: decoded texts, names of classes, and tokens as strings."""

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from kseq.export.class_names import ClassNames
from kseq.export.inputs.text import TextReader
from kseq.export.span_outputs import span_outputs
from kseq.models.export_contract import Serving


@dataclass(frozen=True)
class TextOutputs:
    """Adds texts, names of classes, and source and target tokens to a model's answer.

    Attributes:
        serving: The model's outputs that contain class ids, and the output for the source's tokens.
        source: The reader of texts, or None.
        target: Tokenizer of the outputs, or None.
        class_names: Names of the classes, or None.
        replace_unknown: Whether unknown tokens are replaced by the source token with the most attention.
        alignments: Whether the answer keeps the model's `alignments`, with the source and target tokens beside them.
    """

    serving: Serving
    source: TextReader | None = None
    target: Any = None
    class_names: ClassNames | None = None
    replace_unknown: bool = False
    alignments: bool = False

    def add_to(
        self, outputs: dict[str, tf.Tensor], text: tf.Tensor | None, bucket: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Return `outputs` with the texts and tokens for which there are tokenizers or names.

        Args:
            outputs: The model's answer by name.
            text: string `(batch,)`, the request; None without a source tokenizer.
            bucket: The number of steps to which the source is padded.

        Raises:
            ValueError: If alignments are needed, but the model answers with none.
        """
        if (self.replace_unknown or self.alignments) and "alignments" not in outputs:
            raise ValueError(
                f"replace_unknown={self.replace_unknown} and alignments={self.alignments} need the model's alignments, "
                f"but it answers with {sorted(outputs)}. Leave the options out."
            )
        if self.serving.spans is not None:
            starts, ends = (None, None) if self.source is None or text is None else self.source.offsets(text, bucket)
            outputs = {**outputs, **span_outputs(self.serving.spans, outputs["tags"], starts, ends)}
        if self.class_names is not None:
            outputs = self._with_names(self.class_names, outputs)
        if self.source is not None and self.serving.spelled is not None and text is not None:
            outputs = {self.serving.spelled: self.source.strings(text, bucket, normalized=False), **outputs}
        if self.target is not None:
            outputs = {"text": self._texts(outputs, text), **outputs}
        if self.alignments:
            return {**outputs, **self._tokens(outputs, text)}
        if self.replace_unknown:
            return {name: value for name, value in outputs.items() if name != "alignments"}
        return outputs

    def _with_names(self, names: ClassNames, outputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return `outputs` with names in place of ids, or with the `text` that the names of the tokens make up."""
        if self.serving.named:
            return {name: names(of) if name in self.serving.named else of for name, of in outputs.items()}
        return {"text": tf.strings.reduce_join(names(outputs["tokens"]), axis=-1), **outputs}

    def _texts(self, outputs: dict[str, tf.Tensor], text: tf.Tensor | None) -> tf.Tensor:
        if not self.replace_unknown and not self.serving.copies:
            return self.target.detokenize(outputs["tokens"])
        from kseq.text import replace_copies, replace_unknown  # the tokenizers are there, so it is imported

        assert self.source is not None
        strings = self.source.tokenizers[self.source.first].strings(text)
        if self.serving.copies:
            return replace_copies(self.target, outputs["tokens"], strings)
        return replace_unknown(self.target, outputs["tokens"], outputs["alignments"], strings)

    def _tokens(self, outputs: dict[str, tf.Tensor], text: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Return the source and target tokens of the alignments' axes, empty in the padding."""
        tokens = {}
        if self.source is not None and text is not None:
            tokens["source_tokens"] = self.source.strings(text, tf.shape(outputs["alignments"])[3], normalized=True)
        if self.target is not None:
            real = tf.sequence_mask(outputs["lengths"], tf.shape(outputs["tokens"])[2])  # (batch, n, time)
            tokens["target_tokens"] = tf.where(real, self.target.vocabulary.tokens(outputs["tokens"]), "")
        return tokens
