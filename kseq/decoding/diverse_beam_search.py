"""Diverse beam search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import Decoded, Nest
from kseq.decoding.hypotheses import NO_HYPOTHESIS, Selected, best_continuations
from kseq.decoding.ranked_search import RankedSearch
from kseq.decoding.strategy import takes_options_of


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, kw_only=True)
class DiverseBeamSearch(RankedSearch):
    """Diverse beam search as an object: `diverse_beam_search` with its options, which are explained there.

    Raises:
        ValueError: If an option is out of range, or `num_groups` does not divide `beam_width`.

    Example:
        >>> strategy = DiverseBeamSearch(beam_width=6, num_groups=3, top_paths=6)
        >>> decoded = strategy(step, state, bos_id=1, eos_id=2, max_length=9)
    """

    num_groups: int = 2
    diversity_strength: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_groups < 1 or self.beam_width % self.num_groups:
            raise ValueError(
                f"num_groups must divide beam_width, but got num_groups={self.num_groups} and "
                f"beam_width={self.beam_width}."
            )
        if self.diversity_strength < 0:
            raise ValueError(
                f"diversity_strength must be 0 or more, but got diversity_strength={self.diversity_strength}."
            )

    @property
    def groups(self) -> int:
        """The number of groups."""
        return self.num_groups

    def continuations(self, totals: Tensor, eos_ids: tuple[int, ...]) -> Selected:
        """Select group by group, each penalised for the tokens of those before it."""
        searches, beam, vocabulary = ops.shape(totals)
        by_row = ops.reshape(totals, (searches // self.groups, self.groups, beam, vocabulary))
        written = ops.zeros((searches // self.groups, vocabulary), dtype="float32")  # counts at this step
        selected = []
        for group in range(self.groups):
            own = by_row[:, group]  # (batch, beam, vocabulary)
            each = best_continuations(own - self.diversity_strength * written[:, None], own, eos_ids)
            selected.append(each)
            written = written + _written(each, vocabulary, eos_ids)
        joined = (ops.stack(parts, axis=1) for parts in zip(*selected, strict=True))  # (batch, groups, ...)
        return Selected(*(ops.reshape(x, (searches, x.shape[2])) for x in joined))


@takes_options_of(DiverseBeamSearch)
def diverse_beam_search(step: Callable, state: Nest, **options: Any) -> Decoded:
    """Search in groups that avoid the tokens of the others, and return the best hypotheses of all groups.

    The beam is `num_groups` beams of `beam_width / num_groups` hypotheses. At every step they choose their
    continuations one after the other, by the sums of log-probabilities less `diversity_strength` times how many
    hypotheses of the groups before have just chosen the same token at this step, ends included (Hamming diversity). So
    the first group is a beam search of its own, and with `diversity_strength=0` all groups are the same one.

    The penalty only decides which continuations a group takes: sums, scores and ranks are the model's own, as explained
    in `beam_search`. Each group has its own list of hypotheses that ended. The groups of a row go on together, until
    none of them can change the answer.

    Args:
        step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments])`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        beam_width: How many hypotheses are followed, in all groups together.
        num_groups: How many groups; a divisor of `beam_width`.
        diversity_strength: The cost of each hypothesis of an earlier group that chose the same token, in nats.
        top_paths: How many hypotheses are returned, of all groups together; two groups may have found the same one.
        length_penalty: As in `beam_search`.
        length_penalty_kind: As in `beam_search`.
        coverage_penalty: As in `beam_search`.
        early_stopping: As in `beam_search`.
        patience: As in `beam_search`, of all groups together.
        score_margin: As in `beam_search`, each group being pruned by its own best live hypothesis.
        min_length: The fewest tokens of a hypothesis, eos and the prompt included.
        constraints: Constraints on the tokens, applied in this order.
        **options: `bos_id`, `eos_id`, `max_length`, and the other options of `Strategy.__call__`.

    Returns:
        `Decoded` with `top_paths` hypotheses per row, best first. Where there are fewer, the rest has length 0 and
        score -1e30.

    Raises:
        ValueError: As `beam_search`, and if `num_groups` does not divide `beam_width`.

    Example:
        >>> table = ops.log(np.array([[0, 0.6, 0.4, 0], [0, 0.3, 0.3, 0.4], [0, 0, 0, 1], [0, 0, 0, 1]]) + 1e-9)
        >>> step = lambda tokens, state: (ops.take(table, tokens, axis=0), state)
        >>> options = {"beam_width": 2, "top_paths": 2, "diversity_strength": 1.0}
        >>> diverse_beam_search(step, np.zeros((1, 1)), bos_id=0, eos_id=3, max_length=4, **options).tokens
        [[[2, 3, 0, 0], [1, 3, 0, 0]]]

    Reference: A. Vijayakumar et al., "Diverse beam search: decoding diverse solutions from neural sequence models",
    2016.
    """
    return DiverseBeamSearch.run(step, state, **options)


def _written(selected: Selected, vocabulary: int, eos_ids: tuple[int, ...]) -> Tensor:
    """Return how many hypotheses of a group have chosen each token, float32 `(batch, vocabulary)`."""
    chosen = ops.one_hot(selected.tokens, vocabulary, dtype="float32")  # (batch, beam, vocabulary)
    chosen = ops.sum(ops.where((selected.totals > NO_HYPOTHESIS)[..., None], chosen, 0.0), axis=1)
    ended = ops.cast(selected.ends > NO_HYPOTHESIS, "float32")  # (batch, beam * ends)
    beam = selected.tokens.shape[1]
    ends = ops.tile(ops.one_hot(ops.convert_to_tensor(eos_ids, dtype="int32"), vocabulary, dtype="float32"), (beam, 1))
    return chosen + ops.matmul(ended, ends)
