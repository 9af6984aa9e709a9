"""Alignments by enumeration of all paths of classes over a few frames."""

import itertools

import numpy as np


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def collapse(path, blank):
    """Return the labels that a path of classes spells: repeats collapsed, then blanks dropped."""
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


def ctc_alignments(labels, frames, blank):
    """Yield `(states, classes)` of all paths that spell the labels; state 2j + 1 is label j, 2j a blank."""
    for classes in itertools.product(sorted({blank, *labels}), repeat=frames):
        if collapse(classes, blank) == [*labels]:
            begun = [len(collapse(classes[: t + 1], blank)) for t in range(frames)]
            yield tuple(2 * n - (c != blank) for n, c in zip(begun, classes, strict=True)), classes


def order_synchronous_alignments(labels, frames):
    """Yield `(states, classes)` of all paths in which each label has one frame or more; state j is label j."""
    for path in itertools.product(range(len(labels)), repeat=frames):
        if [state for state, _ in itertools.groupby(path)] == list(range(len(labels))):
            yield path, [labels[s] for s in path]


def every_alignment(labels, logits, blank=None):
    """Return `[(states, log-probability)]` of all alignments with logits `(time, classes)`; `blank` selects CTC."""
    scores, frames = log_softmax(logits), len(logits)
    found = order_synchronous_alignments(labels, frames) if blank is None else ctc_alignments(labels, frames, blank)
    return [(path, float(sum(scores[t, c] for t, c in enumerate(classes)))) for path, classes in found]


def log_probability(alignments):
    return np.logaddexp.reduce([score for _, score in alignments]) if alignments else -np.inf


def posteriors(alignments, frames, states):
    """Return P(s_t = s | labels, input), `(frames, states)`."""
    found, total = np.zeros((frames, states)), log_probability(alignments)
    for path, score in alignments:
        found[np.arange(frames), list(path)] += np.exp(score - total)
    return found


def gradient(labels, logits, blank=None):
    """Return the gradient of -log P with respect to the logits: softmax minus the posteriors by class."""
    states = len(labels) if blank is None else 2 * len(labels) + 1
    symbols = labels if blank is None else [labels[s // 2] if s % 2 else blank for s in range(states)]
    found = np.exp(log_softmax(logits))
    each = posteriors(every_alignment(labels, logits, blank), len(logits), states)
    for state, symbol in enumerate(symbols):
        found[:, symbol] -= each[:, state]
    return found


def best_ctc_score(labels, logits, blank=0):
    """Return the log-probability of the best CTC alignment, computed state by state in float64."""
    scores = log_softmax(logits)
    symbols = [blank]
    for label in labels:
        symbols += [label, blank]
    best = np.full(len(symbols), -np.inf)
    best[:2] = scores[0, symbols[:2]]
    for frame in scores[1:]:
        new = np.empty_like(best)
        for state, symbol in enumerate(symbols):
            skip = state > 1 and state % 2 == 1 and symbols[state - 2] != symbol
            new[state] = frame[symbol] + best[max(state - 2 if skip else state - 1, 0) : state + 1].max()
        best = new
    return best[-2:].max()
