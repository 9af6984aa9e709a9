"""Error rates of CTC models, computed from their logits."""

from collections.abc import Sequence
from typing import Any

import keras

from kseq.backend import Tensor
from kseq.metrics.edit_distance import WordErrorRate


@keras.saving.register_keras_serializable(package="kseq")
class TokenErrorRate(WordErrorRate):
    """Edits per label between the labels and the greedily decoded logits of a CTC model, also in compiled steps.

    Exact over batches: the sum of all edits, divided by the number of all labels.

    Args:
        blank_index: Class of the blank; -1 is the last.
        separator: Class, or classes, between words; edits are then counted in words, see `kseq.metrics.WordErrorRate`.
            None counts tokens.
        name: Name of the metric; by default "word_error_rate" with a separator, else "token_error_rate".
        **kwargs: Arguments of `kseq.metrics.WordErrorRate`.

    Call arguments:
        y_true: int `(batch, max_labels)`, padded with negative numbers.
        y_pred: Float `(batch, time, classes)`, unnormalised logits. Their Keras mask, if they carry one, tells the real
            frames of each row; without a mask all frames are real.
        sample_weight: Float `(batch,)`.

    Returns:
        A float32 scalar. It exceeds 1 if there are more edits than labels. Inside a compiled function, a row of NaN
        logits counts as one without tokens.

    Example:
        >>> model.compile("adam", loss=kseq.losses.CTC(), metrics=[kseq.metrics.TokenErrorRate()])
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
        super().__init__(separator=separator, blank_index=blank_index, name=name, **kwargs)

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Count the edits of one batch."""
        super().update_state(y_true, y_pred, sample_weight=sample_weight)


def error_rates(tokenizer: Any) -> list[TokenErrorRate]:
    """Return character and word error rates for a CTC model over a tokenizer's ids, the pad token being the blank.

    They equal `kseq.metrics.CharacterErrorRate` and `WordErrorRate` of the normalised texts, but are computed from ids
    inside the compiled step; an unknown token counts as one character.

    Args:
        tokenizer: A tokenizer whose tokens are characters, such as `kseq.text.CharacterTokenizer`, or words.

    Returns:
        For characters: `character_error_rate`, and `word_error_rate` if the vocabulary has white space. For words:
        `word_error_rate` alone.

    Example:
        >>> model.compile("adam", metrics=kseq.metrics.error_rates(tokenizer), jit_compile=True)
        >>> model.evaluate(unseen, return_dict=True)
        {'character_error_rate': 0.021, 'loss': 1.3, 'word_error_rate': 0.083}
    """
    blank = tokenizer.pad_id
    if tokenizer.separator:
        return [TokenErrorRate(blank_index=blank, name="word_error_rate")]
    spaces = [index for index, token in enumerate(tokenizer.vocabulary.strings) if token.isspace()]
    words = [TokenErrorRate(blank_index=blank, separator=spaces)] if spaces else []
    return [TokenErrorRate(blank_index=blank, name="character_error_rate"), *words]
