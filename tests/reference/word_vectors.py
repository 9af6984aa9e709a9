"""Losses of word vectors pair by pair, in float64, with their gradients."""

from collections.abc import Iterator

import numpy as np


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def windows(words: np.ndarray, before: np.ndarray, after: np.ndarray) -> Iterator[tuple[int, list[int]]]:
    """Yield each centre of a piece with the words of its window."""
    margin = (len(words) - len(before)) // 2
    for place in range(len(before)):
        own = place + margin
        around = [*range(own - before[place], own), *range(own + 1, own + after[place] + 1)]
        if around:
            yield int(words[own]), [int(words[each]) for each in around]


def skip_gram(words, before, after, noise, v, u, negatives):
    """Return the loss of a piece, and the gradients of the input vectors `v` and the output vectors `u`."""
    loss, of_v, of_u = 0.0, np.zeros_like(v), np.zeros_like(u)
    for centre, neighbours in windows(words, before, after):
        for neighbour in neighbours:
            pairs = [(neighbour, 1.0, 1.0)] + [(n, -1.0, negatives / len(noise)) for n in noise if n != neighbour]
            for other, sign, weight in pairs:
                product = sign * (v[centre] @ u[other])
                loss -= weight * np.log(sigmoid(product))
                slope = -weight * sign * (1 - sigmoid(product))
                of_v[centre] += slope * u[other]
                of_u[other] += slope * v[centre]
    return loss, of_v, of_u


def cbow(words, before, after, noise, v, u, negatives):
    """Return the loss of a piece, and the gradients of the input vectors `v` and the output vectors `u`."""
    loss, of_v, of_u = 0.0, np.zeros_like(v), np.zeros_like(u)
    for centre, neighbours in windows(words, before, after):
        mean = v[neighbours].mean(axis=0)
        for other, sign, weight in [(centre, 1.0, 1.0)] + [
            (n, -1.0, negatives / len(noise)) for n in noise if n != centre
        ]:
            product = sign * (mean @ u[other])
            loss -= weight * np.log(sigmoid(product))
            slope = -weight * sign * (1 - sigmoid(product))
            of_u[other] += slope * mean
            for neighbour in neighbours:
                of_v[neighbour] += slope * u[other] / len(neighbours)
    return loss, of_v, of_u


def glove(word, context, count, v, u, b, c, most, power):
    """Return the loss of each pair, and the gradients of vectors and biases of all pairs."""
    losses, gradients = [], [np.zeros_like(each) for each in (v, u, b, c)]
    for i, j, x in zip(word, context, count, strict=True):
        weight = min(1.0, (x / most) ** power)
        difference = v[i] @ u[j] + b[i] + c[j] - np.log(x)
        losses.append(weight * difference**2 / 2)
        slope = weight * difference
        gradients[0][i] += slope * u[j]
        gradients[1][j] += slope * v[i]
        gradients[2][i] += slope
        gradients[3][j] += slope
    return np.array(losses), gradients
