"""Time of recurrent layers, forward pass and train step, for kseq, Keras and PyTorch.

usage: [KERAS_BACKEND=jax] python benchmarks/recurrence.py [--kinds LSTM GRU ...] [--shapes 64x100x256x512 ...]
       [--masked] [--dtype mixed_bfloat16] [--runs 11]

A shape is batch x steps x input features x units. The contenders take turns in one process, on the same input. The
table gives medians in milliseconds and, in brackets, half the interquartile range.

- keras: the same layer of Keras, if there is one; RNN(cell): the same cell inside `keras.layers.RNN`, step by step.
- graph, xla: the two modes of TensorFlow; jit: the mode of JAX.
- product: this machine's rate of multiplying matrices of the layer's shapes, with all steps in one product. For train
  steps also the fraction of that rate that kseq reaches in its better mode, counting only unavoidable products.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import torch
from keras import ops
from turns import median_and_spread, take_turns

import kseq

SHAPES = ("64x100x256x512", "32x50x128x256", "16x400x64x128", "1x50x128x256", "8x2000x80x256", "256x20x64x64")
GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1, "LayerNormLSTM": 4, "PeepholeLSTM": 4}
TORCH = {"LSTM": "LSTM", "GRU": "GRU", "SimpleRNN": "RNN"}
ON_JAX = keras.backend.backend() == "jax"

if ON_JAX:
    import jax
else:
    import tensorflow as tf


def loss(outputs):
    return ops.mean(ops.square(ops.cast(outputs, "float32")))


def compiled(layer, train, jit_compile, mask):
    """Return a compiled function of the inputs: the outputs, or in training the gradients of all weights."""
    if ON_JAX:
        rest = [v.value for v in layer.non_trainable_variables]

        def forward(weights, x):
            return layer.stateless_call(weights, rest, x, mask=mask, training=train)[0]

        weights = [v.value for v in layer.trainable_variables]
        function = jax.jit(jax.grad(lambda w, x: loss(forward(w, x))) if train else forward)
        return lambda x: jax.block_until_ready(function(weights, x))

    @tf.function(jit_compile=jit_compile, autograph=False)
    def function(x):
        if not train:
            return [layer(x, mask=mask, training=False)]
        with tf.GradientTape() as tape:
            value = loss(layer(x, mask=mask, training=True))
        return tape.gradient(value, layer.trainable_weights)

    return lambda x: [ops.convert_to_numpy(ops.cast(y, "float32")) for y in function(x)[:1]]


def torch_function(kind, features, units, train):
    layer = getattr(torch.nn, TORCH[kind])(features, units, batch_first=True)

    def step(x):
        if not train:
            with torch.no_grad():
                return layer(x)[0].numpy()
        layer.zero_grad(set_to_none=True)
        layer(x)[0].square().mean().backward()
        return layer.weight_ih_l0.grad.numpy()

    return step


def contenders(kind, shape, train, mask, dtype):
    """Return a dict of each contender's function of the inputs."""
    _, _, features, units = shape
    options = {"return_sequences": True, "dtype": dtype}
    cells = {"keras": keras.layers, "kseq": kseq.cells}["keras" if kind in TORCH else "kseq"]
    cell = getattr(cells, f"{kind}Cell")
    layers = {"RNN(cell)": keras.layers.RNN(cell(units, dtype=dtype), **options)}
    if kind in TORCH:
        layers["keras"] = getattr(keras.layers, kind)(units, **options)
        layers["kseq"] = getattr(kseq.layers, kind)(units, **options)
    else:
        layers["kseq"] = kseq.layers.RNN(cell(units, dtype=dtype), **options)
    made = {}
    for name, layer in layers.items():
        layer.build((None, None, features))
        for mode in ("jit",) if ON_JAX else ("graph", "xla"):
            made[f"{name} {mode}"] = compiled(layer, train, mode == "xla", mask)
    if kind in TORCH and mask is None and dtype == "float32":
        made["torch"] = torch_function(kind, features, units, train)
    return made


