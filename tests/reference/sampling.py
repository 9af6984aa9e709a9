"""Truncation of distributions for sampling, by sorting."""

import numpy as np


def first_to_reach(order, probabilities, share):
    """Return the shortest prefix of `order` whose probability is at least `share`."""
    total, kept = 0.0, []
    for token in order:
        kept.append(token)
        total += probabilities[token]
        if total >= share:
            break
    return kept


def only(kept, probabilities):
    cut = np.zeros_like(probabilities)
    cut[kept] = probabilities[kept]
    return cut / cut.sum()


def probabilities(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0):
    """Return the probabilities that tokens are drawn with, float64 `(vocabulary,)`."""
    p = np.exp((logits - logits.max()).astype("float64") / temperature)
    p /= p.sum()
    if top_k:
        p = only(np.argsort(-p, kind="stable")[:top_k], p)
    if top_p < 1:
        p = only(first_to_reach(np.argsort(-p, kind="stable"), p, top_p), p)
    if min_p:
        p = only(np.flatnonzero(p >= min_p * p.max()), p)
    if typical_p < 1:
        information = -np.log(np.where(p > 0, p, 1.0))
        atypical = np.where(p > 0, np.abs(information - np.sum(p * information)), np.inf)
        p = only(first_to_reach(np.argsort(atypical, kind="stable"), p, typical_p), p)
    return p
