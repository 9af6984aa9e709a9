"""The beam of CTC prefix beam search, and its step from frame to frame.

A prefix has two log-probabilities, summed over its alignments so far: one of those that end in a blank, and one of
those that end in its last symbol. In a frame every prefix

- stays as it is, by a blank or by its last symbol again; alignments of its parent that write its last symbol in this
  frame are added to it, if the parent is in the beam;
- is extended by one more symbol, unless the extension is in the beam already.

The best of all these are the next beam. Prefixes are compared by a hash of 64 bits, so that a prefix that was dropped
and comes back is still recognised as the parent of those that begin with it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.ctc.scorer import Scorer
from kseq.decoding.decoding import LOG_ZERO, Nest
from kseq.decoding.hypotheses import NO_HYPOTHESIS

Hash = tuple[Tensor, Tensor]  # of a prefix: two independent int32

MULTIPLIERS = (-1640531527, 668265263)  # odd: from the golden ratio, and a prime, as int32
STEPS = (374761393, -2048144777)
ROOT, NO_PARENT = (17, 23), (-1, -2)
NOBODY, NOBODYS_CHILD = (-3, -4), (-5, -6)  # of a place that holds no prefix: it matches no parent and no child


class Beam(NamedTuple):
    """The prefixes of the beam, best first; `LOG_ZERO` where there is none.

    Attributes:
        blank: float32 `(batch, beam)`, the log-probability of the alignments that end in a blank.
        symbol: float32 `(batch, beam)`, that of the alignments that end in the last symbol.
        last: int32 `(batch, beam)`, the last symbol; -1 of the empty prefix.
        name: Two int32 `(batch, beam)`, the prefix's hash.
        parent: Two int32 `(batch, beam)`, the hash of the prefix without its last symbol.
        bonus: float32 `(batch, beam)`, the sum of the scorers' scores.
        states: The scorers' states, each a nest of tensors `(batch * beam, ...)`.
    """

    blank: Tensor
    symbol: Tensor
    last: Tensor
    name: Hash
    parent: Hash
    bonus: Tensor
    states: tuple


class Frame(NamedTuple):
    """A frame, as the search reads it.

    Attributes:
        real: bool `(batch,)`; a padded frame changes nothing.
        blank: float32 `(batch,)`, the blank's log-probability.
        values: float32 `(batch, n)`, the log-probabilities of the symbols that may extend a prefix, highest first.
        symbols: int32 `(batch, n)`, these symbols.
        start: int32 `(batch,)`, the index of the frame's first class in the flattened logits.
        normalizer: float32 `(batch,)`, the logarithm of the sum of the exponentials of the frame's logits.
    """

    real: Tensor
    blank: Tensor
    values: Tensor
    symbols: Tensor
    start: Tensor
    normalizer: Tensor


class Kept(NamedTuple):
    """The unchanged prefixes of the beam after a frame; all `(batch, beam)`.

    Attributes:
        blank: float32, as in `Beam`.
        symbol: float32, as in `Beam`.
        parent_place: int32, the place of the parent in the beam; -1 if it is not there.
        entered: bool, whether the alignments that come from the parent in this frame are the more probable ones.
    """

    blank: Tensor
    symbol: Tensor
    parent_place: Tensor
    entered: Tensor


class Extensions(NamedTuple):
    """The extensions of the beam's prefixes by one symbol.

    Attributes:
        totals: float32 `(batch, pairs)`, log-probabilities; `LOG_ZERO` for extensions that are in the beam already.
        bonus: float32 `(batch, pairs)`, the sums of the scorers' scores; () without scorers.
    """

    totals: Tensor
    bonus: Nest


@dataclass(frozen=True)
class PrefixBeam:
    """The step of a prefix beam search.

    Attributes:
        beam_width: The number of prefixes.
        classes: The number of classes, the blank included.
        symbols: How many symbols of a frame may extend a prefix.
        scorers: Scorers of prefixes beside the network.
    """

    beam_width: int
    classes: int
    symbols: int
    scorers: tuple[Scorer, ...] = ()

    def blocks(self) -> list[tuple[int, int, int]]:
        """Return which prefixes may be extended by which symbols, by rank, as `(prefixes, first symbol, end)`.

        Without scorers the extensions of a prefix have the order of the frame's symbols, except for the repetition of
        its last symbol. So the extension of prefix i by symbol c, both counted from 0, ranks behind the extensions of
        i + 1 prefixes by c symbols. Each prefix repeats at most one of these symbols, which leaves at least
        (i + 1) * c - 1 better ones, besides the prefixes themselves. If these fill the beam, (i + 1) * c > beam_width,
        the extension need not be computed.
        """
        if self.scorers:
            return [(self.beam_width, 0, self.symbols)]
        blocks, first = [], 0
        while first < self.symbols and first <= self.beam_width:
            end = min(max(2 * first, 2), self.symbols)
            blocks.append((self.beam_width // max(first, 1), first, end))
            first = end
        return blocks

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return prefix and symbol of every candidate, int32 `(beam + pairs,)` each; unchanged prefixes first."""
        prefixes: list[np.ndarray] = [np.arange(self.beam_width)]
        symbols: list[np.ndarray] = [np.zeros(self.beam_width)]
        for count, first, end in self.blocks():
            prefixes.append(np.repeat(np.arange(count), end - first))
            symbols.append(np.tile(np.arange(first, end), count))
        return np.concatenate(prefixes).astype("int32"), np.concatenate(symbols).astype("int32")

    def strides(self) -> np.ndarray:
        """Return the first index, the distance and the number of the extensions by each symbol, by its rank.

        int32 `(3, symbols + 1)`; the last column is for symbols that are not ranked.
        """
        table = np.zeros((3, self.symbols + 1), "int32")
        begin = 0
        for count, first, end in self.blocks():
            table[0, first:end] = np.arange(begin, begin + end - first)
            table[1:, first:end] = [[end - first], [count]]
            begin += count * (end - first)
        return table

    def start(self, batch: int | Tensor) -> Beam:
        """Return the beam before the first frame: the empty prefix, as after a blank."""
        shape = (batch, self.beam_width)
        first = ops.broadcast_to(ops.arange(self.beam_width) == 0, shape)

        def fill(empty: float, none: float, dtype: str) -> Tensor:
            return ops.where(first, ops.cast(empty, dtype), ops.cast(none, dtype))

        states = tuple(scorer.initial_state(batch, self.classes) for scorer in self.scorers)
        return Beam(
            blank=fill(0.0, LOG_ZERO, "float32"),
            symbol=ops.full(shape, LOG_ZERO, dtype="float32"),
            last=ops.full(shape, -1, dtype="int32"),
            name=(fill(ROOT[0], NOBODY[0], "int32"), fill(ROOT[1], NOBODY[1], "int32")),
            parent=(
                fill(NO_PARENT[0], NOBODYS_CHILD[0], "int32"),
                fill(NO_PARENT[1], NOBODYS_CHILD[1], "int32"),
            ),
            bonus=ops.zeros(shape, dtype="float32"),
            states=keras.tree.map_structure(lambda x: ops.repeat(x, self.beam_width, axis=0), states),
        )

    def advance(self, logits: Tensor, beam: Beam, frame: Frame) -> tuple[Beam, Tensor]:
        """Return the beam after a frame, and the origins of its prefixes.

        Args:
            logits: `(batch * time * classes,)`, all logits, flattened.
            beam: The beam before the frame.
            frame: The frame.

        Returns:
            `(beam, origins)`: origins int32 `(batch, beam)` are `place * (classes + 1) + written`: the place in the
            old beam, and the symbol written in this frame, counted from 1; 0 for none.
        """
        kept = self._keep(logits, beam, frame)
        extensions = self._extend(beam, kept, frame)
        totals = ops.concatenate([log_add(kept.blank, kept.symbol), extensions.totals], axis=1)
        bonus = ()
        if self.scorers:
            bonus = ops.concatenate([beam.bonus, extensions.bonus], axis=1)
        scores, index = ops.top_k(totals + bonus if self.scorers else totals, self.beam_width)  # (batch, beam)
        return self._choose(beam, frame, kept, totals, bonus, scores, ops.cast(index, "int32"))

    def _keep(self, logits: Tensor, beam: Beam, frame: Frame) -> Kept:
        """Return the prefixes that stay as they are, with the alignments that this frame adds to them."""
        total = log_add(beam.blank, beam.symbol)
        # The log-probability of the last symbol; the empty prefix has none and repeats nothing.
        own = ops.cast(look_up(logits, frame.start[:, None] + ops.maximum(beam.last, 0)), "float32")
        own = ops.maximum(own - frame.normalizer[:, None], LOG_ZERO)
        place = self._parents(beam)
        # A symbol that comes twice needs a blank between its occurrences.
        last, parent_blank, parent_total = (pick(x, ops.maximum(place, 0)) for x in (beam.last, beam.blank, total))
        before = ops.where(place < 0, LOG_ZERO, ops.where(last == beam.last, parent_blank, parent_total))
        real = frame.real[:, None]
        blank, again, anew = total + frame.blank[:, None], beam.symbol + own, before + own
        return Kept(
            blank=ops.where(real, blank, beam.blank),
            symbol=ops.where(real, log_add(again, anew), beam.symbol),
            parent_place=place,
            entered=ops.logical_and(real, anew > log_add(blank, again)),
        )

    def _parents(self, beam: Beam) -> Tensor:
        """Return the place of each prefix's parent in the beam, int32 `(batch, beam)`; -1 if it is not there."""
        # By bits, as XLA does not vectorise the conjunction of two comparisons.
        one, other = (
            ops.bitwise_xor(name[:, :, None], parent[:, None])
            for name, parent in zip(beam.name, beam.parent, strict=True)
        )
        is_parent = ops.bitwise_or(one, other) == 0  # (batch, parent, child)
        place = ops.arange(self.beam_width, dtype="int32")[None, :, None]
        return ops.max(ops.where(is_parent, place, -1), axis=1, initial=-1)

    def _extend(self, beam: Beam, kept: Kept, frame: Frame) -> Extensions:
        """Extend prefixes by symbols, block by block."""
        total = log_add(beam.blank, beam.symbol)
        totals = []
        for count, first, end in self.blocks():
            repeats = beam.last[:, :count, None] == frame.symbols[:, None, first:end]
            before = ops.where(repeats, beam.blank[:, :count, None], total[:, :count, None])
            values = before + frame.values[:, None, first:end]  # (batch, count, end - first)
            totals.append(ops.reshape(values, (ops.shape(values)[0], count * (end - first))))
        totals = ops.concatenate(totals, axis=1)
        return Extensions(totals + self._born(beam, kept, frame), self._bonus(beam, frame))

    def _born(self, beam: Beam, kept: Kept, frame: Frame) -> Tensor:
        """Return `LOG_ZERO` for the extensions that are in the beam already, float32 `(batch, pairs)`; 0 elsewhere."""
        # A prefix's index among the extensions follows from its parent's place and its last symbol's rank.
        rank = ops.arange(-self.symbols, 0, dtype="int32")[None, :, None]
        is_last = frame.symbols[:, :, None] == beam.last[:, None]  # (batch, symbols, beam)
        rank = ops.sum(ops.where(is_last, rank, 0), axis=1) + self.symbols  # (batch, beam)
        first, stride, count = (ops.take(table, rank, axis=0) for table in self.strides())
        pairs = len(self.places()[0]) - self.beam_width
        listed = ops.logical_and(kept.parent_place >= 0, kept.parent_place < count)
        place = ops.where(
            listed, first + kept.parent_place * stride, pairs
        )  # the others go to a column that is cut off
        batch = ops.shape(place)[0]
        place = place + ops.arange(batch, dtype="int32")[:, None] * (pairs + 1)
        forbidden = ops.full((batch * self.beam_width,), LOG_ZERO, dtype="float32")
        table = ops.scatter(ops.reshape(place, (batch * self.beam_width, 1)), forbidden, (batch * (pairs + 1),))
        return ops.reshape(table, (batch, pairs + 1))[:, :pairs]

    def _bonus(self, beam: Beam, frame: Frame) -> Nest:
        """Return the sums of the scorers' scores after one more symbol, `(batch, pairs)`."""
        if not self.scorers:
            return ()
        batch, symbols = ops.shape(frame.symbols)
        tokens = ops.repeat(frame.symbols, self.beam_width, axis=0)  # (batch * beam, symbols)
        bonus = beam.bonus[:, :, None]
        for scorer, state in zip(self.scorers, beam.states, strict=True):
            bonus = bonus + ops.reshape(scorer.score(state, tokens), (batch, self.beam_width, symbols))
        return ops.reshape(bonus, (batch, self.beam_width * symbols))

    def _choose(
        self, beam: Beam, frame: Frame, kept: Kept, totals: Tensor, bonus: Nest, scores: Tensor, index: Tensor
    ) -> tuple[Beam, Tensor]:
        """Return the beam of the candidates `index`, int32 `(batch, beam)`."""
        prefix, rank = (ops.take(table, index) for table in self.places())
        extended = index >= self.beam_width
        symbol = pick(frame.symbols, rank)
        exists = scores > NO_HYPOTHESIS
        last, parent_place, entered = (pick(x, prefix) for x in (beam.last, kept.parent_place, kept.entered))
        name, parent = (tuple(pick(x, prefix) for x in names) for names in (beam.name, beam.parent))
        longer = tuple(mix(x * a + (symbol + 1) * b) for x, a, b in zip(name, MULTIPLIERS, STEPS, strict=True))

        def by(kept: Tensor, new: Tensor, none: int) -> Tensor:
            return ops.where(exists, ops.where(extended, new, kept), none)

        place = ops.where(ops.logical_and(entered, ops.logical_not(extended)), parent_place, prefix)
        written = ops.where(extended, symbol, ops.where(entered, last, -1)) + 1
        new = Beam(
            blank=ops.where(extended, LOG_ZERO, pick(kept.blank, prefix)),
            symbol=ops.where(extended, pick(totals, index), pick(kept.symbol, prefix)),
            last=ops.where(extended, symbol, last),
            name=(by(name[0], longer[0], NOBODY[0]), by(name[1], longer[1], NOBODY[1])),
            parent=(by(parent[0], name[0], NOBODYS_CHILD[0]), by(parent[1], name[1], NOBODYS_CHILD[1])),
            bonus=pick(bonus, index) if self.scorers else beam.bonus,
            states=self._advance_scorers(beam.states, prefix, extended, symbol),
        )
        return new, place * (self.classes + 1) + written

    def _advance_scorers(self, states: tuple, prefix: Tensor, extended: Tensor, symbol: Tensor) -> tuple:
        """Return the scorers' states of the chosen prefixes; unchanged prefixes keep theirs."""
        if not self.scorers:
            return ()
        batch, beam = ops.shape(prefix)
        rows = ops.reshape(ops.arange(batch, dtype="int32")[:, None] * beam + prefix, (batch * beam,))
        extended = ops.reshape(extended, (batch * beam,))
        tokens = ops.reshape(ops.where(extended, ops.reshape(symbol, (batch * beam,)), 0), (batch * beam,))
        new = []
        for scorer, state in zip(self.scorers, states, strict=True):
            state = keras.tree.map_structure(lambda x: ops.take(x, rows, axis=0), state)
            advanced = keras.tree.pack_sequence_as(state, keras.tree.flatten(scorer.advance(state, tokens)))
            new.append(keras.tree.map_structure(lambda a, b: where_rows(extended, a, b), advanced, state))
        return tuple(new)


def log_add(a: Tensor, b: Tensor) -> Tensor:
    """Return log(exp(a) + exp(b)), for finite `a` and `b`."""
    return ops.maximum(a, b) + ops.log1p(ops.exp(-ops.abs(a - b)))


def mix(x: Tensor) -> Tensor:
    """Return int32 with the upper bits mixed into the lower ones, which a product does not do."""
    return ops.bitwise_xor(x, ops.right_shift(x, 15))


def pick(x: Tensor, index: Tensor) -> Tensor:
    """Return `x[row, index[row, i]]`, `(batch, m)`, of `x` `(batch, n)` and `index`, int32 `(batch, m)`."""
    batch, n = ops.shape(x)
    return look_up(ops.reshape(x, (-1,)), ops.arange(batch, dtype="int32")[:, None] * n + index)


def look_up(values: Tensor, index: Tensor) -> Tensor:
    """Return `values[index]` of a vector, in the shape of `index`, which JAX loses for an empty batch."""
    return ops.reshape(ops.take(values, index, axis=0), ops.shape(index))


def where_rows(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return rows of `a` where `condition`, bool `(rows,)`, and of `b` elsewhere."""
    return ops.where(ops.reshape(condition, (-1, *([1] * (len(a.shape) - 1)))), a, b)
