"""How many tokens, characters or words a CTC model reads wrong."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding import ctc_greedy_decode
from kseq.masking import implicit_mask, lengths_from_mask
from kseq.metrics import WordErrorRate


@keras.saving.register_keras_serializable(package="kseq")
class TokenErrorRate(WordErrorRate):
    """Edits between labels and what the logits say, decoded greedily, per label. It runs inside compiled steps.

    Exact over batches: the sum of all edits, divided by the number of all labels.

    Args:
        blank_index: The class that is the blank.
        separator: The class between words, or several: edits are then counted by words, see
            `kseq.metrics.WordErrorRate`. None: every token counts.
        name: Name of the metric; by default "word_error_rate" with a separator, else "token_error_rate".
        **kwargs: Those of `kseq.metrics.WordErrorRate`.

    Call arguments:
        y_true: int `(batch, max_labels)`, padded with negative numbers.
        y_pred: Float `(batch, time, classes)`, unnormalised logits. The frames of a row are those that the mask leaves
            which Keras carries with them; all, if there is none.
        sample_weight: Float `(batch,)`.

    Returns:
        A float32 scalar, which may exceed 1: a model that says too much has more edits than there are labels. A row
        whose logits are NaN counts as one that says nothing, if that is within a compiled function.

    Example:
        >>> model.compile("adam", loss=kseq.losses.CTC(), metrics=[kseq.models.TokenErrorRate()])
    """

    def __init__(
        self,
        *,
        blank_index: int = 0,
        separator: int | Sequence[int] | None = None,
        name: str | None = None,
        **kwargs: Any,
    ):
        name = name or ("token_error_rate" if separator is None else "word_error_rate")
        super().__init__(separator=separator, name=name, **kwargs)
        self.blank_index = blank_index

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Count one batch."""
        mask = implicit_mask(y_pred)
        whole = ops.full((ops.shape(y_pred)[0],), ops.shape(y_pred)[1], dtype="int32")
        decoded = ctc_greedy_decode(
            y_pred, whole if mask is None else lengths_from_mask(mask), blank_index=self.blank_index
        )
        labels = ops.cast(y_true, "int32")
        label_lengths = ops.sum(ops.cumprod(ops.cast(labels >= 0, "int32"), axis=1), axis=1)
        super().update_state(labels, decoded.tokens[:, 0], label_lengths, decoded.lengths[:, 0], sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "blank_index": self.blank_index}


def error_rates(tokenizer: Any) -> list[TokenErrorRate]:
    """Return the metrics of a CTC model that writes a tokenizer's ids, with the pad token as the blank.

    They are what `kseq.metrics.CharacterErrorRate` and `WordErrorRate` say of the texts, normalised, but computed from
    ids within the compiled step: an unknown token counts as one character.

    Args:
        tokenizer: A `kseq.text.CharacterTokenizer` or another whose tokens are characters, or one whose tokens are
            words.

    Returns:
        `character_error_rate`, and `word_error_rate` if the vocabulary has white space, of characters; of words
        `word_error_rate` alone.

    Example:
        >>> model.compile("adam", metrics=kseq.models.error_rates(tokenizer), jit_compile=True)
        >>> model.evaluate(unseen, return_dict=True)
        {'character_error_rate': 0.021, 'loss': 1.3, 'word_error_rate': 0.083}
    """
    blank = tokenizer.pad_id
    if tokenizer.separator:
        return [TokenErrorRate(blank_index=blank, name="word_error_rate")]
    spaces = [index for index, token in enumerate(tokenizer.vocabulary.strings) if token.isspace()]
    words = [TokenErrorRate(blank_index=blank, separator=spaces)] if spaces else []
    return [TokenErrorRate(blank_index=blank, name="character_error_rate"), *words]
