"""Hot words: words that get a boost in the score of a text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.automata.trie import ROOT, build_trie
from kseq.decoding.ctc.scorer import LARGEST_GAIN, Scorer
from kseq.decoding.ctc.tables import Tables
from kseq.numbers import id_sequences, real


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, eq=False)
class HotWords(Tables, Scorer):
    """Adds a boost for every occurrence of words, such as names, in the text.

    A word earns its boost symbol by symbol, so that its beginning stays in the beam, and loses the boost again if it is
    not completed. In the end a text has the boosts of all occurrences, overlapping ones included. A word is any
    sequence of classes: with separators at its ends it is only found as a whole word.

    Args:
        words: The words, each a sequence of classes.
        boost: The gain of an occurrence, in nats, at most 50 for each class of the word; one number, or one for each
            word. A negative boost makes a word less probable.

    Raises:
        ValueError: If there is no word, one is empty, there are not as many boosts as words, or one of them is not
            finite or too large; when decoding, if a
            class is outside the logits'.

    Example:
        >>> names = HotWords([[11, 5, 18, 1, 19]], boost=4.0)
        >>> decoded = ctc_beam_search(logits, logit_lengths, scorers=(names,))

    Reference: A. Aho, M. Corasick, "Efficient string matching", 1975.
    """

    symbols: np.ndarray  # int32 (n,): the classes in the words, sorted
    moves: np.ndarray  # int32 (states * (n + 1),): the state after each of them, or after any other class
    gains: np.ndarray  # float32 (states * (n + 1),): the gain of each move
    pending: np.ndarray  # float32 (states,): the gain so far of a word that has begun

    def __init__(self, words: Iterable[Sequence[int]], *, boost: float | Sequence[float] = 2.0):
        words = id_sequences("HotWords", words, "word")
        boosts = _read_boosts(words, boost)
        if not words or not all(words) or min(map(min, words)) < 0 or len(boosts) != len(words):
            raise ValueError(
                f"HotWords needs words of one class or more, and one boost for all or one for each, but got {words} "
                f"and {len(boosts)} boosts."
            )
        for word, gain in zip(words, boosts, strict=True):
            if abs(gain) > LARGEST_GAIN * len(word):
                raise ValueError(
                    f"The boost {gain} of the word {word} must be between -{LARGEST_GAIN * len(word)} and "
                    f"{LARGEST_GAIN * len(word)} nats, {LARGEST_GAIN} for each of its {len(word)} classes: more would "
                    "write the word whatever the network says. Usual boosts are between 1 and 10."
                )
        trie, _ = build_trie(words)
        moves, rewards, pending = _automaton(trie, words, boosts)
        symbols = sorted({symbol for word in words for symbol in word})
        table = np.array([[move.get(symbol, ROOT) for symbol in symbols] + [ROOT] for move in moves], "int32")
        gains = (rewards + pending)[table] - pending[:, None]
        self._set(
            symbols=np.array(symbols, "int32"),
            moves=table.ravel(),
            gains=gains.ravel().astype("float32"),
            pending=pending.astype("float32"),
        )

    def initial_state(self, batch: int | Tensor, classes: int) -> Tensor:
        """Return the state before the first symbol, int32 `(batch,)`."""
        if self.symbols[-1] >= classes:
            raise ValueError(
                f"HotWords has a word with class {self.symbols[-1]}, but the logits have {classes} classes: they are "
                f"between 0 and {classes - 1}."
            )
        return ops.full((batch,), ROOT, dtype="int32")

    def score(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Return the boosts earned and lost."""
        return ops.take(self.gains, self._index(state[:, None], tokens), axis=0)

    def advance(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Follow the words."""
        return ops.take(self.moves, self._index(state, tokens), axis=0)

    def finish(self, state: Tensor) -> Tensor:
        """Return the loss of the gain of a word that has only begun."""
        return -ops.take(self.pending, state, axis=0)

    def _index(self, state: Tensor, tokens: Tensor) -> Tensor:
        count = len(self.symbols)
        table = np.full(self.symbols[-1] + 2, count, "int32")  # columns of the classes, and of any other
        table[self.symbols] = np.arange(count)
        column = ops.take(table, ops.minimum(tokens, len(table) - 1), axis=0)
        return state * (count + 1) + column


def _read_boosts(words: list[tuple], boost: Any) -> list[float]:
    """Return one boost for each word, given one for all or a sequence of them."""
    if isinstance(boost, Iterable) and not isinstance(boost, str | bytes) and getattr(boost, "shape", None) != ():
        return [real("boost", each) for each in boost]
    return [real("boost", boost)] * len(words)


def _automaton(
    trie: list[dict[int, int]], words: list[tuple], boosts: list[float]
) -> tuple[list[dict[int, int]], np.ndarray, np.ndarray]:
    """Return the moves `{symbol: state}` and, by state, the boosts of ended words and the gains of begun ones.

    Where no word goes on, the state has the moves of the longest suffix of its text that begins a word.
    """
    rewards, pending = np.zeros(len(trie)), np.zeros(len(trie))
    for word, boost in zip(words, boosts, strict=True):
        node = ROOT
        for place, symbol in enumerate(word, start=1):
            node = trie[node][symbol]
            if place < len(word) and abs(boost) * place / len(word) > abs(pending[node]):
                pending[node] = boost * place / len(word)
        rewards[node] += boost
    moves: list[dict[int, int]] = [dict(arcs) for arcs in trie]
    shorter = [ROOT] * len(trie)
    queue = list(trie[ROOT].values())
    for node in queue:  # nearest to the root first; the queue grows while it is read
        rewards[node] += rewards[shorter[node]]
        for symbol, child in trie[node].items():
            shorter[child] = moves[shorter[node]].get(symbol, ROOT)
            queue.append(child)
        moves[node] = {**moves[shorter[node]], **trie[node]}
    return moves, rewards, pending
