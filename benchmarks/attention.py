"""Time of multi-head attention and of the layers of Transformers, for kseq, Keras and keras-hub.

usage: python benchmarks/attention.py [--shapes 32x128x256x4 8x512x512x8 64x30x128x4] [--runs 11]
       [--parts heads "causal heads" "encoder layer" "decoder layer"]

A shape is batch x time x units x heads. Self-attention with a mask of rows that have between half of the steps and all
of them, with equal weights: a training step is a weighted sum of the outputs and its gradient with respect to inputs
and weights. The contenders take turns in one process. The table gives medians in milliseconds and, in brackets, half
the interquartile range.

- heads: self-attention; the rival is Keras's. "with weights": the mean of the heads' weights is read too, which Keras
  does not compute here. causal heads: the same, causal and without padding.
- encoder layer, decoder layer: pre-norm, with a feed-forward part four times as wide; the rival is keras-hub's. The
  decoder's source has the same shape.
- graph, xla: the two modes of TensorFlow.
"""

import argparse
import functools
import itertools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from turns import median_and_spread, take_turns

import kseq

SHAPES = ("32x128x256x4", "8x512x512x8", "64x30x128x4")


def batch_of(batch, time, units):
    """Return values, the weights of the sum, and a mask."""
    random = np.random.default_rng(0)
    values, outer = (tf.constant(random.normal(size=(batch, time, units)).astype("float32")) for _ in range(2))
    lengths = random.integers(time // 2, time + 1, size=batch)
    return values, outer, tf.constant(np.arange(time) < lengths[:, None])


def heads_of(units, heads, *, causal):
    """Return functions from values and a mask to outputs and what else is read, and the weights of each, by name."""
    ours = kseq.attention.MultiHeadAttention(heads, units // heads, causal=causal)
    theirs = keras.layers.MultiHeadAttention(heads, units // heads)
    for layer in (ours, theirs):
        layer.build((None, None, units), (None, None, units))
    theirs.set_weights(ours.get_weights())

    def of_rival(values, mask):
        # The mask of causal attention alone, of which Keras makes an operation of its own.
        given = {"use_causal_mask": True} if causal else {"attention_mask": mask[:, None]}
        return theirs(values, values, **given), ()

    def of_kseq(values, mask):
        return ours(values, values, memory_mask=None if causal else mask)[0], ()

    def with_weights(values, mask):
        return ours(values, values, memory_mask=None if causal else mask)[:2]

    return {
        "rival": (of_rival, theirs.trainable_variables),
        "kseq": (of_kseq, ours.trainable_variables),
        "kseq, with weights": (with_weights, ours.trainable_variables),
    }


def block_of(units, heads, *, decoder):
    """Return the same for a layer of a Transformer, whose rival is keras-hub's."""
    kinds = (
        (kseq.layers.TransformerDecoderLayer, keras_hub.layers.TransformerDecoder)
        if decoder
        else (kseq.layers.TransformerEncoderLayer, keras_hub.layers.TransformerEncoder)
    )
    ours, theirs = kinds[0](heads, 4 * units, norm_first=True), kinds[1](4 * units, heads, normalize_first=True)
    values = [tf.zeros((1, 2, units))] * (2 if decoder else 1)
    ours(*values)
    theirs(*values)

    def of_rival(values, mask):
        if decoder:
            return theirs(values, values, decoder_padding_mask=mask, encoder_padding_mask=mask), ()
        return theirs(values, padding_mask=mask), ()

    def of_kseq(values, mask):
        return ours(values, *([values] * decoder), mask=mask, **({"source_mask": mask} if decoder else {})), ()

    return {"rival": (of_rival, theirs.trainable_variables), "kseq": (of_kseq, ours.trainable_variables)}


PARTS = {
    "heads": functools.partial(heads_of, causal=False),
    "causal heads": functools.partial(heads_of, causal=True),
    "encoder layer": functools.partial(block_of, decoder=False),
    "decoder layer": functools.partial(block_of, decoder=True),
}


def training_step(attend, variables, batch, xla):
    """Return a function that computes outputs and gradients, and returns the gradient of the values."""

    @tf.function(jit_compile=xla, autograph=False)
    def function(values, outer, mask):
        with tf.GradientTape() as tape:
            tape.watch(values)
            context, more = attend(values, mask)
            total = tf.reduce_sum(context * outer)
        return tape.gradient(total, [values, *variables]), more

    return lambda: function(*batch)[0][0].numpy()


def forward(attend, _, batch, xla):
    """Return a function that computes and returns the outputs."""
    function = tf.function(lambda values, _, mask: attend(values, mask), jit_compile=xla, autograph=False)
    return lambda: function(*batch)[0].numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="*", default=[*PARTS], choices=[*PARTS])
    parser.add_argument("--shapes", nargs="*", default=SHAPES)
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    print(
        f"CPU, {os.cpu_count()} cores, float32, median ms of {options.runs} runs; tensorflow {tf.__version__}, keras "
        f"{keras.__version__}, keras-hub {keras_hub.__version__}, kseq {kseq.__version__}\n"
    )
    print(f"| part | shape | work | mode | rival | kseq | with weights | ratio |\n{'|---' * 8}|")
    for part, text in itertools.product(options.parts, options.shapes):
        *shape, heads = map(int, text.split("x"))
        batch = batch_of(*shape)
        for work, mode in itertools.product(("training", "forward"), ("graph", "xla")):
            make = {"training": training_step, "forward": forward}[work]
            layers = PARTS[part](shape[-1], heads)
            functions = {name: make(*each, batch, mode == "xla") for name, each in layers.items()}
            if work == "forward" and "heads" in part:  # with equal weights
                real = True if "causal" in part else batch[2].numpy()[..., None]
                rival, own, *_ = (np.where(real, function(), 0.0) for function in functions.values())
                np.testing.assert_allclose(own, rival, atol=1e-3)
            times = take_turns(functions, options.runs)
            ratio = np.median(times["rival"]) / np.median(times["kseq"])
            cells = [median_and_spread(each) for each in times.values()]
            print(f"| {part} | {text} | {work} | {mode} | {' | '.join([*cells, ''][:3])} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
