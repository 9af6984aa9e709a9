"""Speed of beam search: kseq, keras-hub's BeamSampler and a batched loop in PyTorch, on the same weights.

usage: python benchmarks/decoding.py [--cases 8000x50 100x50 100x400] [--batches 1 8 32] [--widths 1 4 8] [--runs 9]
       [--graph]

A GRU of 256 units with additive attention writes 40 tokens; a case is vocabulary x source steps. The end token is
impossible, so that every search writes all 40. kseq and keras-hub drive one step function, which gets the source as a
memory that beams neither repeat nor reorder; a sampler with the source in its cache is slower. All run in turn in each
round, in one process; the table gives medians in milliseconds and, in brackets, half the interquartile range.

- same: the share of rows with the same best hypothesis as kseq's, in the order of the columns.
- --graph: kseq and keras-hub as plain graphs too, without XLA.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from decoding_step import BOS, EOS, LENGTH, UNITS, make_step, make_weights
from turns import median_and_spread, take_turns

import kseq

try:
    import keras_hub
except ImportError as error:
    keras_hub, NO_HUB = None, error
try:
    import torch
except ImportError as error:
    torch, NO_TORCH = None, error


def kseq_search(step, w, width):
    def search(state, memory):
        options = {"bos_id": BOS, "eos_id": EOS, "max_length": LENGTH, "beam_width": width}
        return kseq.beam_search(step, state, memory=memory, **options).tokens[:, 0]

    return search


def hub_search(step, w, width):
    sampler = keras_hub.samplers.BeamSampler(num_beams=width)

    def search(state, memory):
        options = {"bos_id": BOS, "eos_id": EOS, "max_length": LENGTH}
        return kseq.decoding.sample_with_keras_hub(sampler, step, state, memory=memory, **options)

    return search


def hub_search_with_cache(step, w, width):
    """The same with the source in the sampler's cache, which it repeats and reorders as its beams."""
    sampler = keras_hub.samplers.BeamSampler(num_beams=width)

    def cached_step(tokens, cache):
        logits, hidden = step(tokens, *cache)
        return logits, (hidden, cache[1])

    def search(state, memory):
        options = {"bos_id": BOS, "eos_id": EOS, "max_length": LENGTH}
        return kseq.decoding.sample_with_keras_hub(sampler, cached_step, (state, memory), **options)

    return search


def torch_search(w, width):
    w = {name: torch.from_numpy(value) for name, value in w.items()}
    batch, vocabulary = len(w["state"]), len(w["embedding"])
    first = torch.full((batch, width), -1e9)
    first[:, 0] = 0
    row = torch.arange(batch)[:, None] * width

    @torch.inference_mode()
    def search():
        hidden = w["state"].repeat_interleave(width, dim=0)
        last = torch.full((batch * width,), BOS)
        written, totals = torch.zeros(batch * width, LENGTH, dtype=torch.long), first
        for position in range(LENGTH):
            projected, recurrent = w["embedding"][last] @ w["kernel"], hidden @ w["recurrent"]
            z, r = torch.sigmoid(projected[:, : 2 * UNITS] + recurrent[:, : 2 * UNITS]).chunk(2, dim=1)
            candidate = torch.tanh(projected[:, 2 * UNITS :] + r * recurrent[:, 2 * UNITS :])
            hidden = z * hidden + (1 - z) * candidate
            query = (hidden @ w["query"]).view(batch, width, 1, UNITS)
            scores = torch.tanh(query + w["keys"][:, None]) @ w["score"]
            context = (torch.softmax(scores, -1) @ w["values"]).view(-1, UNITS)
            logits = torch.addmm(w["end"], torch.cat([hidden, context], 1), w["output"])
            every = totals[..., None] + torch.log_softmax(logits, -1).view(batch, width, vocabulary)
            totals, index = every.view(batch, -1).topk(width)
            rows = (row + index // vocabulary).view(-1)
            last = (index % vocabulary).view(-1)
            hidden, written = hidden[rows], written[rows]
            written[:, position] = last
        return written.view(batch, width, LENGTH)[:, 0].numpy()

    return search


def contenders(w, width, graph):
    step, state = make_step(w), tf.constant(w["state"])
    memory = {name: tf.constant(w[name]) for name in ("keys", "values")}
    searches = {"kseq": kseq_search(step, w, width)}
    if keras_hub is not None:
        searches["keras-hub"] = hub_search(step, w, width)
        searches["keras-hub, source in its cache"] = hub_search_with_cache(step, w, width)
    functions = {}
    for form in ("xla", "graph") if graph else ("xla",):
        for name, search in searches.items():
            function = tf.function(search, jit_compile=form == "xla", autograph=False)
            functions[f"{name} {form}"] = lambda function=function: function(state, memory).numpy()
    return functions | ({} if torch is None else {"torch": torch_search(w, width)})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=["8000x50", "100x50", "100x400"])
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8, 32])
    parser.add_argument("--widths", nargs="*", type=int, default=[1, 4, 8])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--graph", action="store_true")
    options = parser.parse_args()
    notes = ([f"no keras-hub: {NO_HUB}"] if keras_hub is None else []) + (
        [f"no torch: {NO_TORCH}"] if torch is None else [f"torch {torch.__version__}"]
    )
    machine = f"CPU, {os.cpu_count()} cores, float32, {LENGTH} steps, median ms of {options.runs} runs"
    print("; ".join([machine, f"tensorflow {tf.__version__}, keras {keras.__version__}", *notes]))
    for case in options.cases:
        vocabulary, source = map(int, case.split("x"))
        for batch in options.batches:
            for width in options.widths:
                functions = contenders(make_weights(vocabulary, source, batch), width, options.graph)
                times = take_turns(functions, options.runs)
                answers = {name: function() for name, function in functions.items()}
                ours = np.median(times["kseq xla"])
                cells = [
                    f"{name}: {median_and_spread(runs)}, x{np.median(runs) / ours:.2f}" for name, runs in times.items()
                ]
                same = [f"{(answers[name] == answers['kseq xla']).all(1).mean():.2f}" for name in answers]
                print(f"| {case} | batch {batch} | width {width} | {' | '.join(cells)} | same {same} |", flush=True)


if __name__ == "__main__":
    main()
