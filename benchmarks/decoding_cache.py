"""Cost of a Transformer's cache in decoding: per token as it fills, and of its reordering with the beam.

usage: python benchmarks/decoding_cache.py [--runs 5] [--produced 25 50 100 200] [--batch 8] [--width 4]

A decoder of 6 layers, 512 wide, 8 heads, with a self-attention cache and 8,000 tokens, compiled by XLA. The first table
gives milliseconds per token of greedy and of beam search after a number of tokens, beside those of the bare step on as
many rows in a loop without a search:

- with room for 224 tokens, all of which the step attends to at every position through a mask;
- with room for only the tokens that are written, so that the cost of attention grows with their number.

The second gives the share of reordering in the time of a beam search, measured by leaving it out: once for the cache as
an ordinary state, which is copied whole at every step, and once as a `kseq.decoding.UnmovedState`. Times are
differences between a longer and a shorter search, so that the fixed cost of a search is not in them; medians of runs
taken in turn.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import ops

import kseq
from kseq.backend import while_loop
from kseq.decoding import UnmovedState, look_back, search_loop

LAYERS, WIDTH, HEADS, VOCABULARY, ROOM = 6, 512, 8, 8000, 224
SHORT, LONG, BOS, EOS = 8, 24, 1, 2


def make_weights():
    random = np.random.default_rng(0)

    def normal(*shape):
        return (random.normal(size=shape) / np.sqrt(shape[0])).astype("float32")

    return {
        "embedding": 20 * normal(VOCABULARY, WIDTH),
        "layers": [
            {
                "qkv": normal(WIDTH, 3 * WIDTH),
                "joined": normal(WIDTH, WIDTH),
                "up": normal(WIDTH, 4 * WIDTH),
                "down": normal(4 * WIDTH, WIDTH),
            }
            for _ in range(LAYERS)
        ],
        "output": 3 * normal(WIDTH, VOCABULARY),
    }


def make_state(batch, room, produced, end, *, unmoved):
    """As if `produced` tokens had been read; the step writes `EOS` when it has read `end`."""
    cache = tf.random.stateless_normal((batch, HEADS, room, WIDTH // HEADS), (0, 1))
    caches = [[UnmovedState(cache) if unmoved else cache for _ in range(2)] for _ in range(LAYERS)]
    counts = {"position": tf.fill([batch], produced), "end": tf.fill([batch], end)}
    return {**counts, "places": tf.zeros((batch, room), tf.int32), "caches": caches}


def norm(x):
    centred = x - ops.mean(x, axis=-1, keepdims=True)
    return centred * ops.rsqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + 1e-5)


def attend(projected, cache, position, seen):
    """Write keys and values `(rows, width)`, and attend to what each hypothesis has seen."""
    batch, beam = seen.shape[:2]
    depth = WIDTH // HEADS
    query, *new = (ops.reshape(x, (batch, beam * HEADS, 1, depth)) for x in ops.split(projected, 3, axis=-1))
    keys, values = (ops.slice_update(old, (0, 0, position, 0), x) for old, x in zip(cache, new, strict=True))
    query = ops.transpose(ops.reshape(query, (batch, beam, HEADS, depth)), (0, 2, 1, 3))
    scores = ops.matmul(ops.tile(query, (1, beam, 1, 1)), ops.swapaxes(keys, 2, 3)) / np.sqrt(depth)
    room = scores.shape[-1]
    scores = ops.where(seen[:, :, None], ops.reshape(scores, (batch, beam, HEADS, beam, room)), -1e30)
    weights = ops.exp(scores - ops.max(scores, axis=(1, 4), keepdims=True))
    weights = weights / ops.sum(weights, axis=(1, 4), keepdims=True)  # over places and positions
    context = ops.matmul(ops.reshape(weights, (batch, beam * HEADS, beam, room)), values)
    context = ops.sum(ops.reshape(context, (batch, beam, HEADS, beam, depth)), axis=1)
    return ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (batch * beam, WIDTH)), [keys, values]


def make_step(w):
    def step(tokens, state):
        caches, position = state["caches"], ops.max(state["position"])
        stays = isinstance(caches[0][0], UnmovedState)
        tensors = [[cache.values for cache in pair] for pair in caches] if stays else caches
        beam = tensors[0][0].shape[1] // HEADS
        places, seen = look_back(state["places"], position, beam)
        x, written = ops.take(w["embedding"], tokens, axis=0), []
        for layer, pair in zip(w["layers"], tensors, strict=True):
            context, pair = attend(ops.matmul(norm(x), layer["qkv"]), pair, position, seen)
            x = x + ops.matmul(context, layer["joined"])
            x = x + ops.matmul(ops.relu(ops.matmul(norm(x), layer["up"])), layer["down"])
            written.append([UnmovedState(cache) if stays else cache for cache in pair])
        is_end = ops.arange(VOCABULARY) == EOS
        ends = (position + 1 >= state["end"])[:, None]
        logits = ops.where(is_end, ops.where(ends, 1e9, -1e9), ops.matmul(norm(x), w["output"]))
        return logits, {**state, "position": state["position"] + 1, "places": places, "caches": written}

    return step


def bare(step, rows):
    """The step in a loop, without a search."""

    def loop(state):
        def body(now):
            logits, new = step(*now)
            return ops.cast(ops.argmax(logits, axis=-1), "int32"), new

        start = (ops.full((rows,), BOS, dtype="int32"), state)
        return while_loop(lambda now: ops.max(now[1]["position"]) < ops.max(now[1]["end"]), body, start)[0]

    return loop


def searched(step, width, room):
    options = {"bos_id": BOS, "eos_id": EOS, "max_length": room}
    if width == 1:
        return lambda state: kseq.greedy_search(step, state, **options).lengths
    return lambda state: kseq.beam_search(step, state, beam_width=width, **options).lengths


def compiled(function):
    return tf.function(function, jit_compile=True, autograph=False)


def per_token(functions, runs):
    """Milliseconds per token of each; `{name: (function, state of a number of tokens to write)}`."""
    times = {name: {SHORT: [], LONG: []} for name in functions}
    states = {name: {count: state(count) for count in (SHORT, LONG)} for name, (_, state) in functions.items()}
    for run in range(-1, runs):
        for name, (function, _) in functions.items():
            for count, state in states[name].items():
                start = time.perf_counter()
                function(state).numpy()
                if run >= 0:
                    times[name][count].append(1e3 * (time.perf_counter() - start))
    return {name: (np.median(x[LONG]) - np.median(x[SHORT])) / (LONG - SHORT) for name, x in times.items()}


def growth(step, options):
    print("| produced | " + " | ".join(f"{name}, room for {room}" for room in (ROOM, "them")
          for name in ("greedy", "its step", "beam", "its step")) + " |\n|" + 9 * "---|")  # fmt: skip
    widths = (1, options.width)

    def made(room):
        return {
            (name, width): compiled(make)
            for width in widths
            for name, make in (("search", searched(step, width, room)), ("bare", bare(step, options.batch * width)))
        }

    shared = made(ROOM)
    for produced in options.produced:
        cells = []
        for room, functions in ((ROOM, shared), (produced, made(produced))):
            before = min(produced, room - LONG)

            def state(name, width, room=room, before=before):
                # The bare step starts as a beam does, with as many places: the rows' own, filled alike.
                def of(count):
                    made = make_state(options.batch, room, before, before + count, unmoved=True)
                    return search_loop.spread_rows(made, width) if name == "bare" else made

                return of

            times = per_token({key: (function, state(*key)) for key, function in functions.items()}, options.runs)
            cells += [f"{times[name, width]:.2f}" for width in widths for name in ("search", "bare")]
        print(f"| {produced} | {' | '.join(cells)} |", flush=True)


def reordering(step, options):
    print("\n| cache | ms per token | without reordering | share of reordering |\n|---|---|---|---|")
    take_rows = search_loop.take_rows
    for name, unmoved in (("ordinary state", False), ("unmoved", True)):
        functions = {}
        for reorders in (True, False):
            search_loop.take_rows = take_rows if reorders else lambda nest, _: nest
            function = compiled(searched(step, options.width, ROOM))
            function(make_state(options.batch, ROOM, 0, 1, unmoved=unmoved))  # traced while it is patched
            functions[reorders] = (
                function,
                lambda count, unmoved=unmoved: make_state(options.batch, ROOM, 100, 100 + count, unmoved=unmoved),
            )
        search_loop.take_rows = take_rows
        times = per_token(functions, options.runs)
        print(f"| {name} | {times[True]:.2f} | {times[False]:.2f} | {1 - times[False] / times[True]:.0%} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--produced", nargs="*", type=int, default=[25, 50, 100, 200])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=int, default=4)
    options = parser.parse_args()
    print(f"CPU, {os.cpu_count()} cores, float32, batch {options.batch}, width {options.width}, median ms of "
          f"{options.runs} runs; tensorflow {tf.__version__}, keras {keras.__version__}, "
          f"kseq {kseq.__version__}")  # fmt: skip
    step = make_step(make_weights())
    growth(step, options)
    reordering(step, options)


if __name__ == "__main__":
    main()
