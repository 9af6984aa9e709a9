"""Growth of a search's time, memory and compilations with its output, its beam and the requests.

usage: python benchmarks/decoding_growth.py [--only time memory compilations] [--runs 5]

- time: rows end after a given number of tokens, while `max_length` is 200; the model of `benchmarks/decoding.py`, batch
  8, 2,000 tokens, 50 source steps, compiled by XLA. The state of a row holds the number of tokens after which the step
  ends it; the last line has rows of all lengths together.
- memory: the rise of a process's peak memory by a search, with a model that attends by products to 1,000 source steps
  (additive attention would add an array of batch x width x source x units). The last column is the same with the source
  in the state, where it is repeated and reordered.
- compilations: 100 requests of random lengths up to 64 and of 1 to 32 rows to the compiled signature of one exported
  model, with the default buckets and batch sizes; compilations are counted by XLA's dumps.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from decoding_step import BOS, EOS, UNITS, make_step, make_weights
from keras import ops
from recurrence_growth import peak

import kseq

VOCABULARY, BATCH, WIDTH, MAX_LENGTH, REQUESTS = 2000, 8, 4, 200, 100
BUCKETS, SIZES = (8, 16, 32, 64), (1, 4, 16, 64)


def ending_step(w):
    """A step whose rows end when they have written as many tokens as their state says."""
    step = make_step(w)

    def ending(tokens, state, memory):
        hidden, left = state
        logits, hidden = step(tokens, hidden, memory)
        is_end = ops.arange(VOCABULARY) == EOS
        logits = ops.where(ops.logical_and(is_end, (left <= 1)[:, None]), 1e9, logits)
        return logits, (hidden, left - 1)

    return ending


def print_time(runs):
    w = make_weights(VOCABULARY, 50, BATCH)
    memory = {name: tf.constant(w[name]) for name in ("keys", "values")}
    call = {"memory": memory, "bos_id": BOS, "eos_id": EOS, "max_length": MAX_LENGTH}
    searches = {"greedy": kseq.decoding.GreedySearch(), "beam": kseq.decoding.BeamSearch(beam_width=WIDTH)}
    step = ending_step(w)
    functions = {
        name: tf.function(lambda *state, x=x: x(step, state, **call).lengths, jit_compile=True, autograph=False)
        for name, x in searches.items()
    }
    cases = {str(n): [n] * BATCH for n in (5, 10, 20, 40, 80, MAX_LENGTH)}
    cases["5 to 40"] = np.linspace(5, 40, BATCH).round().astype("int32")
    times = {(case, name): [] for case in cases for name in functions}
    for run in range(-1, runs):
        for case, name in times:
            state = tf.constant(w["state"]), tf.constant(cases[case], tf.int32)
            start = time.perf_counter()
            lengths = functions[name](*state).numpy()
            if run >= 0:
                times[case, name].append(1e3 * (time.perf_counter() - start))
        assert (lengths[:, 0] == cases[case]).all(), lengths
    print(f"| tokens | {' | '.join(f'{name}, ms | per token' for name in functions)} |\n|" + 5 * "---|")
    for case, counts in cases.items():
        medians = [np.median(times[case, name]) for name in functions]
        print(f"| {case} | {' | '.join(f'{ms:.1f} | {ms / max(counts):.2f}' for ms in medians)} |", flush=True)


def dot_step(w):
    """A step that attends by products: what one hypothesis needs of its own is one number a source step."""

    def step(tokens, hidden, memory):
        hidden = ops.tanh(ops.take(w["embedding"], tokens, axis=0) + ops.matmul(hidden, w["query"]))
        query = ops.reshape(hidden, (memory["keys"].shape[0], -1, UNITS))
        weights = ops.softmax(ops.matmul(query, ops.swapaxes(memory["keys"], 1, 2)))  # (batch, beam, source)
        context = ops.reshape(ops.matmul(weights, memory["values"]), (-1, UNITS))
        return ops.matmul(ops.concatenate([hidden, context], axis=-1), w["output"]) + w["end"], hidden

    return step


def print_memory_of(batch, width, source, *, in_state):
    """MB that a search adds to the peak of this process."""

    def searched(batch, width, source):
        w = make_weights(100, source, batch)
        memory, state = {name: tf.constant(w[name]) for name in ("keys", "values")}, tf.constant(w["state"])
        step, options = dot_step(w), {"bos_id": BOS, "eos_id": EOS, "max_length": 40, "beam_width": width}

        def step_of_both(tokens, both):
            logits, hidden = step(tokens, *both)
            return logits, (hidden, both[1])

        def search(state, memory):
            if in_state:
                return kseq.beam_search(step_of_both, (state, memory), **options).tokens
            return kseq.beam_search(step, state, memory=memory, **options).tokens

        function = tf.function(search, autograph=False)
        return lambda: function(state, memory).numpy()

    searched(1, 2, 5)()  # libraries and thread pools come before the measurement
    search = searched(batch, width, source)
    before = peak()
    for _ in range(2):
        search()
    print(peak() - before)


def print_memory():
    source = 1000
    print("| batch | width | source, MB | peak, MB | with the source in the state, MB |\n|" + 5 * "---|")
    for batch, width in ((8, 1), (8, 4), (8, 16), (32, 4)):
        cells = []
        for where in ("memory", "state"):
            run = [sys.executable, __file__, "--memory-of", str(batch), str(width), str(source), where]
            answer = subprocess.run(run, capture_output=True, text=True, check=True)
            cells.append(f"{float(answer.stdout.split()[-1]):.0f}")
        print(f"| {batch} | {width} | {batch * source * 2 * UNITS * 4 / 2**20:.1f} | {' | '.join(cells)} |", flush=True)


def print_compilations():
    encoder = kseq.models.Encoder(100, 32, kseq.cells.GRUCell(64))
    model = kseq.models.Seq2Seq(encoder, kseq.models.Decoder(80, 32, kseq.cells.GRUCell(64)), bos_id=2, eos_id=3)
    strategy = kseq.decoding.BeamSearch(beam_width=WIDTH)
    print("| requests | shapes asked | buckets x batch sizes | of them asked | compilations | median ms | longest ms |")
    print("|" + 7 * "---|")
    with tempfile.TemporaryDirectory() as folder:
        dumps, options = pathlib.Path(folder) / "dumps", {"buckets": BUCKETS, "batch_sizes": SIZES, "max_length": 20}
        version = kseq.export_saved_model(
            model, pathlib.Path(folder) / "model", strategy=strategy, warmup=False, **options
        )
        # XLA itself says what it compiled: one file a module, the signature's function being named `answer`.
        environment = {**os.environ, "XLA_FLAGS": f"--xla_dump_to={dumps} --xla_dump_hlo_as_text"}
        run = [sys.executable, __file__, "--requests-of", str(version)]
        answer = subprocess.run(run, capture_output=True, text=True, check=True, env=environment)
        asked, fitted, median, longest = answer.stdout.split()[-4:]
        count = len(list(dumps.glob("*answer*after_optimizations.txt")))
    print(f"| {REQUESTS} | {asked} | {len(BUCKETS) * len(SIZES)} | {fitted} | {count} | {median} | {longest} |")


def print_requests_of(version):
    """Ask, and print how many shapes were asked, how many of buckets and batch sizes, and milliseconds."""
    answer, random = tf.saved_model.load(version).signatures["serving_xla"], np.random.default_rng(0)
    asked, fitted, times = set(), set(), []
    for _ in range(REQUESTS):
        rows = int(random.integers(1, 33))
        lengths = random.integers(1, random.integers(1, BUCKETS[-1] + 1) + 1, size=rows).astype("int32")
        tokens = random.integers(4, 80, size=(rows, lengths.max())).astype("int32")
        start = time.perf_counter()
        answer(tokens=tf.constant(tokens), lengths=tf.constant(lengths))["tokens"].numpy()
        times.append(1e3 * (time.perf_counter() - start))
        asked.add(tokens.shape)
        fitted.add((min(x for x in SIZES if x >= rows), min(x for x in BUCKETS if x >= lengths.max())))
    print(len(asked), len(fitted), f"{np.median(times):.1f}", f"{max(times):.0f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=["time", "memory", "compilations"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory-of", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--requests-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.requests_of:
        return print_requests_of(options.requests_of)
    if options.memory_of:
        *sizes, where = options.memory_of
        return print_memory_of(*map(int, sizes), in_state=where == "state")
    print(f"CPU, {os.cpu_count()} cores, float32, median of {options.runs} runs; tensorflow {tf.__version__}, "
          f"keras {keras.__version__}, kseq {kseq.__version__}")  # fmt: skip
    for name in options.only:
        print()
        {"time": lambda: print_time(options.runs), "memory": print_memory, "compilations": print_compilations}[name]()
    return None


if __name__ == "__main__":
    main()
