"""A constraint that requires phrases."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.automata.phrase_automaton import PhraseAutomaton
from kseq.decoding.constraints.tokens import check_tokens, is_one_of
from kseq.decoding.decoding import LOG_ZERO, Constraint, Prefix
from kseq.numbers import id_sequences

MOST_PHRASES = 10  # the states include the set of written phrases, so the tables double with each phrase


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class RequiredPhrases(Constraint):
    """Makes every hypothesis contain all of the phrases, in any order, overlapping or not.

    An end is forbidden before all phrases are written, and so is a token that leaves too little room before
    `max_length` for the missing phrases. So hypotheses that end and those that are cut at `max_length` contain all
    phrases; nothing else is forbidden. If a prompt leaves too little room, the hypotheses of its row are cut at
    `max_length` and not finished. With `LastToken` the phrases come before the places that it fills.

    The phrases come where the model finds them probable, or else as late as possible. The beam is not divided by the
    number of phrases written, so a narrow one may hold no hypothesis that wrote them early.

    Attributes:
        phrases: Sequences of tokens, at most 10.

    Raises:
        ValueError: If there is no phrase, one is empty, or there are more than 10; when decoding, if a token is outside
            the vocabulary or ends a hypothesis, or if the phrases together do not fit into `max_length` minus the
            places that `LastToken` fills.

    Example:
        >>> names = RequiredPhrases([[7, 4], [9]])
        >>> beam_search(step, state, bos_id=1, eos_id=2, max_length=5, constraints=(names,)).tokens[0, 0]
        [9, 7, 4, 2, 0]

    References:
        - C. Hokamp, Q. Liu, "Lexically constrained decoding for sequence generation using grid beam search", 2017.
        - A. Aho, M. Corasick, "Efficient string matching", 1975.
    """

    phrases: tuple[tuple[int, ...], ...] = field()

    def __init__(self, phrases: Sequence[Sequence[int]]):
        made = tuple(id_sequences("RequiredPhrases", phrases, "phrase"))
        if not made or not all(made) or len(made) > MOST_PHRASES:
            raise ValueError(
                f"RequiredPhrases needs 1 to {MOST_PHRASES} phrases of one token or more, but got {len(made)}, of the "
                f"lengths {[len(phrase) for phrase in made]}."
            )
        object.__setattr__(self, "phrases", made)

    @cached_property
    def _automaton(self) -> PhraseAutomaton:
        return PhraseAutomaton.of(self.phrases)

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Tensor:
        """Return the automaton's state before the first token, int32 `(batch,)`."""
        check_tokens("RequiredPhrases", (token for phrase in self.phrases for token in phrase), vocabulary_size)
        self._check_room(max_length, 0)
        return ops.zeros((batch,), dtype="int32")

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities, `LOG_ZERO` at ends that come too early and tokens that leave no room."""
        automaton, vocabulary = self._automaton, log_probabilities.shape[-1]
        ends = sorted({token for phrase in self.phrases for token in phrase} & set(prefix.eos_ids))
        if ends:
            raise ValueError(f"RequiredPhrases has phrases with the tokens {ends}, which end a hypothesis.")
        self._check_room(prefix.tokens.shape[-1], prefix.reserved)
        state = ops.where(prefix.length > 0, automaton.after(state, prefix.last, vocabulary), state)  # (rows,)
        left = prefix.tokens.shape[-1] - prefix.reserved - prefix.length
        missing = ops.take(automaton.missing, state, axis=0)[:, None]
        missing_after = ops.take(automaton.missing, automaton.moves_from(state), axis=0)  # (rows, columns)
        no_room = ops.logical_and(missing_after > ops.maximum(left - 1, 0), missing <= left)
        no_room = ops.take(no_room, automaton.columns(vocabulary), axis=1)  # (rows, vocabulary)
        is_end = ops.convert_to_tensor(is_one_of(prefix.eos_ids, vocabulary))
        forbidden = ops.where(is_end, missing > 0, no_room)
        return ops.where(forbidden, LOG_ZERO, log_probabilities), state

    def _check_room(self, max_length: int, reserved: int) -> None:
        needed = int(self._automaton.missing[0])
        if needed > max_length - reserved:
            last = f", of which LastToken fills the last {reserved}" if reserved else ""
            raise ValueError(
                f"The phrases take {needed} tokens or more, but max_length={max_length}{last}. Raise max_length."
            )
