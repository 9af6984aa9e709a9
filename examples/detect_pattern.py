"""Detect a pattern in a stream, in synchrony: U, D, A, C, I, T, Y among letters, and a motif in DNA.

usage: python examples/detect_pattern.py [--epochs 4] [--motif TATAWAWR] [--output build/models/pattern]

A tagger in one direction says at each letter whether the pattern is complete, from the letters up to it: the textbooks'
many-to-many network in synchrony. The motif, by default the TATA box, may have the ambiguous bases of IUPAC, such as W
for A or T (A. Cornish-Bowden, "Nomenclature for incompletely specified bases in nucleic acid sequences", 1985). The
streams are random, with many beginnings and near misses of the pattern. Trains for about a minute on two cores, prints
where the patterns are in new streams, exports to --output with "-letters" and "-dna" behind it, and asks kseq-serve.
Needs `pip install "kseq[text,serving]"`.
"""

import argparse
import os
import pathlib
import re
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import served

import kseq

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BASES = {
    "A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC",
    "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
NAMES = ("-", "complete")


def make_stream(pattern, alphabet, length, random):
    """Return random letters among occurrences, beginnings and near misses of a pattern, a list of allowed letters."""
    stream = ""
    while len(stream) < length:
        piece = "".join(random.choice(list(allowed)) for allowed in pattern)
        kind, place = random.integers(4), random.integers(1, len(pattern))
        if kind == 1:
            piece = piece[:place]
        elif kind == 2:
            piece = piece[:place] + random.choice(list(alphabet)) + piece[place + 1 :]
        elif kind == 3:
            piece = "".join(random.choice(list(alphabet), size=random.integers(1, 12)))
        stream += piece
    return stream[:length]


def ends_of(pattern, stream):
    """Return the positions at which an occurrence of the pattern ends; occurrences may overlap."""
    expression = "".join(f"[{allowed}]" for allowed in pattern)
    return [found.end(1) - 1 for found in re.finditer(f"(?=({expression}))", stream)]


def tags_of(pattern, streams):
    """Return 1 where the pattern is complete and 0 elsewhere, int32 `(streams, length)`."""
    tags = np.zeros((len(streams), len(streams[0])), "int32")
    for row, stream in enumerate(streams):
        tags[row, ends_of(pattern, stream)] = 1
    return tags


def scores(tags, right):
    """Return precision, recall and the share of streams without any error, in percent."""
    hits = np.sum(tags & right)
    exact = np.mean(np.all(tags == right, axis=1))
    return [100 * float(share) for share in (hits / max(tags.sum(), 1), hits / max(right.sum(), 1), exact)]


def detect(name, pattern, alphabet, options, random):
    """Train a detector of a pattern, print how well it finds it, export and serve it; return whether answers agree."""
    started = time.monotonic()
    tokenizer = kseq.text.CharacterTokenizer().adapt([alphabet])
    encoder = kseq.models.Encoder(
        tokenizer.vocabulary_size, 16, kseq.cells.LSTMCell(options.units), bidirectional=False
    )
    model = kseq.models.Tagger(encoder, len(NAMES), class_names=NAMES, source_tokenizer=tokenizer)
    streams = [make_stream(pattern, alphabet, options.length, random) for _ in range(options.streams)]
    ids, lengths = (tensor.numpy() for tensor in tokenizer(streams))
    steps = -(-options.streams // options.batch_size) * options.epochs
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, steps)
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0))
    rows = {"source": ids, "source_lengths": lengths, "tags": tags_of(pattern, streams)}
    model.fit(rows, batch_size=options.batch_size, epochs=options.epochs)

    unseen = [make_stream(pattern, alphabet, options.length, random) for _ in range(1000)]
    ids, lengths = (tensor.numpy() for tensor in tokenizer(unseen))
    logits = model.predict({"source": ids, "source_lengths": lengths}, batch_size=250, verbose=0)
    right = tags_of(pattern, unseen)
    minutes = (time.monotonic() - started) / 60
    print(f"{name}: {right.sum()} occurrences in 1000 new streams of {options.length}, after {minutes:.1f} minutes")
    for label, tags in (
        ("the tagger", np.argmax(logits, axis=-1)),
        ("the last 3 letters alone", tags_of(pattern[-3:], unseen)),
    ):
        print(
            "  {}: precision {:.2f} %, recall {:.2f} %, streams without error {:.1f} %".format(
                label, *scores(tags, right)
            )
        )
    for stream in unseen[:3]:
        ends = [place for place, (_, tag) in enumerate(model.tag(stream)) if tag == NAMES[1]]
        places = [f"{stream[end - len(pattern) + 1 : end + 1]} at {end - len(pattern) + 1} to {end}" for end in ends]
        print(f"  {stream}: {', '.join(places) or 'none'}")

    output = options.output.with_name(f"{options.output.name}-{name}")
    folder = kseq.export_saved_model(model, output, buckets=(options.length,), batch_sizes=(1, 16), examples=unseen[:3])
    asked = {"text": [*unseen[:3], unseen[3] + unseen[4]]}  # the last one is read in overlapping windows
    return served.ask(output, asked, kseq.load_saved_model(folder)(**asked))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--word", default="UDACITY")
    parser.add_argument("--motif", default="TATAWAWR", help="bases, of which some may be ambiguous codes of IUPAC")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=1e-2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/pattern"))
    options = parser.parse_args()
    if not {*options.word} <= {*LETTERS} or not {*options.motif} <= {*BASES}:
        parser.error(f"--word has letters of {LETTERS}, --motif of {''.join(BASES)}.")
    keras.utils.set_random_seed(options.seed)
    random = np.random.default_rng(options.seed)
    equal = detect("letters", list(options.word), LETTERS, options, random)
    equal &= detect("dna", [BASES[code] for code in options.motif], "ACGT", options, random)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
