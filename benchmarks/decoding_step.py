"""The model of the benchmarks of beam search, on any backend: a GRU of 256 units with additive attention."""

import numpy as np
from keras import ops

UNITS, LENGTH, BOS, EOS = 256, 40, 1, 2


def make_weights(vocabulary, source, batch):
    random = np.random.default_rng(0)

    def normal(*shape):
        return (random.normal(size=shape) / np.sqrt(shape[0])).astype("float32")

    end = np.zeros(vocabulary, "float32")
    end[EOS] = -1e9
    return {
        "embedding": 16 * normal(vocabulary, UNITS),
        "kernel": normal(UNITS, 3 * UNITS),
        "recurrent": normal(UNITS, 3 * UNITS),
        "query": normal(UNITS, UNITS),
        "score": normal(UNITS),
        "output": 3 * normal(2 * UNITS, vocabulary),
        "end": end,
        "values": random.normal(size=(batch, source, UNITS)).astype("float32"),
        "keys": random.normal(size=(batch, source, UNITS)).astype("float32"),
        "state": random.normal(size=(batch, UNITS)).astype("float32"),
    }


def make_step(w):
    """A step in keras.ops: a GRU, then attention of all hypotheses of a row to its source."""

    def step(tokens, hidden, memory):
        projected = ops.matmul(ops.take(w["embedding"], tokens, axis=0), w["kernel"])
        recurrent = ops.matmul(hidden, w["recurrent"])
        z, r = (ops.sigmoid(projected[:, i : i + UNITS] + recurrent[:, i : i + UNITS]) for i in (0, UNITS))
        candidate = ops.tanh(projected[:, 2 * UNITS :] + r * recurrent[:, 2 * UNITS :])
        hidden = z * hidden + (1 - z) * candidate
        batch = memory["keys"].shape[0]
        query = ops.reshape(ops.matmul(hidden, w["query"]), (batch, -1, 1, UNITS))
        scores = ops.sum(w["score"] * ops.tanh(query + memory["keys"][:, None]), axis=-1)  # (batch, beam, source)
        context = ops.reshape(ops.matmul(ops.softmax(scores), memory["values"]), (-1, UNITS))
        return ops.matmul(ops.concatenate([hidden, context], axis=-1), w["output"]) + w["end"], hidden

    return step
