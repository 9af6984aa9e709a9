"""Tries of many sequences as tables, built without a Python object for each node."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from kseq.backend import Tensor, while_loop
from kseq.decoding.automata.arcs import Arcs

ROOT = 0
CHUNK = 128  # arcs that are looked at together: few nodes have more


class Trie(NamedTuple):
    """A trie: its nodes are the prefixes of sequences, numbered by length from the root.

    Attributes:
        arcs: The arcs from each node to those that are one token longer.
        terminal: bool `(nodes,)`, whether a sequence ends there.
        to_end: int32 `(nodes,)`, the number of tokens to the nearest end of a sequence.
    """

    arcs: Arcs
    terminal: np.ndarray
    to_end: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray, lengths: np.ndarray) -> "Trie":
        """Return the trie of sequences of `lengths`, int `(count,)`, concatenated in `tokens`, int `(total,)`."""
        table = _sorted_table(tokens, lengths)  # (count, longest)
        if not table.shape[1]:  # all sequences are empty
            table = np.full((len(table), 1), -1, table.dtype)
        real = table >= 0
        # From the first token in which a row differs from the one before, its prefixes are new nodes.
        differs = np.ones_like(real)
        differs[1:] = np.cumsum(table[1:] != table[:-1], axis=1) > 0
        new = differs & real
        sizes = new.sum(axis=0)
        first = np.cumsum([1, *sizes])  # of each length; the root is before them
        nodes = np.cumsum(new, axis=0) - 1 + first[:-1]  # (count, longest): the node of each prefix, where it is real
        parents = np.concatenate([np.zeros((len(table), 1), nodes.dtype), nodes], axis=1)[:, :-1]
        order = new.T  # by length, then by row: the order of the nodes
        parent, token = parents.T[order], table.T[order]
        count = int(first[-1])
        terminal = np.zeros(count, "bool")
        length = real.sum(axis=1)
        terminal[np.where(length > 0, nodes[np.arange(len(table)), length - 1], ROOT)] = True
        arcs = Arcs(
            first=np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=count))]).astype("int32"),
            tokens=np.append(token, -1).astype("int32"),
            ends=np.append(np.arange(1, count), ROOT).astype("int32"),
        )
        return cls(arcs, terminal, _to_end(parent, terminal, first))

    def continuations(self, node: Tensor, vocabulary_size: int, room: Tensor) -> Tensor:
        """Return the tokens that lead from a node to an end that is near enough, bool `(rows, vocabulary)`.

        The arcs of each node are read in chunks, and their tokens marked. Searching the arcs for every token of the
        vocabulary takes 50 times as long with 8,000 tokens.

        Args:
            node: int32 `(rows,)`.
            vocabulary_size: The number of tokens.
            room: int32 scalar, the most tokens up to the end, that of the arc included.
        """
        rows, none = ops.shape(node)[0], len(self.arcs.ends) - 1
        first, tokens = ops.convert_to_tensor(self.arcs.first), ops.convert_to_tensor(self.arcs.tokens)
        to_end = np.append(self.to_end[self.arcs.ends[:-1]] + 1, np.iinfo("int32").max)  # from before each arc
        needed = ops.convert_to_tensor(to_end.astype("int32"))
        chunk = min(CHUNK, max(int(np.diff(self.arcs.first).max()), 1))
        begin, end = ops.take(first, node, axis=0), ops.take(first, node + 1, axis=0)
        most = ops.max(end - begin, initial=0)
        row = ops.arange(rows, dtype="int32")[:, None] * vocabulary_size
        trash = rows * vocabulary_size  # the index for arcs that must not be marked

        def mark(state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            done, marked = state
            arc = begin[:, None] + done + ops.arange(chunk, dtype="int32")  # (rows, chunk)
            arc = ops.where(arc < end[:, None], arc, none)
            place = ops.where(ops.take(needed, arc, axis=0) <= room, row + ops.take(tokens, arc, axis=0), trash)
            place = ops.reshape(place, (-1, 1))
            return done + chunk, ops.scatter_update(marked, place, ops.ones_like(place[:, 0], dtype="bool"))

        start = ops.zeros((), dtype="int32"), ops.zeros((trash + 1,), dtype="bool")
        _, marked = while_loop(lambda state: state[0] < most, mark, start)
        return ops.reshape(marked[:-1], (rows, vocabulary_size))


def build_trie(words: Iterable[Sequence[int]]) -> tuple[list[dict[int, int]], list[bool]]:
    """Return the nodes of a trie as `{symbol: node}`, the root first, and whether a word ends at each."""
    nodes: list[dict[int, int]] = [{}]
    terminal = [False]
    for word in words:
        node = ROOT
        for symbol in word:
            if symbol not in nodes[node]:
                nodes[node][symbol] = len(nodes)
                nodes.append({})
                terminal.append(False)
            node = nodes[node][symbol]
        terminal[node] = True
    return nodes, terminal


def _sorted_table(tokens: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the sequences, sorted, int `(count, longest)`, -1 after their ends."""
    longest = int(lengths.max(initial=0))
    table = np.full((len(lengths), longest), -1, "int32")
    table[np.arange(longest) < lengths[:, None]] = tokens
    return table[np.lexsort(table.T[::-1])] if longest else table


def _to_end(parent: np.ndarray, terminal: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the distance of each node from the nearest end, computed from the longest prefixes to the root."""
    distance = np.where(terminal, 0, np.iinfo("int32").max - 1).astype("int32")
    for begin, end in zip(first[-2::-1], first[:0:-1], strict=True):
        np.minimum.at(distance, parent[begin - 1 : end - 1], distance[begin:end] + 1)
    return distance
