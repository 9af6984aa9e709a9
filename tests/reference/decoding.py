"""Decoding in plain Python and NumPy, slowly: every sequence, or a beam written as it is explained.

A model is a function `predict(prefix) -> (log_probabilities (vocabulary,), alignments (source_time,) or None)` of the
tuple of tokens so far, without bos. `eos_id` is a token or several. Alignments are those of the real source positions.
"""

import itertools
from typing import NamedTuple

import numpy as np


class Hypothesis(NamedTuple):
    tokens: tuple
    total: float
    finished: bool
    coverage: np.ndarray | float


def penalty(length, exponent, kind):
    return ((5 + length) / 6) ** exponent if kind == "gnmt" else length**exponent


def score(hypothesis, exponent=0.0, kind="gnmt", coverage_penalty=0.0):
    value = hypothesis.total / penalty(len(hypothesis.tokens), exponent, kind)
    if coverage_penalty:
        value += coverage_penalty * np.sum(np.log(np.clip(hypothesis.coverage, 1e-9, 1.0)))
    return value


def is_end(token, eos_id):
    return token in np.atleast_1d(eos_id)


def extend(hypothesis, predict, token, eos_id):
    log_probabilities, alignments = predict(hypothesis.tokens)
    return Hypothesis(
        (*hypothesis.tokens, token),
        hypothesis.total + log_probabilities[token],
        is_end(token, eos_id),
        hypothesis.coverage + (0.0 if alignments is None else alignments),
    )


def every_hypothesis(predict, vocabulary, eos_id, max_length):
    """All that can be written: what ends in eos, and what reaches `max_length` without."""
    others = [token for token in range(vocabulary) if not is_end(token, eos_id)]
    start = Hypothesis((), 0.0, False, 0.0)
    for length in range(max_length + 1):
        for tokens in itertools.product(others, repeat=length):
            hypothesis = start
            for token in tokens:
                hypothesis = extend(hypothesis, predict, token, eos_id)
            if length == max_length:
                yield hypothesis
            else:
                yield from (extend(hypothesis, predict, int(end), eos_id) for end in np.atleast_1d(eos_id))


def exhaustive_search(predict, vocabulary, eos_id, max_length, count, allowed=lambda tokens: True, **scoring):
    """The `count` best of all hypotheses that are `allowed`, best first, with their scores."""
    every = [h for h in every_hypothesis(predict, vocabulary, eos_id, max_length) if allowed(h.tokens)]
    every = sorted(((score(h, **scoring), h) for h in every), key=lambda pair: -pair[0])
    return every[:count]


def within(margin, live):
    """Return the hypotheses that are at most `margin` below the best of them."""
    return [h for h in live if h.total >= max(other.total for other in live) - margin]


def beam_search(predict, vocabulary, eos_id, max_length, beam_width, count, patience=np.inf, margin=np.inf, **scoring):
    """Run beam search without early stopping. Python's sort is stable, so equals keep their order."""
    live, finished, ends = [Hypothesis((), np.float32(0.0), False, 0.0)], [], 0
    for _ in range(max_length):
        continuations = [extend(h, predict, token, eos_id) for h in live for token in range(vocabulary)]
        continuations.sort(key=lambda h: -h.total)
        live, ended = [], []
        for hypothesis in continuations:
            if len(live) == beam_width:
                break
            (ended if hypothesis.finished else live).append(hypothesis)
        live = within(margin, live)
        finished = sorted(finished + ended, key=lambda h: -score(h, **scoring))[:beam_width]
        ends += len(ended)
        if ends >= patience * beam_width:
            live = []
    ranked = sorted(finished + live, key=lambda h: -score(h, **scoring))
    return [(score(h, **scoring), h) for h in ranked[:count]]


def diverse_beam_search(
    predict, vocabulary, eos_id, max_length, beam_width, groups, strength, count, margin=np.inf, **scoring
):
    """Run diverse beam search without early stopping; the penalty only affects which continuations stay in the beam."""
    live = [[Hypothesis((), 0.0, False, 0.0)] for _ in range(groups)]
    finished = [[] for _ in range(groups)]
    width = beam_width // groups
    for _ in range(max_length):
        written = np.zeros(vocabulary)
        for group in range(groups):
            continuations = [extend(h, predict, token, eos_id) for h in live[group] for token in range(vocabulary)]
            continuations.sort(key=lambda h: strength * written[h.tokens[-1]] - h.total)
            live[group], ended = [], []
            for hypothesis in continuations:
                if len(live[group]) == width:
                    break
                (ended if hypothesis.finished else live[group]).append(hypothesis)
            finished[group] = sorted(finished[group] + ended, key=lambda h: -score(h, **scoring))[:width]
            for hypothesis in live[group] + ended:
                written[hypothesis.tokens[-1]] += 1
            live[group] = within(margin, live[group])
    ranked = []
    for ends, alive in zip(finished, live, strict=True):
        ranked += sorted(ends + alive, key=lambda h: -score(h, **scoring))[:width]
    return [(score(h, **scoring), h) for h in sorted(ranked, key=lambda h: -score(h, **scoring))[:count]]


def greedy_search(predict, eos_id, max_length):
    hypothesis = Hypothesis((), 0.0, False, 0.0)
    while len(hypothesis.tokens) < max_length and not hypothesis.finished:
        log_probabilities, _ = predict(hypothesis.tokens)
        hypothesis = extend(hypothesis, predict, int(np.argmax(log_probabilities)), eos_id)
    return hypothesis


def contrastive_search(run, eos_id, max_length, top_k, penalty_alpha):
    """`run(prefix)` gives the last token's representation and the next one's log-probabilities."""
    tokens, total = (), 0.0
    while len(tokens) < max_length and not (tokens and is_end(tokens[-1], eos_id)):
        log_probabilities = run(tokens)[1]
        seen = [run(tokens[:i])[0] for i in range(len(tokens) + 1)]

        def value(token, tokens=tokens, log_probabilities=log_probabilities, seen=seen):
            own = run((*tokens, token))[0]
            likeness = max(own @ other / np.linalg.norm(own) / np.linalg.norm(other) for other in seen)
            return (1 - penalty_alpha) * np.exp(log_probabilities[token]) - penalty_alpha * likeness

        best = max(np.argsort(-log_probabilities, kind="stable")[:top_k].tolist(), key=value)
        tokens, total = (*tokens, best), total + log_probabilities[best]
    return Hypothesis(tokens, total, is_end(tokens[-1], eos_id), 0.0)
