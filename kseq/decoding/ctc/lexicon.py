"""Lexicons: texts of words from a list only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.automata.arcs import Arcs
from kseq.decoding.automata.trie import ROOT, build_trie
from kseq.decoding.ctc.scorer import Scorer
from kseq.decoding.ctc.tables import Tables
from kseq.decoding.decoding import LOG_ZERO
from kseq.numbers import id_sequences, whole


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, eq=False)
class Lexicon(Tables, Scorer):
    """Allows only texts that consist of words from a list.

    Words are separated by one `separator`, which may also end the text; without a separator they follow each other
    directly. The end of the utterance must be the end of a word; an empty text is allowed, too. If no text of whole
    words is in the beam at the end, the answer has none: widen the beam.

    The words are stored as an automaton, whose arcs are the symbols that may come next.

    Args:
        words: The words, each a sequence of classes.
        separator: The class between words; None if words follow each other.

    Raises:
        ValueError: If there is no word, one is empty or holds the separator; when decoding, if a class is outside the
            logits'.

    Example:
        >>> lexicon = Lexicon([[3, 1, 20], [4, 15, 7]], separator=27)
        >>> decoded = ctc_beam_search(logits, logit_lengths, scorers=(lexicon,))
    """

    arcs: Arcs
    complete: np.ndarray  # float32 (states,): 0 where a text may end, LOG_ZERO elsewhere

    def __init__(self, words: Iterable[Sequence[int]], *, separator: int | None = None):
        words = id_sequences("Lexicon", words, "word")
        separator = None if separator is None else whole("separator", separator)
        if separator is not None and separator < 0:
            raise ValueError(f"separator must be a class, 0 or more, but got separator={separator}.")
        wrong = [word for word in words if not word or separator in word or min(word) < 0]
        if wrong or not words:
            raise ValueError(
                f"A Lexicon needs words of one class or more, without the separator, but got separator={separator} and "
                + (f"the word {wrong[0]}." if wrong else "no words.")
            )
        trie, terminal = build_trie(words)
        if separator is None:
            states, complete = _follow_each_other(trie, terminal)
        else:
            states = [{**arcs, separator: ROOT} if end else arcs for arcs, end in zip(trie, terminal, strict=True)]
            complete = [True, *terminal[1:]]
        self._set(arcs=Arcs.of(states), complete=np.where(complete, 0.0, LOG_ZERO).astype("float32"))

    def initial_state(self, batch: int | Tensor, classes: int) -> Tensor:
        """Return the state before the first word, int32 `(batch,)`."""
        highest = int(self.arcs.tokens.max())
        if highest >= classes:
            raise ValueError(
                f"The Lexicon has a word with class {highest}, but the logits have {classes} classes: they are between "
                f"0 and {classes - 1}."
            )
        return ops.full((batch,), ROOT, dtype="int32")

    def score(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Return 0 for symbols that may come next, `LOG_ZERO` for the others."""
        _, exists = self.arcs.find(ops.broadcast_to(state[:, None], ops.shape(tokens)), tokens)
        return ops.where(exists, 0.0, LOG_ZERO)

    def advance(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Follow the arcs."""
        arc, exists = self.arcs.find(state, tokens)
        return ops.where(exists, ops.take(self.arcs.ends, arc, axis=0), ROOT)

    def finish(self, state: Tensor) -> Tensor:
        """Return 0 at the end of a word, `LOG_ZERO` elsewhere."""
        return ops.take(self.complete, state, axis=0)

    def state_after(self, word: Sequence[int]) -> int:
        """Return the state after a word, from the start."""
        state = ROOT
        for symbol in word:
            arcs = slice(self.arcs.first[state], self.arcs.first[state + 1])
            state = int(self.arcs.ends[arcs][self.arcs.tokens[arcs].tolist().index(symbol)])
        return state


def _follow_each_other(trie: list[dict[int, int]], terminal: list[bool]) -> tuple[list[dict[int, int]], list[bool]]:
    """Return the deterministic automaton of words without a separator: a state is a set of nodes of the trie."""
    start = frozenset([ROOT])
    number, pending = {start: ROOT}, [start]
    states: list[dict[int, int]] = []
    complete = []
    while len(states) < len(pending):
        nodes = pending[len(states)]
        arcs: dict[int, set[int]] = {}
        for node in nodes:
            for symbol, child in trie[node].items():
                arcs.setdefault(symbol, set()).update({child, ROOT} if terminal[child] else {child})
        states.append({})
        complete.append(ROOT in nodes)
        for symbol, children in arcs.items():
            target = frozenset(children)
            if target not in number:
                number[target] = len(number)
                pending.append(target)
            states[-1][symbol] = number[target]
    return states, complete
