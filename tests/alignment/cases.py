"""Batches shared by the tests of alignments."""

import itertools

import keras
import numpy as np

from tests.reference import alignment as reference

# JAX has no float64 by default, so the tolerance there is that of float32.
PRECISION = "float64" if keras.backend.backend() == "tensorflow" else "float32"
TOLERANCE = 1e-11 if PRECISION == "float64" else 2e-5
MOST_FRAMES = 6


def every_pattern(most=3):
    """Yield labels with all patterns of repeats: (), (1,), (1, 1), (1, 2), (1, 1, 1), (1, 1, 2), (1, 2, 1) ..."""
    for length in range(most + 1):
        for labels in itertools.product(range(1, most + 1), repeat=length):
            firsts = [labels.index(k) for k in dict.fromkeys(labels)]
            if [labels[i] for i in firsts] == list(range(1, len(firsts) + 1)):
                yield labels


def enumerated(blank, *, seed=0):
    """Return a batch of all patterns with all numbers of frames, and a list of the alignments of each row.

    The padding has invalid labels and NaN logits, so that reading it would be noticed.
    """
    random = np.random.default_rng(seed)
    cases = [(labels, frames) for labels in every_pattern() for frames in range(MOST_FRAMES + 1)]
    classes = 5
    rename = np.array([c for c in range(classes) if c != blank]) if blank is not None else np.arange(1, classes)
    logits = random.normal(size=(len(cases), MOST_FRAMES, classes)) * 2
    labels = np.full((len(cases), 3), -1)
    alignments = []
    for row, (pattern, frames) in enumerate(cases):
        names = [int(rename[label - 1]) for label in pattern]
        labels[row, : len(names)] = names
        logits[row, frames:] = np.nan
        alignments.append(reference.every_alignment(names, logits[row, :frames].astype(PRECISION), blank))
    lengths = np.array([len(pattern) for pattern, _ in cases]), np.array([frames for _, frames in cases])
    return (labels, logits.astype(PRECISION), *lengths), alignments


def random_batch(rows, frames, classes, count, *, seed=0, scale=1.0, unequal=True, blank=0):
    """Return labels, logits and both lengths of alignable rows; with unequal lengths the padding is invalid."""
    random = np.random.default_rng(seed)
    names = np.array([c for c in range(classes) if c != blank])
    labels = names[random.integers(0, classes - 1, size=(rows, count))].astype("int32")
    logits = (scale * random.normal(size=(rows, frames, classes))).astype("float32")
    label_lengths, logit_lengths = np.full(rows, count, "int32"), np.full(rows, frames, "int32")
    if unequal:
        label_lengths = random.integers(0, count + 1, size=rows).astype("int32")
        logit_lengths = random.integers(min(2 * count, frames), frames + 1, size=rows).astype("int32")
        for row in range(rows):
            labels[row, label_lengths[row] :] = 10**6
            logits[row, logit_lengths[row] :] = np.nan
    return labels, logits, label_lengths, logit_lengths


def in_shape(labels, logits, label_lengths, logit_lengths, *, rows, frames, classes, count, dtype=PRECISION):
    """Return the same rows in tensors of a larger shape, so that one compilation serves many tests.

    Added classes have probability zero, added frames and labels are invalid padding, added rows copy the first row.
    """
    more = rows - len(labels), frames - logits.shape[1], classes - logits.shape[2], count - labels.shape[1]
    logits = np.pad(logits, [(0, 0), (0, 0), (0, more[2])], constant_values=-np.inf)
    logits = np.pad(logits, [(0, 0), (0, more[1]), (0, 0)], constant_values=np.nan).astype(dtype)
    labels = np.pad(labels, [(0, 0), (0, more[3])], constant_values=10**6)
    batch = labels, logits, label_lengths, logit_lengths
    copies = [np.concatenate([x, np.repeat(x[:1], more[0], axis=0)]) for x in batch]
    return [x if x.ndim == 3 else x.astype("int64") for x in copies]
