"""Levenshtein distance in plain Python, with the numbers of its edits."""

import numpy as np


def edit_counts(reference, hypothesis):
    """Return `(insertions, deletions, substitutions)` of the fewest edits; of equals, the most substitutions."""
    table = np.empty((len(reference) + 1, len(hypothesis) + 1), dtype=object)
    for i in range(len(reference) + 1):
        for j in range(len(hypothesis) + 1):
            ways = [(0, 0, 0)] if i == j == 0 else []
            if j:
                ways.append(np.add(table[i, j - 1], (1, 0, 0)))
            if i:
                ways.append(np.add(table[i - 1, j], (0, 1, 0)))
            if i and j:
                ways.append(np.add(table[i - 1, j - 1], (0, 0, int(reference[i - 1] != hypothesis[j - 1]))))
            table[i, j] = min((tuple(int(n) for n in way) for way in ways), key=lambda way: (sum(way), way[0] + way[1]))
    return table[-1, -1]
