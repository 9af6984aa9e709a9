"""Speed of a Transformer decoder's steps and of beam search over them, for kseq and keras-hub.

usage: python benchmarks/transformer_decoding.py [--batches 1 8] [--tokens 256] [--written 60] [--runs 7]

A decoder of 4 layers, 256 wide, 4 heads, 8,000 tokens and 50 source steps, in float32, on equal weights. The contenders
take turns in one process; the tables give medians in milliseconds and, in brackets, half the interquartile range.

- step: the logits of the next token after a number of tokens, by running the whole decoder again over all of them, as
  without a cache; and with the cache, a step of a greedy search that writes as many, in a cache of just that size.
- beam search of width 4: kseq's, over the cache that beams do not move; and keras-hub's `BeamSampler` over its own
  layers with their caches, which it reorders, while the keys of the source are computed once, as in its models. The end
  token is impossible, so that both write all tokens. same: the share of rows with the same best hypothesis.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from keras import ops
from turns import median_and_spread, take_turns

import kseq

LAYERS, UNITS, HEADS, VOCABULARY, SOURCE, BOS, EOS, WIDTH = 4, 256, 4, 8000, 50, 2, 3, 4


def make_decoder(most):
    """Return a built decoder that never writes the end token, and an encoded source of a number of rows."""
    decoder = kseq.models.TransformerDecoder(
        VOCABULARY, UNITS, num_layers=LAYERS, num_heads=HEADS, activation="relu", max_length=most
    )
    decoder.build((None, None), kseq.models.Encoded((None, None, UNITS), (None, None), ()))
    end = np.zeros(VOCABULARY, "float32")
    end[EOS] = -1e9
    kernel, _ = decoder.to_logits.get_weights()
    decoder.to_logits.set_weights([4 * kernel, end])
    return decoder


def source_of(batch):
    values = np.random.default_rng(0).normal(size=(batch, SOURCE, UNITS)).astype("float32")
    return kseq.models.Encoded(tf.constant(values), tf.fill((batch, SOURCE), True), ())


def steps(decoder, batch, tokens, xla):
    """Return functions: a search that writes a number of tokens with a cache, and one step after them without."""
    encoded = source_of(batch)
    ids = tf.constant(np.random.default_rng(1).integers(4, VOCABULARY, size=(batch, tokens)).astype("int32"))
    state, memory = decoder.with_room(decoder.initial_state(encoded), tokens), decoder.memory(encoded)
    call = {"bos_id": BOS, "eos_id": EOS, "max_length": tokens}
    search = kseq.decoding.GreedySearch()
    cached = tf.function(
        lambda state: search(decoder.step, state, memory=memory, **call).tokens, jit_compile=xla, autograph=False
    )

    def run_again(ids):
        values = decoder.positions_layer(16.0 * decoder.embedding(ids))
        for layer, of_source in zip(decoder.layers, memory.layers, strict=True):
            values, _ = layer.run(values, of_source)
        return decoder.to_logits(decoder.norm(values[:, -1]))

    whole = tf.function(run_again, jit_compile=xla, autograph=False)
    return {
        "cached": lambda: cached(state).numpy(),
        "recomputed": lambda: whole(ids).numpy(),
    }


def hub_layers(decoder):
    """Return keras-hub's layers with the weights of a decoder."""
    made = []
    for own in decoder.layers:
        layer = keras_hub.layers.TransformerDecoder(4 * UNITS, HEADS, normalize_first=True)
        layer(ops.zeros((1, 2, UNITS)), ops.zeros((1, 2, UNITS)))
        inner = own.feed_forward.get_weights()
        for theirs, weights in (
            (layer._self_attention_layer, own.self_attention.get_weights()),
            (layer._self_attention_layer_norm, own.attention_norm.get_weights()),
            (layer._cross_attention_layer, own.source_attention.get_weights()),
            (layer._cross_attention_layer_norm, own.source_norm.get_weights()),
            (layer._feedforward_layer_norm, own.feed_forward_norm.get_weights()),
            (layer._feedforward_intermediate_dense, inner[:2]),
            (layer._feedforward_output_dense, inner[2:]),
        ):
            theirs.set_weights(weights)
        made.append(layer)
    return made


