"""Linear-chain CRFs by enumeration of all sequences of tags of a few steps; and step by step in float64."""

import itertools

import numpy as np


def every_sequence(scores, transitions, start=None, end=None):
    """Return `[(tags, score)]` of all sequences for scores `(time, tags)`, best first, then in lexicographic order."""
    scores, transitions = np.asarray(scores, np.float64), np.asarray(transitions, np.float64)
    time, count = scores.shape
    found = []
    for tags in itertools.product(range(count), repeat=time):
        found.append((tags, score(tags, scores, transitions, start, end)))
    return sorted(found, key=lambda each: (-each[1], each[0]))


def score(tags, scores, transitions, start=None, end=None):
    """Return the score of tags."""
    total = sum(float(scores[t, tag]) for t, tag in enumerate(tags))
    total += sum(float(transitions[a, b]) for a, b in itertools.pairwise(tags))
    if len(tags):
        total += 0.0 if start is None else float(start[tags[0]])
        total += 0.0 if end is None else float(end[tags[-1]])
    return total


def log_total(sequences):
    """Return the logarithm of the sum of exp(score)."""
    return np.logaddexp.reduce([score for _, score in sequences])


def log_likelihood(tags, sequences):
    """Return the log-probability of tags."""
    return dict(sequences)[tuple(tags)] - log_total(sequences)


def marginals(sequences, time, count):
    """Return P(y_t = i), `(time, count)`."""
    found, total = np.zeros((time, count)), log_total(sequences)
    for tags, score in sequences:
        found[np.arange(time), list(tags)] += np.exp(score - total)
    return found


def expected_transitions(sequences, count):
    """Return the expected number of each transition, `(count, count)`."""
    found, total = np.zeros((count, count)), log_total(sequences)
    for tags, score in sequences:
        for a, b in itertools.pairwise(tags):
            found[a, b] += np.exp(score - total)
    return found


def forward_backward(scores, transitions, start, end):
    """Return the log of the sum over all sequences, the marginals, and the expected number of each transition."""
    scores, transitions, start, end = (np.asarray(x, np.float64) for x in (scores, transitions, start, end))
    alpha, beta = np.zeros_like(scores), np.zeros_like(scores)
    alpha[0], beta[-1] = scores[0] + start, end
    for t in range(1, len(scores)):
        alpha[t] = np.logaddexp.reduce(alpha[t - 1][:, None] + transitions, axis=0) + scores[t]
        beta[-t - 1] = np.logaddexp.reduce(transitions + scores[-t] + beta[-t], axis=1)
    total = np.logaddexp.reduce(alpha[-1] + end)
    pairs = alpha[:-1, :, None] + transitions + (scores + beta)[1:, None, :] - total
    return total, np.exp(alpha + beta - total), np.exp(pairs).sum(axis=0)
