"""Alignments by enumeration: every path of classes over a few frames, and those that spell the labels."""

import itertools

import numpy as np


def log_softmax(logits):
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def ctc_alignments(labels, frames, blank):
    """All paths of *states* (2j + 1 is label j, 2j the blank before it) over `frames` that spell the labels."""
    symbols = [blank]
    for label in labels:
        symbols += [label, blank]
    for path in itertools.product(range(len(symbols)), repeat=frames):
        if all(a <= b for a, b in itertools.pairwise(path)) and spells([symbols[s] for s in path], blank) == [*labels]:
            # A path of classes is one path of states: a state between two others is not passed without being in it.
            if all(b - a < 2 or (b - a == 2 and a % 2 == 1 and symbols[a] != symbols[b])
                   for a, b in itertools.pairwise(path)) and path[:1] <= (1,):  # fmt: skip
                yield path, [symbols[s] for s in path]


def spells(path, blank):
    """Collapse repeats, then drop blanks."""
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


def order_synchronous_alignments(labels, frames):
    """All paths of states, state j being label j, that hold each label one frame or more."""
    for path in itertools.product(range(len(labels)), repeat=frames):
        if [state for state, _ in itertools.groupby(path)] == list(range(len(labels))):
            yield path, [labels[s] for s in path]


def every_alignment(labels, logits, blank=None):
    """`[(states, log-probability)]` of all alignments of `labels` and logits `(time, classes)`; CTC's if `blank`."""
    scores, frames = log_softmax(logits), len(logits)
    found = order_synchronous_alignments(labels, frames) if blank is None else ctc_alignments(labels, frames, blank)
    return [(path, float(sum(scores[t, c] for t, c in enumerate(classes)))) for path, classes in found]


def log_probability(alignments):
    return np.logaddexp.reduce([score for _, score in alignments]) if alignments else -np.inf


def posteriors(alignments, frames, states):
    """P(s_t = s | labels, input), (frames, states)."""
    found, total = np.zeros((frames, states)), log_probability(alignments)
    for path, score in alignments:
        found[np.arange(frames), list(path)] += np.exp(score - total)
    return found


def gradient(labels, logits, blank=None):
    """Of -log P with respect to the logits: softmax less the posteriors by class."""
    states = len(labels) if blank is None else 2 * len(labels) + 1
    symbols = labels if blank is None else [labels[s // 2] if s % 2 else blank for s in range(states)]
    found = np.exp(log_softmax(logits))
    each = posteriors(every_alignment(labels, logits, blank), len(logits), states)
    for state, symbol in enumerate(symbols):
        found[:, symbol] -= each[:, state]
    return found
