"""Lexicons whose words are scored by an n-gram model of words."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.ctc.lexicon import Lexicon
from kseq.decoding.ctc.ngram import NGram
from kseq.decoding.ctc.scorer import Scorer, check_weights
from kseq.decoding.ctc.tables import Tables
from kseq.numbers import id_sequences, real, whole


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, eq=False)
class WordNGramScorer(Tables, Scorer):
    """A `Lexicon` that adds `weight * log P(word | words before) + bonus` for every word, where the word ends.

    The end of the utterance adds `weight * log P(</s> | words)`. A word gets its score when it ends, not before, so a
    wide beam is needed.

    Args:
        words: The words, each a sequence of classes, all different.
        model: The model, whose tokens are the words, in their order.
        separator: The class between words, which may also end the text.
        weight: The factor of the log-probabilities, from -100 to 100.
        bonus: The gain of every word in nats, from -50 to 50.

    Raises:
        TypeError: If `model` is no `NGram`.
        ValueError: If a number is not finite or too large, a word is empty, holds the separator or comes twice, or if
            there are not as many as the model's symbols; when decoding, if a class is outside the logits'.

    Example:
        >>> words = ["cat", "sat", "the"]
        >>> model = NGram.from_arpa("words.arpa", symbols=words)
        >>> fusion = WordNGramScorer([[ord(c) - 96 for c in word] for word in words], model, separator=27)
        >>> decoded = ctc_beam_search(logits, logit_lengths, beam_width=64, scorers=(fusion,))
    """

    lexicon: Lexicon
    word_at: np.ndarray  # int32 (states,): the word that ends at a state of the lexicon, -1 for none
    model: NGram
    separator: int
    weight: float
    bonus: float

    def __init__(
        self, words: Sequence[Sequence[int]], model: NGram, *, separator: int, weight: float = 0.5, bonus: float = 0.0
    ):
        words = id_sequences("WordNGramScorer", words, "word")
        separator, weight, bonus = whole("separator", separator), real("weight", weight), real("bonus", bonus)
        check_weights(weight, bonus)
        if not isinstance(model, NGram):
            raise TypeError(f"model must be an NGram, such as NGram.from_arpa(path, symbols), but is {model!r}.")
        twice = len(set(words)) < len(words)
        if twice or len(words) != len(model.unigrams) - 1:
            raise ValueError(
                "WordNGramScorer needs one word, written like no other, for each symbol of the model, but got "
                f"{len(words)} words, {len(set(words))} of them different, and {len(model.unigrams) - 1} symbols."
            )
        lexicon = Lexicon(words, separator=separator)
        word_at = np.full(len(lexicon.complete), -1, "int32")
        for number, word in enumerate(words):
            word_at[lexicon.state_after(word)] = number
        self._set(lexicon=lexicon, word_at=word_at, model=model, separator=separator, weight=weight, bonus=bonus)

    def initial_state(self, batch: int | Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Return the states of the lexicon and of the model, int32 `(batch,)` each."""
        return self.lexicon.initial_state(batch, classes), ops.full((batch,), self.model.begin, dtype="int32")

    def score(self, state: tuple[Tensor, Tensor], tokens: Tensor) -> Tensor:
        """Return the lexicon's scores, plus the score of the word where a separator ends it."""
        value, _ = self._word(state)
        ends = tokens == self.separator
        return self.lexicon.score(state[0], tokens) + ops.where(ends, value[:, None], 0.0)

    def advance(self, state: tuple[Tensor, Tensor], tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lexicon's next state, and the model's where a word ends."""
        _, context = self._word(state)
        context = ops.where(tokens == self.separator, context, state[1])
        return self.lexicon.advance(state[0], tokens), context

    def finish(self, state: tuple[Tensor, Tensor]) -> Tensor:
        """Return the score of the end, and of the last word if no separator has ended it."""
        value, context = self._word(state)
        end, _ = self.model.look_up(context, ops.full_like(context, len(self.model.unigrams) - 1))
        return self.lexicon.finish(state[0]) + value + self.weight * end

    def _word(self, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the score of the word that ends here and the context after it; 0 and the old one where none ends."""
        word = ops.take(self.word_at, state[0], axis=0)
        value, context = self.model.look_up(state[1], ops.maximum(word, 0))
        exists = word >= 0
        return ops.where(exists, self.weight * value + self.bonus, 0.0), ops.where(exists, context, state[1])
