"""Batches of linear chains for tests, and what the enumeration of all sequences of tags says of them."""

from typing import NamedTuple

import numpy as np

from tests.reference import crf as reference

ROWS, TIME, TAGS = 6, 5, 3
LENGTHS = np.array([5, 0, 1, 3, 2, 5])
WEIGHTS = np.array([1.0, 0.5, -1.0, 2.0, 0.7, -0.3], "float32")  # of the rows, for gradients


class Case(NamedTuple):
    """Random tags and scores, with NaN in the padding, and the enumerated sequences of each row."""

    tags: np.ndarray
    scores: np.ndarray
    transitions: np.ndarray
    start: np.ndarray
    end: np.ndarray
    sequences: list

    @property
    def chain(self):
        return {"transitions": self.transitions, "start": self.start, "end": self.end}


def random_case(scale=1.0, *, forbidden=False, seed=0):
    """Return a case. With `forbidden`, a transition, a first and a last tag are; only the tags of row 5 have one."""
    random = np.random.default_rng(seed)
    scores = (scale * random.normal(size=(ROWS, TIME, TAGS))).astype("float32")
    transitions = (scale * random.normal(size=(TAGS, TAGS))).astype("float32")
    start, end = (scale * random.normal(size=TAGS).astype("float32") for _ in range(2))
    tags = random.integers(0, TAGS, size=(ROWS, TIME))
    if forbidden:
        transitions[0, 2] = start[2] = end[1] = -np.inf
        tags[:5] = np.array([0, 1, 2, 2, 0])
        tags[[3, 4], LENGTHS[[3, 4]] - 1] = [2, 0]
        tags[5] = [0, 2, 1, 0, 0]
    scores[np.arange(TIME) >= LENGTHS[:, None]] = np.nan
    tags[np.arange(TIME) >= LENGTHS[:, None]] = -7
    rows = zip(scores, LENGTHS, strict=True)
    sequences = [reference.every_sequence(row[:length], transitions, start, end) for row, length in rows]
    return Case(tags, scores, transitions, start, end, sequences)


def expected_values(case):
    """Return the log-likelihoods, and the gradients of their weighted sum for scores, transitions, start and end."""
    logs = np.zeros(ROWS)
    d_scores, d_transitions = np.zeros((ROWS, TIME, TAGS)), np.zeros((TAGS, TAGS))
    d_start, d_end = np.zeros(TAGS), np.zeros(TAGS)
    for row, (length, sequences) in enumerate(zip(LENGTHS, case.sequences, strict=True)):
        tags = case.tags[row, :length]
        logs[row] = reference.log_likelihood(tags, sequences)
        if not length or not np.isfinite(logs[row]):
            continue
        each = np.eye(TAGS)[tags] - reference.marginals(sequences, length, TAGS)
        d_scores[row, :length] = WEIGHTS[row] * each
        d_start, d_end = d_start + WEIGHTS[row] * each[0], d_end + WEIGHTS[row] * each[-1]
        moves = np.zeros((TAGS, TAGS))
        np.add.at(moves, (tags[:-1], tags[1:]), 1)
        d_transitions += WEIGHTS[row] * (moves - reference.expected_transitions(sequences, TAGS))
    return logs, (d_scores, d_transitions, d_start, d_end)
