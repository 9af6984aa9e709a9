"""What hypotheses of a beam are ranked by, and when no other can still win: shared by searches with a beam."""

import math
from dataclasses import dataclass
from typing import Literal

from keras import ops

from kseq.backend import Tensor
from kseq.decoding.decoding import LOG_ZERO, Nest
from kseq.decoding.hypotheses import NO_HYPOTHESIS, Selected, best_continuations
from kseq.decoding.strategy import Strategy

COVERAGE_FLOOR = 1e-9  # The least coverage of a source position: the penalty stays finite where none looked at it.

EarlyStopping = bool | Literal["never", "estimate"]


@dataclass(frozen=True, kw_only=True)
class RankedSearch(Strategy):
    """Base class of beam searches, with their common options; see `beam_search`.

    Raises:
        ValueError: If an option is out of range.
    """

    beam_width: int = 4
    top_paths: int = 1
    length_penalty: float = 0.0
    length_penalty_kind: str = "gnmt"
    coverage_penalty: float = 0.0
    early_stopping: EarlyStopping = True
    patience: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beam_width < 1:
            raise ValueError(f"beam_width must be 1 or more, but got beam_width={self.beam_width}.")
        if not 1 <= self.top_paths <= self.beam_width:
            raise ValueError(
                f"top_paths must be between 1 and beam_width, but got top_paths={self.top_paths} and "
                f"beam_width={self.beam_width}. Widen the beam, or ask for fewer hypotheses."
            )
        if not math.isfinite(self.length_penalty):
            raise ValueError(f"length_penalty must be a finite number, but got length_penalty={self.length_penalty}.")
        if self.length_penalty_kind not in ("gnmt", "average"):
            raise ValueError(
                f"length_penalty_kind must be 'gnmt' or 'average', but got {self.length_penalty_kind!r}: 'gnmt' "
                "divides by ((5 + length) / 6) ** length_penalty, 'average' by length ** length_penalty."
            )
        if not 0 <= self.coverage_penalty < math.inf:
            raise ValueError(f"coverage_penalty must be 0 or more, and finite, but got {self.coverage_penalty}.")
        if not isinstance(self.early_stopping, bool) and self.early_stopping not in ("never", "estimate"):  # 1 == True
            raise ValueError(
                f"early_stopping must be True, False, 'never' or 'estimate', but got {self.early_stopping!r}."
            )
        if self.patience is not None and not self.patience > 0:
            raise ValueError(f"patience must be above 0, or None, but got patience={self.patience}.")

    @property
    def groups(self) -> int:
        """In how many groups of equal size the beam is searched."""
        return 1

    def select(self, totals: Tensor, eos_ids: tuple[int, ...]) -> Selected:
        """Return the continuations that go on, and which hypotheses may end.

        Args:
            totals: float32 `(searches, beam, vocabulary)`, the sums of log-probabilities of the live hypotheses
                continued by each token; searches = batch x groups, and `beam` is one group's.
            eos_ids: The tokens that end a hypothesis.
        """
        return best_continuations(totals, totals, eos_ids)

    def penalty(self, length: Tensor | int) -> Tensor:
        """Return what a sum of log-probabilities is divided by at `length`, float32."""
        length = ops.cast(length, "float32")
        base = (5.0 + length) / 6.0 if self.length_penalty_kind == "gnmt" else length
        return ops.power(base, self.length_penalty)

    def score(self, totals: Tensor, length: Tensor | int, coverage: Nest, source: Nest) -> Tensor:
        """Return what hypotheses are ranked by, float32 `(searches, hypotheses)`; `LOG_ZERO` where there is none.

        Args:
            totals: float32 `(searches, hypotheses)`, the sums of their log-probabilities.
            length: How many of their tokens are scored, a scalar or `(searches, 1)`.
            coverage: float32 `(searches, hypotheses, source_time)`, the sums of their alignments, or ().
            source: bool `(searches, source_time)`, the source positions that count, or ().
        """
        scores = totals / self.penalty(length)
        if self.coverage_penalty:
            logarithms = ops.log(ops.clip(coverage, COVERAGE_FLOOR, 1.0))  # (searches, hypotheses, source_time)
            logarithms = ops.where(source[:, None], logarithms, 0.0)
            scores = scores + self.coverage_penalty * ops.sum(logarithms, axis=-1)
        return ops.where(totals > NO_HYPOTHESIS, scores, LOG_ZERO)

    def reachable(self, totals: Tensor, length: Tensor | int, longest: Tensor | int) -> Tensor:
        """Return the best score that live hypotheses can still reach; the coverage penalty aside.

        Args:
            totals: float32 `(searches, 1)`, the sums of their log-probabilities.
            length: How many of their tokens are scored, a scalar or `(searches, 1)`.
            longest: How many are at `max_length`.
        """
        if self.early_stopping == "estimate":
            return totals / self.penalty(length)
        # Sums only fall, so the best is that they stay, at the length that divides them by most.
        return totals / ops.maximum(self.penalty(length + 1), self.penalty(longest))
