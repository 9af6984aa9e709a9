"""CTC decoding in plain Python and float64: enumeration of all alignments, and textbook prefix beam search.

`log_probabilities` are `(time, classes)` of one utterance; a string is a tuple of classes without blanks.
"""

import itertools

import numpy as np

NOTHING = float("-inf")


def log_softmax(logits):
    logits = np.asarray(logits, "float64")
    highest = logits.max(-1, keepdims=True)
    return logits - highest - np.log(np.exp(logits - highest).sum(-1, keepdims=True))


def collapse(path, blank):
    """Return the string of an alignment: repeats collapsed, then blanks dropped."""
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def every_string(log_probabilities, blank):
    """Return `{string: log-probability}`, summed over all alignments."""
    time, classes = log_probabilities.shape
    strings = {}
    for path in itertools.product(range(classes), repeat=time):
        value = sum(log_probabilities[t, symbol] for t, symbol in enumerate(path))
        string = collapse(path, blank)
        strings[string] = np.logaddexp(strings.get(string, NOTHING), value)
    return strings


def best_strings(log_probabilities, blank, count, bonus=lambda string: 0.0):
    """Return the `count` best strings by log-probability plus `bonus(string)`: `[(score, string)]`, best first."""
    scored = [(value + bonus(string), string) for string, value in every_string(log_probabilities, blank).items()]
    return sorted((pair for pair in scored if pair[0] > NOTHING), key=lambda pair: -pair[0])[:count]


def string_log_probability(log_probabilities, string, blank):
    """Return the log-probability of one string, by the forward algorithm."""
    states = [blank]
    for symbol in string:
        states += [symbol, blank]
    alpha = np.full(len(states), NOTHING)
    alpha[0] = 0.0  # the initial state is that of a blank
    for frame in log_probabilities:
        new = alpha.copy()
        for s in range(1, len(states)):
            new[s] = np.logaddexp(new[s], alpha[s - 1])
            if s > 1 and states[s] != blank and states[s] != states[s - 2]:
                new[s] = np.logaddexp(new[s], alpha[s - 2])
        alpha = new + frame[states]
    return np.logaddexp(alpha[-1], alpha[-2]) if len(states) > 1 else alpha[-1]


class Entry:
    """A prefix in the beam: log-probabilities of ending in a blank and in its last symbol, and the symbols' frames."""

    def __init__(self):
        self.blank = self.symbol = NOTHING
        self.frames = ()

    @property
    def total(self):
        return np.logaddexp(self.blank, self.symbol)


def prefix_beam_search(log_probabilities, blank, beam_width, bonus=lambda string: 0.0, classes_per_frame=None):
    """Return the beam after the last frame, best first: `[(score, string, frames)]`.

    `bonus` is a function of the whole prefix. If a prefix in the beam is also reached by extending its parent, it takes
    the frames of the more probable of the two.
    """
    start = Entry()
    start.blank = 0.0
    beam = {(): start}
    for time, frame in enumerate(log_probabilities):
        symbols = sorted((k for k in range(len(frame)) if k != blank), key=lambda k: -frame[k])[:classes_per_frame]
        new = {}
        for prefix, old in beam.items():
            entry = new[prefix] = Entry()
            entry.blank, entry.frames = old.total + frame[blank], old.frames
            if prefix:
                entry.symbol = old.symbol + frame[prefix[-1]]
        for prefix, old in beam.items():
            kept = {child[-1] for child in beam if child and child[:-1] == prefix}
            for symbol in {*symbols, *kept}:
                value = (old.blank if prefix and prefix[-1] == symbol else old.total) + frame[symbol]
                if value == NOTHING:
                    continue
                entry = new.setdefault((*prefix, symbol), Entry())
                if value > entry.total:
                    entry.frames = (*old.frames, time)
                entry.symbol = np.logaddexp(entry.symbol, value)
        ranked = sorted(new, key=lambda prefix: -(new[prefix].total + bonus(prefix)))
        beam = {prefix: new[prefix] for prefix in ranked[:beam_width] if new[prefix].total + bonus(prefix) > NOTHING}
    return [(entry.total + bonus(prefix), prefix, entry.frames) for prefix, entry in beam.items()]


def tensorflows_beam_search(log_probabilities, blank, beam_width):
    """Return `[(score, string)]` as `tf.nn.ctc_beam_search_decoder` computes them.

    It inserts extensions into the next beam one by one, those of the best prefix first, each replacing the worst entry.
    If a prefix is replaced and its parent then fails to insert it again, it is removed before its own extensions have
    been considered.
    """
    beam = {(): (0.0, NOTHING)}  # log-probabilities of ending in a blank and in a symbol; best first
    for frame in log_probabilities:
        old = {prefix: (blank_, symbol, np.logaddexp(blank_, symbol)) for prefix, (blank_, symbol) in beam.items()}
        new = {}
        for prefix, (_, symbol, total) in old.items():
            if prefix and prefix[:-1] in old:
                parent = old[prefix[:-1]]
                repeats = len(prefix) > 1 and prefix[-2] == prefix[-1]
                symbol = np.logaddexp(symbol, parent[0] if repeats else parent[2])
            new[prefix] = (total + frame[blank], symbol + frame[prefix[-1]] if prefix else NOTHING)
        for prefix in list(old):
            for symbol in range(len(frame)):
                child = (*prefix, symbol)
                if prefix not in old or symbol == blank or child in new:
                    continue
                before = old[prefix][0] if prefix and prefix[-1] == symbol else old[prefix][2]
                worst = min(new, key=lambda other: np.logaddexp(*new[other]))
                if len(new) < beam_width or before + frame[symbol] > np.logaddexp(*new[worst]):
                    if len(new) == beam_width:
                        del new[worst]
                    new[child] = (NOTHING, before + frame[symbol])
                else:
                    old.pop(child, None)
        beam = {prefix: new[prefix] for prefix in sorted(new, key=lambda prefix: -np.logaddexp(*new[prefix]))}
    return [(np.logaddexp(*pair), prefix) for prefix, pair in beam.items()]


def greedy(log_probabilities, blank):
    """Return `(score, string, frames)` of the best alignment; `frames` has the first frame of each symbol."""
    path = log_probabilities.argmax(-1)
    string, frames = [], []
    for time, symbol in enumerate(path):
        if symbol != blank and (time == 0 or symbol != path[time - 1]):
            string.append(int(symbol))
            frames.append(time)
    return log_probabilities.max(-1).sum(), tuple(string), tuple(frames)
