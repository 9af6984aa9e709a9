"""Beam search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from kseq.decoding.decoding import Decoded, Nest
from kseq.decoding.ranked_search import RankedSearch
from kseq.decoding.strategy import takes_options_of


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, kw_only=True)
class BeamSearch(RankedSearch):
    """Beam search as an object: `beam_search` with its options, which are explained there.

    Raises:
        ValueError: If an option is out of range.

    Example:
        >>> decoded = BeamSearch(beam_width=8, top_paths=3)(step, state, bos_id=1, eos_id=2, max_length=9)
    """


@takes_options_of(BeamSearch)
def beam_search(step: Callable, state: Nest, **options: Any) -> Decoded:
    """Follow the `beam_width` most probable prefixes at every step, and return the best hypotheses.

    At every step the live hypotheses, `beam_width` per row, are continued by every token. The best `beam_width`
    continuations other than eos go on. A hypothesis may end in eos if its sum is within that beam, that is, not below
    the last continuation that goes on. The best `beam_width` hypotheses that have ended are kept, unchanged. So a beam
    of width 1 without penalties is greedy search, and a beam wide enough to drop nothing is exhaustive search.

    The score is `sum / penalty + coverage`, in nats:

    - sum of the log-probabilities, eos included;
    - penalty, with `length` counting eos, and the prompt if it is scored: `((5 + length) / 6) ** length_penalty` for
      "gnmt", `length ** length_penalty` for "average". Positive favours long hypotheses, negative short ones;
    - coverage: `coverage_penalty * sum_j log(min(sum_i a_ij, 1))`, a_ij being the weight of source position j at output
      step i. It needs a step that returns alignments. The positions j are those of `source_mask`. Without a mask they
      are the positions that any hypothesis of the row has given a weight so far. With a softmax in float32 these are
      all but the padding; in half precision or with hard attention, real positions without any weight are left out,
      too. A sum below 1e-9 counts as 1e-9.

    Live hypotheses all have one length, and are ranked by their sums alone. A hypothesis that reaches `max_length`
    without eos is ranked with those that ended, by the same score. Of equals the one that ended first is taken, then
    the lower (hypothesis, token).

    `early_stopping` says when a row is done; the loop ends when every row is. A sum only falls, so a live hypothesis
    reaches at best its sum divided by the largest penalty up to `max_length`. Of these rules only "estimate" may change
    the answer:

    - True: when no live hypothesis can still come among the `top_paths` best;
    - False: when none can still come among the `beam_width` that are kept;
    - "never": at `max_length`, or when nothing is alive;
    - "estimate": as False, but with the penalty at the present length as the bound of live hypotheses. With a positive
      `length_penalty` the exact bound is loose, and this one stops much earlier, but it may miss a long hypothesis that
      would have won.

    `patience=p` ends a row after the step by which `p * beam_width` of its hypotheses had ended, kept or not, and drops
    the live ones: it takes less time, but misses better hypotheses that are still alive. `patience=1.0` is what other
    libraries call early stopping.

    `score_margin` prunes the beam: after each step a live hypothesis whose sum is more than `score_margin` nats below
    that of the best live hypothesis of its row is dropped. Its place is free for the next step's continuations, and a
    row without live hypotheses is done. Hypotheses that have ended, also at this step, are not dropped.

    With several `eos_id` a hypothesis may end in each, and each end is a hypothesis of its own.

    Args:
        step: The model, `step(tokens, state[, memory]) -> (logits, state[, alignments])`; see
            `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first, at least one.
        beam_width: How many hypotheses are followed, and how many that ended are kept.
        top_paths: How many hypotheses are returned.
        length_penalty: Exponent of the length penalty, from -10 to 10; 0 for none.
        length_penalty_kind: "gnmt" or "average".
        coverage_penalty: Weight of the coverage penalty; 0 for none.
        early_stopping: When a row is done: True, False, "never" or "estimate".
        patience: The number of ended hypotheses after which a row is done, as a multiple of `beam_width`; None or
            infinity for no such limit.
        score_margin: How far a live hypothesis may be below the best one, in nats, above 0; None or infinity for any
            distance.
        min_length: The fewest tokens of a hypothesis, eos and the prompt included.
        constraints: Constraints on the tokens, applied in this order.
        **options: `bos_id`, `eos_id`, `max_length`, and the other options of `Strategy.__call__`.

    Returns:
        `Decoded` with `top_paths` hypotheses per row, best first. Where there are fewer, the rest has length 0 and
        score -1e30.

    Raises:
        ValueError: If an option, a length or a token is out of range, the state is empty, the step's output is
            not as described, or there is a coverage penalty and the step returns no alignments.

    Example:
        >>> table = ops.log(np.array([[0, 0.6, 0.4, 0], [0, 0.3, 0.3, 0.4], [0, 0, 0, 1], [0, 0, 0, 1]]) + 1e-9)
        >>> step = lambda tokens, state: (ops.take(table, tokens, axis=0), state)
        >>> decoded = beam_search(step, np.zeros((1, 1)), bos_id=0, eos_id=3, max_length=4, beam_width=2)
        >>> decoded.tokens, ops.exp(decoded.scores)  # greedy begins with 1, and reaches 0.6 * 0.4
        ([[[2, 3, 0, 0]]], [[0.4]])

    References:
        - Y. Wu et al., "Google's neural machine translation system", 2016 (the penalties).
        - C. Meister, T. Vieira, R. Cotterell, "Best-first beam search", 2020 (when to stop).
        - J. Kasai et al., "A call for clarity in beam search: how it works and when it stops", 2022 (patience).
        - B. Lowerre, "The Harpy speech recognition system", 1976 (pruning by a threshold, `score_margin`).
        - M. Freitag, Y. Al-Onaizan, "Beam search strategies for neural machine translation", 2017 (the same).
    """
    return BeamSearch.run(step, state, **options)