def measure(functions, inputs, runs):
    """Return the milliseconds of each function of the inputs, `{name: [run, ...]}`; see `take_turns`."""

    def on_inputs(name, function):
        x = torch.from_numpy(inputs) if name == "torch" else ops.convert_to_tensor(inputs)
        return lambda: function(x)

    return take_turns({name: on_inputs(name, function) for name, function in functions.items()}, runs)


def product_rate(shape, gates, dtype):
    """Return the floating-point operations per second of one product over all steps, of input and state."""
    batch, steps, features, units = shape
    random = np.random.default_rng(0)
    dtype = "bfloat16" if dtype == "mixed_bfloat16" else "float32"
    a = ops.cast(random.normal(size=(batch * steps, features + units)), dtype)
    b = ops.cast(random.normal(size=(features + units, gates * units)), dtype)
    multiply = jax.jit(ops.matmul) if ON_JAX else tf.function(ops.matmul, jit_compile=True, autograph=False)
    times = []
    for _ in range(9):
        start = time.perf_counter()
        result = multiply(a, b)
        np.asarray(ops.cast(result[0, 0], "float32"))
        times.append(time.perf_counter() - start)
    return 2 * batch * steps * (features + units) * gates * units / np.median(times[2:])


def train_operations(shape, gates):
    """Return the operations of a train step's unavoidable products: two forward, two for kernels, one for states."""
    batch, steps, features, units = shape
    return 2 * batch * steps * gates * units * (2 * (features + units) + units)


def heading(what):
    """Return the first line: device, cores, measurement and versions."""
    backend = f"jax {jax.__version__}" if ON_JAX else f"tensorflow {tf.__version__}"
    return (f"CPU, {os.cpu_count()} cores, {what}; {backend}, keras {keras.__version__}, torch {torch.__version__}, "
            f"kseq {kseq.__version__}")  # fmt: skip


def row(kind, shape, train, options):
    """Return one line of the table."""
    batch, steps, _, _ = shape
    inputs = np.random.default_rng(0).normal(size=shape[:3]).astype("float32")
    mask = np.arange(steps) < np.linspace(steps // 2, steps, batch).astype(int)[:, None] if options.masked else None
    times = measure(contenders(kind, shape, train, mask, options.dtype), inputs, options.runs)
    median = {name: float(np.median(runs)) for name, runs in times.items()}

    def best(name):
        return min((value for key, value in median.items() if key.startswith(name)), default=float("nan"))

    cells = [median_and_spread(times[n]) if n in times else "-" for n in options.columns]
    rivals = [f"{best(name) / best('kseq'):.2f}" for name in ("keras", "RNN(cell)", "torch")]
    rate = product_rate(shape, GATES[kind], options.dtype)
    reached = train_operations(shape, GATES[kind]) / (best("kseq") / 1e3) / rate
    last = f"{rate / 1e9:.0f} GF/s, {reached:.0%}" if train else f"{rate / 1e9:.0f} GF/s"
    return " | ".join([kind, str(shape), "train" if train else "forward", *cells, *rivals, last])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="*", default=list(GATES))
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    parser.add_argument("--masked", action="store_true", help="rows of unequal lengths")
    parser.add_argument("--dtype", default="float32", choices=["float32", "mixed_bfloat16"])
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    modes = ("jit",) if ON_JAX else ("graph", "xla")
    options.columns = [*(f"{name} {mode}" for name in ("keras", "RNN(cell)", "kseq") for mode in modes), "torch"]
    masked = "masked, " if options.masked else ""
    print(heading(f"{options.dtype}, {masked}median ms of {options.runs} runs"))
    head = ["layer", "batch, steps, input, units", "pass", *options.columns, "keras / kseq", "RNN(cell) / kseq",
            "torch / kseq", "product"]  # fmt: skip
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for kind in options.kinds:
        for shape in (tuple(map(int, text.split("x"))) for text in options.shapes):
            for train in (False, True):
                print("| " + row(kind, shape, train, options) + " |", flush=True)


if __name__ == "__main__":
    main()
