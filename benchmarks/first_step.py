"""Time to a model's first training step, for kseq and for the same model of Keras's own layers.

usage: python benchmarks/first_step.py [--only lstm seq2seq recognizer] [--packages keras kseq] [--modes graph xla]
       [--runs 3]

- lstm: two layers of 256 units over batch 32, 50 steps, 128 features, and a Dense.
- seq2seq: an embedding and a bidirectional LSTM; an LSTM with additive attention; batch 32, 20 tokens on each side.
- recognizer: a convolution that halves 200 frames, two bidirectional LSTMs, CTC; batch 16.

Each measurement is a fresh process, without any compiled code; packages and modes take turns. The table gives medians
in seconds and, in brackets, half the range of the runs.

- import: Keras with TensorFlow, and kseq if used; build: the creation of the model and its weights.
- first step: the first `train_on_batch`. It includes trace, the time in Python's `train_step`, which Keras traces twice
  because the first trace creates the optimizer's variables; and compile, the rest of the difference to the second step:
  building and optimising the graph, and XLA.
- ops: operations in the graph of the training step, including the functions that it calls.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

PHASES = ("import", "build", "first step", "trace", "compile", "second step", "first predict")


def stack_of(package, jit_compile):
    keras, layers = package.keras, package.layers
    model = keras.Sequential(
        [keras.Input((50, 128)), layers.LSTM(256, return_sequences=True), layers.LSTM(256), keras.layers.Dense(10)]
    )
    model.compile("adam", "mse", jit_compile=jit_compile)
    random = np.random.default_rng(0)
    return model, random.normal(size=(32, 50, 128)).astype("float32"), np.zeros((32, 10), "float32")


def seq2seq_of(package, jit_compile):
    keras, size, units = package.keras, 100, 128
    tokens = np.random.default_rng(0).integers(4, size, size=(32, 20)).astype("int32")
    tokens[:, 0], tokens[:, -1] = 2, 3  # begin and end of a target, which kseq requires
    if package.kseq:
        kseq = package.kseq
        encoder = kseq.models.Encoder(size, 64, kseq.cells.LSTMCell(units))
        model = kseq.models.Seq2Seq(encoder, kseq.models.Decoder(size, 64, kseq.cells.LSTMCell(units)))
        model.build()
        model.compile("adam", jit_compile=jit_compile)
        lengths = np.full(32, 20, "int32")
        return model, {"source": tokens, "source_lengths": lengths, "target": tokens, "target_lengths": lengths}, None
    source, target = (keras.Input((None,), dtype="int32") for _ in range(2))
    embed, rnn = keras.layers.Embedding, package.layers.LSTM
    encoder = rnn(units, return_sequences=True, return_state=True)
    values, h, c, *_ = package.layers.Bidirectional(encoder)(embed(size, 64, mask_zero=True)(source))
    hidden = rnn(units, return_sequences=True)(embed(size, 64)(target), initial_state=[h, c])
    keys = keras.layers.Dense(units)(values)
    context = keras.layers.AdditiveAttention()([hidden, keys])
    logits = keras.layers.Dense(size)(keras.layers.Concatenate()([hidden, context]))
    model = keras.Model([source, target], logits)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile("adam", loss, metrics=["sparse_categorical_accuracy"], jit_compile=jit_compile)
    return model, [tokens, tokens[:, :-1]], tokens[:, 1:]


def recognizer_of(package, jit_compile):
    keras, rnn, units = package.keras, package.layers.LSTM, 128
    both = [package.layers.Bidirectional(rnn(units, return_sequences=True)) for _ in range(2)]
    random = np.random.default_rng(0)
    features = random.normal(size=(16, 200, 40)).astype("float32")
    labels = random.integers(1, 30, size=(16, 20)).astype("int32")
    if package.kseq:
        models, full = package.kseq.models, np.full(16, 200, "int32")
        model = models.CTCRecognizer(40, 30, both, front_end=models.FrameConvolutions([64], strides=2))
        model.build()
        model.compile("adam", metrics=[], jit_compile=jit_compile)
        counts = np.full(16, 20, "int32")
        return model, {"features": features, "lengths": full, "labels": labels, "label_lengths": counts}, None
    convolution = keras.layers.Conv1D(64, 3, 2, padding="same", activation="relu")
    model = keras.Sequential([keras.Input((200, 40)), convolution, *both, keras.layers.Dense(30)])
    model.compile("adam", keras.losses.CTC(), jit_compile=jit_compile)
    return model, features, labels


WORKS = {"lstm": stack_of, "seq2seq": seq2seq_of, "recognizer": recognizer_of}
Package = collections.namedtuple("Package", "keras layers kseq")


def seconds_of_calls(model, name):
    """Replace a method of the model by one that appends the seconds of each call to the returned list."""
    method, taken = getattr(model, name), []

    def measured(*args, **kwargs):
        start = time.perf_counter()
        result = method(*args, **kwargs)
        taken.append(time.perf_counter() - start)
        return result

    setattr(model, name, measured)
    return taken


def count_operations(model, x, y):
    """Return the number of operations of a training step, which is traced once more."""
    import tensorflow as tf

    data = tf.nest.map_structure(tf.convert_to_tensor, (x,) if y is None else (x, y))
    step = tf.function(model.train_step, autograph=False).get_concrete_function(data)
    # One line each in the text form: the operations of the graph, and of the functions that it calls.
    return len(re.findall(r'^ +op: "', str(step.graph.as_graph_def()), flags=re.MULTILINE))


def measure(work, package_name, mode):
    """Print the seconds of each phase and the number of operations as JSON."""
    times = [time.perf_counter()]
    import keras

    kseq = None
    if package_name == "kseq":
        import kseq
    keras.ops.zeros(())  # starts the runtime
    times.append(time.perf_counter())
    package = Package(keras, (kseq or keras).layers, kseq)
    model, x, y = WORKS[work](package, mode == "xla")
    times.append(time.perf_counter())
    trace = seconds_of_calls(model, "train_step")
    for _ in range(2):
        model.train_on_batch(x, y)
        times.append(time.perf_counter())
    model.predict_on_batch(x)
    times.append(time.perf_counter())
    took = dict(zip(("import", "build", "first step", "second step", "first predict"), np.diff(times), strict=True))
    took["trace"] = sum(trace)
    took["compile"] = took["first step"] - took["second step"] - took["trace"]
    print(json.dumps(took | {"ops": count_operations(model, x, y)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(WORKS), choices=WORKS)
    parser.add_argument("--packages", nargs="*", default=["keras", "kseq"])
    parser.add_argument("--modes", nargs="*", default=["graph", "xla"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(*options.measure)
    versions = "import tensorflow, keras, kseq; print(*(x.__version__ for x in (tensorflow, keras, kseq)))"
    answer = subprocess.run([sys.executable, "-c", versions], capture_output=True, text=True, check=True)
    tensorflow, keras, kseq = answer.stdout.split()
    print(f"CPU, {os.cpu_count()} cores, float32, median s of {options.runs} processes; tensorflow {tensorflow}, "
          f"keras {keras}, kseq {kseq}")  # fmt: skip
    print("| model | layers | mode | " + " | ".join(PHASES) + " | ops |\n|" + "---|" * (len(PHASES) + 4))
    for work in options.only:
        runs = collections.defaultdict(list)
        for _ in range(options.runs):
            for mode in options.modes:
                for package in options.packages:
                    command = [sys.executable, __file__, "--measure", work, package, mode]
                    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                    runs[package, mode].append(json.loads(answer.stdout.splitlines()[-1]))
        for (package, mode), measured in runs.items():
            cells = [work, package, mode]
            for phase in PHASES:
                seconds = [run[phase] for run in measured]
                cells.append(f"{np.median(seconds):.2f} ({np.ptp(seconds) / 2:.2f})")
            print("| " + " | ".join([*cells, str(measured[0]["ops"])]) + " |", flush=True)
    return None


if __name__ == "__main__":
    main()
