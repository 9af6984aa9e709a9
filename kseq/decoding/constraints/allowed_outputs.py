"""A constraint to outputs from a list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.automata.trie import ROOT, Trie
from kseq.decoding.constraints.tokens import check_tokens, is_one_of
from kseq.decoding.decoding import LOG_ZERO, Constraint, Prefix
from kseq.numbers import ids


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, eq=False)
class AllowedOutputs(Constraint):
    """Allows only outputs from a list: the next token must lead to one of them, and only a whole output may end.

    The list becomes a trie of tables in the graph, with four numbers for each prefix of its outputs. The state of a
    hypothesis is the prefix that it has written. So a served model answers with a listed output or with nothing.

    Outputs that do not fit into `max_length`, end included, are left out: a token that leads only to such outputs is
    forbidden. So every hypothesis ends, with two exceptions: no output fits, or the prompt begins no listed output.
    Then all tokens are forbidden: a beam search has no hypothesis for the row, and the score of greedy search or a
    sample is -1e30 or below. The same happens where another constraint forbids the end, such as `MinimumLength` or
    `LastToken`: do not list outputs that they forbid.

    Args:
        outputs: Sequences of tokens, without bos and eos; an empty one is an empty output.

    Raises:
        ValueError: If there is no output; when decoding, if a token is outside the vocabulary or ends a hypothesis.

    Example:
        >>> words = AllowedOutputs([[7, 4, 9], [7, 5]])
        >>> beam_search(step, state, bos_id=1, eos_id=2, max_length=9, beam_width=2, constraints=(words,)).tokens[0, 0]
        [7, 5, 2, 0, 0, 0, 0, 0, 0]

    References:
        - E. Fredkin, "Trie memory", 1960.
        - N. De Cao, G. Izacard, S. Riedel, F. Petroni, "Autoregressive entity retrieval", 2021.
    """

    tokens: np.ndarray = field(repr=False)  # int32 (total,): the tokens of all outputs, concatenated
    lengths: np.ndarray = field(repr=False)  # int32 (count,)
    trie: Trie = field(repr=False)

    def __init__(self, outputs: Iterable[Sequence[int]]):
        if isinstance(outputs, str | bytes) or not isinstance(outputs, Iterable):
            raise ValueError(f"AllowedOutputs needs a list of outputs, each a sequence of ids, but got {outputs!r}.")
        listed = [ids("An output of AllowedOutputs", output) for output in outputs]
        if not listed:
            raise ValueError(
                "AllowedOutputs needs an output or several, but got none, so that nothing could be written."
            )
        self._set(np.concatenate(listed), np.array([len(output) for output in listed], "int32"))

    def _set(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
        for name, value in [("tokens", tokens), ("lengths", lengths), ("trie", Trie.of(tokens, lengths))]:
            object.__setattr__(self, name, value)

    def initial_state(self, batch: int | Tensor, vocabulary_size: int, max_length: int) -> Tensor:
        """Return the empty prefix, int32 `(batch,)`."""
        check_tokens("AllowedOutputs", map(int, np.unique(self.tokens)), vocabulary_size)
        return ops.full((batch,), ROOT, dtype="int32")

    def __call__(self, log_probabilities: Tensor, prefix: Prefix, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities, `LOG_ZERO` at tokens that lead to no listed output, and the nodes."""
        vocabulary = log_probabilities.shape[-1]
        self._check_ends(prefix)
        node = ops.where(prefix.length > 0, self._after(state, prefix.last), state)  # (rows,)
        left = prefix.tokens.shape[-1] - prefix.length
        known = ops.maximum(node, ROOT)
        allowed = self.trie.continuations(known, vocabulary, left - 1)  # one token is left for the end
        is_end = ops.convert_to_tensor(is_one_of(prefix.eos_ids, vocabulary))
        ends = ops.take(ops.convert_to_tensor(self.trie.terminal), known, axis=0)
        allowed = ops.where(is_end, ends[:, None], allowed)
        allowed = ops.logical_and(allowed, node[:, None] >= ROOT)
        return ops.where(allowed, log_probabilities, LOG_ZERO), node

    def _after(self, state: Tensor, token: Tensor) -> Tensor:
        """Return the nodes after one more token, int32 `(rows,)`; -1 for a prefix of no listed output."""
        arc, exists = self.trie.arcs.find(ops.maximum(state, ROOT), token)
        return ops.where(ops.logical_and(exists, state >= ROOT), ops.take(self.trie.arcs.ends, arc, axis=0), -1)

    def _check_ends(self, prefix: Prefix) -> None:
        ends = sorted(set(prefix.eos_ids) & set(np.unique(self.tokens).tolist()))
        if ends:
            raise ValueError(
                f"AllowedOutputs has outputs with the tokens {ends}, which end a hypothesis. Give them without: the "
                "end comes after each by itself."
            )

    def get_config(self) -> dict[str, Any]:
        """Return the outputs, concatenated, and their lengths."""
        config = {"tokens": self.tokens, "lengths": self.lengths}
        return {name: keras.saving.serialize_keras_object(value) for name, value in config.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return a constraint with the outputs of `get_config`."""
        made = object.__new__(cls)
        made._set(*(keras.saving.deserialize_keras_object(config[name]) for name in ("tokens", "lengths")))
        return made

    def __eq__(self, other: object) -> bool:
        """Return whether the outputs are the same, in the same order."""
        return isinstance(other, AllowedOutputs) and all(
            np.array_equal(getattr(self, name), getattr(other, name)) for name in ("tokens", "lengths")
        )

    def __hash__(self) -> int:
        return hash((self.tokens.tobytes(), self.lengths.tobytes()))
