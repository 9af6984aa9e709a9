"""Automata that follow which of several phrases a text contains, as tables."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.automata.trie import ROOT, build_trie

Phrases = Sequence[tuple[int, ...]]


class PhraseAutomaton(NamedTuple):
    """An automaton whose state is the longest suffix of the text that begins a phrase, and the set of written phrases.

    Attributes:
        tokens: int32 `(n,)`, the phrases' tokens, ascending.
        moves: int32 `(states, n + 1)`, the state after each of them, or after any other token.
        missing: int32 `(states,)`, the fewest further tokens by which all phrases are written.
    """

    tokens: np.ndarray
    moves: np.ndarray
    missing: np.ndarray

    @classmethod
    def of(cls, phrases: Phrases) -> "PhraseAutomaton":
        """Return the automaton; its first state is the empty text."""
        tokens = np.unique([token for phrase in phrases for token in phrase]).astype("int32")
        goto, found = _ends_of_text(phrases, tokens.tolist())
        numbers, pending, moves = {(ROOT, 0): 0}, [(ROOT, 0)], []
        for node, written in pending:  # the list grows while it is read
            after = [(int(end), written | found[end]) for end in goto[node]]
            for state in after:
                if state not in numbers:
                    numbers[state] = len(numbers)
                    pending.append(state)
            moves.append([numbers[state] for state in after])
        table = np.array(moves, "int32")
        whole = np.array([written == 2 ** len(phrases) - 1 for _, written in pending])
        return cls(tokens, table, _missing(table, whole))

    def columns(self, vocabulary_size: int) -> np.ndarray:
        """Return the column of `moves` for each token of the vocabulary, int32."""
        columns = np.full(vocabulary_size, len(self.tokens), "int32")
        columns[self.tokens] = np.arange(len(self.tokens))
        return columns

    def moves_from(self, state: Tensor) -> Tensor:
        """Return the states after each token, int32 `(rows, n + 1)`."""
        return ops.take(self.moves, state, axis=0)

    def after(self, state: Tensor, token: Tensor, vocabulary_size: int) -> Tensor:
        """Return the states after one more token, int32 `(rows,)`; bos and pad count as any other token."""
        inside = ops.logical_and(token >= 0, token < vocabulary_size)
        column = ops.take(self.columns(vocabulary_size), ops.where(inside, token, 0), axis=0)
        column = ops.where(inside, column, len(self.tokens))
        return ops.take(self.moves.ravel(), state * self.moves.shape[1] + column, axis=0)


def _ends_of_text(phrases: Phrases, tokens: list[int]) -> tuple[np.ndarray, list[int]]:
    """Return the moves of Aho and Corasick's automaton, and the phrases that each of its states completes, as bits.

    A state is the longest suffix of the text that begins a phrase. Where no phrase continues it by a token, the next
    shorter such suffix is tried.
    """
    trie, _ = build_trie(phrases)
    found = [0] * len(trie)
    for number, phrase in enumerate(phrases):
        node = ROOT
        for token in phrase:
            node = trie[node][token]
        found[node] |= 1 << number
    goto = np.full((len(trie), len(tokens) + 1), ROOT, "int32")
    shorter, queue = [ROOT] * len(trie), [ROOT]
    for node in queue:  # nearest to the root first; the list grows while it is read
        found[node] |= found[shorter[node]]
        for column, token in enumerate(tokens):
            fallback = goto[shorter[node], column] if node != ROOT else ROOT
            child = trie[node].get(token)
            if child is not None:
                shorter[child] = int(fallback)
                queue.append(child)
            goto[node, column] = fallback if child is None else child
    return goto, found


def _missing(moves: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return the number of moves from each state to the nearest one in which all phrases are written."""
    missing = np.where(whole, 0, np.iinfo("int32").max - 1)
    while True:
        nearer = np.minimum(missing, missing[moves].min(axis=1) + 1)
        if (nearer == missing).all():
            return missing.astype("int32")
        missing = nearer
