"""A language model of characters: "ROMEO:" and what it writes after that, by a recurrent network.

usage: python examples/shakespeare.py --data FOLDER [--layers 2] [--units 384] [--epochs 16] [--output build/models/...]

FOLDER holds input.txt, such as the 1.1 million characters of Shakespeare's plays of A. Karpathy's char-rnn. Trains on
the first 90 % by truncated backpropagation through time, whose state goes on from batch to batch, and prints the loss
on the last 10 %, in nats per character. The textbooks' model has `--layers 3 --units 512`. Then it writes texts at
three temperatures, exports the model to --output, and starts kseq-serve and asks it over REST and gRPC. --trained FILE
loads a model instead of training; with KERAS_BACKEND=jax, as on a GPU, the example ends after saving one, and says how
TensorFlow goes on. Needs `pip install "kseq[text,serving]"`.
"""

import argparse
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import served
from other_backend import goes_on_elsewhere

import kseq

REFERENCES = """\
  1.88 nanoGPT, a small Transformer, 3 minutes on a CPU (A. Karpathy 2022)
  1.67 5-grams of characters
  1.47 nanoGPT, a larger one, 3 minutes on a GPU"""
PROMPTS = ["ROMEO:\n", "To be, or not", "What is the "]
BUCKETS = (16, 64)  # lengths to which the server pads prompts


def make_model(tokenizer, options):
    cell = kseq.cells.WeightDropCell(kseq.cells.LSTMCell(options.units), options.weight_drop)
    encoder = kseq.models.Encoder(
        tokenizer.vocabulary_size, options.embedding, cell, num_layers=options.layers, bidirectional=False,
        dropout=options.dropout,
    )  # fmt: skip
    return kseq.models.LanguageModel(encoder, bos_id=None, dropout=options.dropout, tokenizer=tokenizer)


def train(model, ids, last, options):
    """Train the model, with the loss on the batches `last` after each epoch."""
    batches = kseq.training.continuous_batches(ids, options.batch_size, options.steps)
    total = options.epochs * len(batches)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, total, alpha=0.02, warmup_target=options.learning_rate, warmup_steps=min(200, total // 10)
    )
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True)
    model.fit(batches, epochs=options.epochs, validation_data=last)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--units", type=int, default=384)
    parser.add_argument("--embedding", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.25)
    parser.add_argument("--weight_drop", type=float, default=0.0, help="share of the recurrent weights dropped")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=100, help="length of the chunks of backpropagation through time")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--characters", type=int, help="train on this many characters, for trials")
    parser.add_argument("--trained", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/shakespeare"))
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    started = time.monotonic()
    text = (options.data / "input.txt").read_text(encoding="utf-8")
    tokenizer = kseq.text.CharacterTokenizer().adapt([text])
    ids = tokenizer.tokenize([text]).flat_values.numpy()
    split = int(0.9 * len(ids))
    last = kseq.training.continuous_batches(ids[split:], min(32, max(1, (len(ids) - split) // 100)), options.steps)
    model = keras.saving.load_model(options.trained) if options.trained else make_model(tokenizer, options)
    if not options.trained:
        train(model, ids[:split][: options.characters], last, options)
    loss = model.evaluate(last, verbose=0, return_dict=True)["loss"]
    minutes = (time.monotonic() - started) / 60
    print(f"{loss:.3f} nats per character on the last 10 %, perplexity {np.exp(loss):.2f}, after {minutes:.1f} minutes")
    print(REFERENCES)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    model.save(file := options.output.with_suffix(".keras"))
    if goes_on_elsewhere(file):
        return 0
    for temperature in (0.5, 0.8, 1.0):
        strategy = kseq.decoding.Sampling(temperature=temperature)
        print(f"\ntemperature {temperature}:\n{PROMPTS[0]}", end="")
        for piece in model.stream(PROMPTS[0], strategy=strategy, max_length=300, seed=1):
            print(piece, end="", flush=True)
        print()
    folder = kseq.export_saved_model(
        model, options.output, buckets=BUCKETS, batch_sizes=(1, 4), max_length=400, examples=PROMPTS
    )
    rows = len(PROMPTS)
    request = {"text": PROMPTS, "temperature": [0.5, 0.8, 1.0], "top_k": [0] * rows, "top_p": [0.95] * rows,
               "max_length": [60] * rows, "seed": [1] * rows}  # fmt: skip
    own = kseq.load_saved_model(folder)(**request)
    print()
    for prompt, continuation in zip(PROMPTS, own["text"][:, 0], strict=True):
        print(f"{prompt!r} -> {continuation!r}")
    return 0 if served.ask(options.output, request, own) else 1


if __name__ == "__main__":
    sys.exit(main())
