"""Time of a train step of `kseq.layers.AttentionRNN`, and of the same layer written with Keras alone.

usage: python benchmarks/attention_rnn.py [--shape 64x50x50x256] [--runs 7]

The rival is `keras.layers.RNN` around a cell that calls a GRU cell, `keras.layers.AdditiveAttention` with projections,
and a Dense layer, with input feeding and the keys projected once before the loop. All take turns in one process on the
same input: in a plain graph (in which kseq compiles the loop by itself), compiled by XLA as a whole, and in `fit`. The
table gives medians in milliseconds, and in brackets half the interquartile range.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from recurrence import heading
from turns import median_and_spread, take_turns

import kseq


class RivalCell(keras.layers.Layer):
    """One step: a GRU with input feeding, then attention to the memory that the layer around has set."""

    def __init__(self, units):
        super().__init__()
        self.state_size, self.output_size = [units, units], units
        self.cell = keras.layers.GRUCell(units)
        self.query, self.attention = keras.layers.Dense(units), keras.layers.AdditiveAttention()
        self.combine = keras.layers.Dense(units, use_bias=False, activation="tanh")

    def build(self, input_shape):  # noqa: D102
        units = self.output_size
        self.cell.build((None, input_shape[-1] + units))
        self.query.build((None, units))
        self.attention.build([(None, 1, units), (None, None, units), (None, None, units)])
        self.combine.build((None, 2 * units))

    def call(self, inputs, states):  # noqa: D102
        output, hidden = self.cell(ops.concatenate([inputs, states[1]], -1), states[:1])
        keys, values = self.memory
        context = self.attention([self.query(output)[:, None], values, keys])[:, 0]
        fed = self.combine(ops.concatenate([output, context], -1))
        return fed, [*hidden, fed]


class Rival(keras.layers.Layer):
    """The rival's cell over a sequence."""

    def __init__(self, units):
        super().__init__()
        self.keys = keras.layers.Dense(units, use_bias=False)
        self.cell = RivalCell(units)
        self.rnn = keras.layers.RNN(self.cell, return_sequences=True)

    def build(self, inputs_shape, memory_shape):  # noqa: D102
        self.keys.build(memory_shape)
        self.rnn.build(inputs_shape)

    def call(self, inputs, memory):  # noqa: D102
        self.cell.memory = (self.keys(memory), memory)
        return self.rnn(inputs)


def ours(units):
    return kseq.layers.AttentionRNN(
        kseq.cells.GRUCell(units),
        kseq.attention.AdditiveAttention(units),
        attention_layer_size=units,
        attention_activation="tanh",
        return_sequences=True,
    )


def train_step(layer, inputs, memory, xla):
    layer(inputs[:1], memory[:1])
    tensors = [tf.constant(inputs), tf.constant(memory)]

    @tf.function(jit_compile=xla, autograph=False)
    def step():
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            loss = tf.reduce_mean(tf.square(layer(*tensors, training=True)))
        return tape.gradient(loss, [*tensors, *(v.value for v in layer.trainable_variables)])

    return lambda: [x.numpy() for x in step()[:1]]


def fit_step(layer, inputs, memory, xla):
    given = keras.Input(inputs.shape[1:]), keras.Input(memory.shape[1:])
    model = keras.Model(given, layer(*given))
    model.compile("sgd", "mse", jit_compile=xla)
    targets = np.zeros_like(inputs)
    return lambda: model.train_on_batch([inputs, memory], targets)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="64x50x50x256", help="batch x steps x source steps x units and features")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    batch, steps, source, units = map(int, options.shape.split("x"))
    random = np.random.default_rng(0)
    inputs, memory = (random.normal(size=(batch, time, units)).astype("float32") for time in (steps, source))
    functions = {}
    for mode, (make, xla) in {
        "graph": (train_step, False),
        "XLA": (train_step, True),
        "fit": (fit_step, False),
        "fit, XLA": (fit_step, True),
    }.items():
        functions["kseq", mode] = make(ours(units), inputs, memory, xla)
        functions["keras", mode] = make(Rival(units), inputs, memory, xla)
    print(heading(f"{options.shape}, train step, median ms of {options.runs} runs"))
    times = take_turns(functions, options.runs)
    print("| mode | kseq | keras | ratio |\n|---|---|---|---|")
    for mode in dict.fromkeys(mode for _, mode in functions):
        own, rival = times["kseq", mode], times["keras", mode]
        ratio = np.median(rival) / np.median(own)
        print(f"| {mode} | {median_and_spread(own)} | {median_and_spread(rival)} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