def hub_search(decoder, written):
    """Return a beam search by keras-hub's sampler and layers."""
    layers, sampler = hub_layers(decoder), keras_hub.samplers.BeamSampler(num_beams=WIDTH)
    room, dim = written + 1, UNITS // HEADS

    def search(values):
        batch = values.shape[0]
        of_source = []
        for layer in layers:  # the keys and values of the source, computed once
            attention = layer._cross_attention_layer
            of_source.append(ops.stack([attention._key_dense(values), attention._value_dense(values)], axis=1))

        def following(prompt, cache, index):
            rows = prompt.shape[0]
            ids = ops.slice(prompt, [0, index - 1], [rows, 1])
            x, new = decoder.positions_layer(16.0 * decoder.embedding(ids), offset=index - 1), []
            repeated = [ops.repeat(each, rows // batch, axis=0) for each in (values, *of_source)]
            for number, (layer, of_layer) in enumerate(zip(layers, repeated[1:], strict=True)):
                x, mine, _ = layer(
                    x,
                    repeated[0],
                    self_attention_cache=cache[:, number],
                    self_attention_cache_update_index=index - 1,
                    cross_attention_cache=of_layer,
                )
                new.append(mine)
            hidden = decoder.norm(x)[:, 0]
            return decoder.to_logits(hidden), hidden, ops.stack(new, axis=1)

        prompt = ops.concatenate([ops.full((batch, 1), BOS), ops.zeros((batch, written), "int32")], axis=1)
        cache = ops.zeros((batch, LAYERS, 2, room, HEADS, dim))
        given = ops.broadcast_to(ops.arange(room) == 0, (batch, room))
        found = sampler(following, ops.cast(prompt, "int32"), cache=cache, index=1, mask=given, stop_token_ids=[EOS])
        return found[:, 1:]

    return search


def searches(decoder, batch, written, xla):
    """Return functions that write tokens by beam search."""
    encoded = source_of(batch)
    strategy = kseq.decoding.BeamSearch(beam_width=WIDTH)

    def of_kseq(values):
        source = encoded._replace(values=values)
        state = decoder.with_room(decoder.initial_state(source), written)
        call = {"memory": decoder.memory(source), "bos_id": BOS, "eos_id": EOS, "max_length": written}
        return strategy(decoder.step, state, **call).tokens[:, 0]

    compiled = {
        name: tf.function(function, jit_compile=xla, autograph=False)
        for name, function in (("kseq", of_kseq), ("keras-hub", hub_search(decoder, written)))
    }
    return {name: lambda function=function: function(encoded.values).numpy() for name, function in compiled.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", nargs="*", type=int, default=[1, 8])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--written", type=int, default=60)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    print(
        f"CPU, {os.cpu_count()} cores, float32, median ms of {options.runs} runs; tensorflow {tf.__version__}, keras "
        f"{keras.__version__}, keras-hub {keras_hub.__version__}, kseq {kseq.__version__}\n"
    )
    decoder = make_decoder(max(options.tokens, options.written))
    print(f"| step after {options.tokens} tokens | mode | cached | recomputed | ratio |\n|---|---|---|---|---|")
    for batch in options.batches:
        for mode in ("graph", "xla"):
            times = take_turns(steps(decoder, batch, options.tokens, mode == "xla"), options.runs)
            times["cached"] = [each / options.tokens for each in times["cached"]]
            ratio = np.median(times["recomputed"]) / np.median(times["cached"])
            cells = " | ".join(median_and_spread(each) for each in times.values())
            print(f"| batch {batch} | {mode} | {cells} | {ratio:.1f} |", flush=True)
    print(f"\n| beam search, {options.written} tokens | mode | kseq | keras-hub | ratio | same |\n{'|---' * 6}|")
    for batch in options.batches:
        for mode in ("graph", "xla"):
            functions = searches(decoder, batch, options.written, mode == "xla")
            answers = [function() for function in functions.values()]
            same = (answers[0] == answers[1]).all(axis=1).mean()
            times = take_turns(functions, options.runs)
            ratio = np.median(times["keras-hub"]) / np.median(times["kseq"])
            cells = " | ".join(median_and_spread(each) for each in times.values())
            print(f"| batch {batch} | {mode} | {cells} | {ratio:.2f} | {same:.0%} |", flush=True)


if __name__ == "__main__":
    main()
