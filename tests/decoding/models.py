"""Small models to decode with, as a step and as a function of the prefix."""

import numpy as np
from keras import ops

from kseq.decoding import StepOutput
from tests.support import BACKEND

BOS, EOS = 1, 2
IDS = {"bos_id": BOS, "eos_id": EOS}
FIELDS = ("tokens", "lengths", "scores", "finished")


class RandomRNN:
    """A recurrent network with random weights and attention over a random source, one per row."""

    def __init__(self, seed=0, *, batch=2, vocabulary=5, units=6, source_lengths=(4, 3), sharpness=2.0):
        random = np.random.default_rng(seed)

        def normal(*shape):
            return random.normal(size=shape).astype("float32")

        self.vocabulary = vocabulary
        self.embedding, self.recurrent = normal(vocabulary, units), normal(units, units) / 2
        self.output = sharpness * normal(units, vocabulary) / np.sqrt(units).astype("float32")
        self.state = (normal(batch, units),)
        lengths = np.resize(source_lengths, batch)
        self.memory = {
            "source": normal(batch, max(source_lengths), units),
            "mask": np.arange(max(source_lengths)) < lengths[:, None],
        }

    def step(self, tokens, state, memory):
        (hidden,) = state
        hidden = ops.tanh(ops.take(self.embedding, tokens, axis=0) + ops.matmul(hidden, self.recurrent))
        query = self.by_batch(hidden, ops.shape(memory["source"])[0])
        scores = ops.matmul(query, ops.swapaxes(memory["source"], 1, 2))  # (batch, hypotheses, source_time)
        weights = ops.softmax(ops.where(memory["mask"][:, None], scores, -1e30))
        context = ops.reshape(ops.matmul(weights, memory["source"]), ops.shape(hidden))
        logits = ops.matmul(hidden + context, self.output)
        alignments = ops.reshape(weights, (ops.shape(hidden)[0], ops.shape(weights)[-1]))
        return StepOutput(logits, (hidden,), alignments, hidden)

    def by_batch(self, hidden, batch):
        """(batch * hypotheses, units) as (batch, hypotheses, units); an empty batch has none."""
        rows, units = ops.shape(hidden)
        hypotheses = rows // (max(batch, 1) if isinstance(batch, int) else ops.maximum(batch, 1))
        return ops.reshape(hidden, (batch, hypotheses, units))

    def predict(self, row):
        """The same for one row in NumPy, in float64: log-probabilities and alignments."""
        run = self.runner(row)
        return lambda prefix: run(prefix)[1:]

    def runner(self, row):
        """`prefix -> (hidden, log_probabilities, alignments)`."""
        source = self.memory["source"][row][self.memory["mask"][row]].astype("float64")
        known = {}

        def run(prefix):
            if prefix not in known:
                hidden = run(prefix[:-1])[0] if prefix else self.state[0][row].astype("float64")
                token = prefix[-1] if prefix else BOS
                hidden = np.tanh(self.embedding[token] + hidden @ self.recurrent)
                weights = np.exp(source @ hidden)
                weights /= weights.sum()
                logits = (hidden + weights @ source) @ self.output
                known[prefix] = hidden, logits - np.log(np.sum(np.exp(logits))), weights
            return known[prefix]

        return run


class Lattice:
    """Probabilities by the prefix's last tokens, drawn by hand: `{"": {"a": 0.6, "b": 0.4}, "a": {"$": 1.0}, ...}`.

    A node is the prefix itself. `$` is eos; letters are the tokens from 3 on. The state is the node's number.
    """

    letters = "_^$abcdefghijklmnopqrstuvwxyz"

    def __init__(self, nodes):
        names = sorted(set(nodes) | {prefix + letter for prefix in nodes for letter in nodes[prefix]})
        self.names = [""] + [name for name in names if name]
        self.table = np.full((len(self.names), len(self.letters)), 1e-30, "float32")
        self.next = np.zeros((len(self.names), len(self.letters)), "int32")
        for prefix, continuations in nodes.items():
            for letter, probability in continuations.items():
                self.table[self.names.index(prefix), self.letters.index(letter)] = probability
                self.next[self.names.index(prefix), self.letters.index(letter)] = self.names.index(prefix + letter)
        self.logits = np.log(self.table)
        self.state = np.zeros((1,), "int32")

    def step(self, tokens, node):
        # bos leads nowhere: the first step stays at the root
        node = ops.where(tokens == BOS, node, self._lookup(self.next, tokens, node))
        return ops.take(self.logits, node, axis=0), node

    def _lookup(self, table, tokens, node):
        return ops.take(ops.reshape(table, (-1,)), node * len(self.letters) + tokens, axis=0)

    def spell(self, decoded, row=0):
        """The hypotheses as `(word, probability of the score)`, best first; `$` shows that it ended."""
        words = []
        for tokens, length, value in zip(*(np.asarray(x)[row] for x in decoded[:3]), strict=True):
            words.append(("".join(self.letters[token] for token in tokens[:length]), float(np.exp(value))))
        return words


def run(search, step, state, memory=None, **options):
    """Decode the way that is quickest to test: on JAX compiled as a whole, with little optimisation; else eagerly."""

    def decode(state, memory):
        return search(step, state, memory=memory, **{**IDS, **options})

    return quick(decode)(state, memory)


def quick(function):
    """The way to run a function that is quickest to test; see `run`."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
    return function


def run_model(search, model, **options):
    return run(search, model.step, model.state, model.memory, **options)


def hypotheses(decoded, row):
    """The hypotheses of a row as `(score, tokens, finished)`."""
    tokens, lengths, scores, finished = (np.asarray(getattr(decoded, x))[row] for x in FIELDS)
    return [
        (float(s), tuple(int(token) for token in t[:length]), bool(f))
        for t, length, s, f in zip(tokens, lengths, scores, finished, strict=True)
    ]


def assert_hypotheses(decoded, row, expected, atol=1e-5):
    """Compare a row with the reference's `(score, Hypothesis)` pairs: tokens, order, flags and scores."""
    got = hypotheses(decoded, row)
    assert [(tokens, finished) for _, tokens, finished in got] == [(h.tokens, h.finished) for _, h in expected]
    np.testing.assert_allclose([value for value, _, _ in got], [value for value, _ in expected], atol=atol)
