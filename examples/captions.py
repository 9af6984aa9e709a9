"""Describe drawn scenes in words, from their pixels: "a red circle left of two blue squares".

usage: python examples/captions.py [--epochs 12] [--output build/models/captions]

The example draws its scenes itself, each of two groups of one to three shapes. A convolutional encoder makes a grid of
features of a picture, and at each word the decoder attends to its cells (K. Xu et al., "Show, attend and tell", 2015).
A tenth of the possible captions is left out of the training. Trains for some minutes on two cores, draws the attention
of each word over a picture, exports to --output, starts kseq-serve and sends it PNG files. Needs
`pip install "kseq[examples]"`.
"""

import argparse
import itertools
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import served
import tensorflow as tf

import kseq
from kseq.plots import attention_over_picture

SIDE, REACH = 36, 4  # pixels: of a picture's side, and from the middle of a shape to its edge
COLOURS = {"red": (1, 0, 0), "yellow": (1, 1, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}  # the first is named first
SHAPES, COUNTS, RELATIONS = (
    ("circle", "square", "triangle"),
    ("a", "two", "three"),
    ("left of", "right of", "above", "below"),
)
GROUPS = tuple(itertools.product(COUNTS, SHAPES))
SCENES = tuple(itertools.product(itertools.combinations(COLOURS, 2), GROUPS, GROUPS, RELATIONS))
ACROSS, DOWN = np.meshgrid(np.arange(-REACH, REACH + 1), np.arange(-REACH, REACH + 1))
FORMS = {
    "circle": ACROSS**2 + DOWN**2 <= REACH**2,
    "square": np.maximum(abs(ACROSS), abs(DOWN)) < REACH,
    "triangle": (2 * abs(ACROSS) <= DOWN + REACH) & (DOWN < REACH),
}


def caption(scene):
    colours, *groups, relation = scene
    words = [
        f"{count} {colour} {shape}{'' if count == 'a' else 's'}"
        for colour, (count, shape) in zip(colours, groups, strict=True)
    ]
    return f"{words[0]} {relation} {words[1]}"


def places_of(counts, random):
    """Return the middles of the shapes of two groups, `(along, across)`: the first group in the first half."""
    groups = []
    while len(groups) < 2:
        low = len(groups) * SIDE // 2
        group = random.integers((low + REACH, REACH), (low + SIDE // 2 - REACH, SIDE - REACH), (counts[len(groups)], 2))
        distances = abs(group[:, None] - group).max(axis=-1) + SIDE * np.eye(len(group))
        if distances.min() > 2 * REACH:  # no two shapes touch
            groups.append(group)
        if len(groups) == 2 and np.argmax(abs(groups[1].mean(axis=0) - groups[0].mean(axis=0))) == 1:
            groups = []  # "above" would be as right as "left of"
    return groups


def draw(scene, random):
    """Return a picture of a scene, float32 `(SIDE, SIDE, 3)`."""
    colours, *groups, relation = scene
    picture = random.uniform(0.0, 0.3) + random.normal(scale=0.03, size=(SIDE, SIDE, 3))
    parts = list(zip(colours, groups, strict=True))
    parts = parts if relation in ("left of", "above") else parts[::-1]
    places = places_of([COUNTS.index(count) + 1 for _, (count, _) in parts], random)
    for (colour, (_, shape)), group in zip(parts, places, strict=True):
        for row, column in group if relation in ("above", "below") else group[:, ::-1]:
            there = picture[row - REACH : row + REACH + 1, column - REACH : column + REACH + 1]
            there[FORMS[shape]] = np.multiply(COLOURS[colour], random.uniform(0.6, 1.0))
    return (255 * picture.clip(0, 1)).astype("uint8").astype("float32") / 255  # what a PNG file holds


def most_similar(pictures, others):
    """Return the number of the most similar one of `others` for each of the pictures."""
    flat, rows = (each.reshape(len(each), -1) for each in (pictures, others))
    return np.argmin(np.square(rows).sum(axis=1) - 2 * flat @ rows.T, axis=1)


def make_rows(scenes, count, tokenizer, random):
    """Return the model's inputs: pictures of random scenes, and their captions as tokens."""
    chosen = [scenes[number] for number in random.integers(len(scenes), size=count)]
    texts = [caption(scene) for scene in chosen]
    ids, lengths = (tensor.numpy() for tensor in tokenizer(texts))
    pictures = np.stack([draw(scene, random) for scene in chosen])
    return {"source": pictures, "target": ids, "target_lengths": lengths}, texts


def make_model(tokenizer, units):
    encoder = kseq.models.GridEncoder((SIDE, SIDE, 3), units, convolutions=(units // 3, 2 * units // 3, units))
    decoder = kseq.models.Decoder(tokenizer.vocabulary_size, 32, kseq.cells.GRUCell(units), input_feeding=True)
    return kseq.models.Seq2Seq(encoder, decoder, target_tokenizer=tokenizer)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--scenes", type=int, default=16_000)
    parser.add_argument("--unseen", type=int, default=1000, help="number of test scenes of each kind")
    parser.add_argument("--units", type=int, default=96)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/captions"))
    options = parser.parse_args()
    started = time.monotonic()
    keras.utils.set_random_seed(options.seed)
    random = np.random.default_rng(options.seed)
    order = random.permutation(len(SCENES))
    seen, held_out = ([SCENES[number] for number in part] for part in np.split(order, [len(order) * 9 // 10]))
    tokenizer = kseq.text.WordTokenizer(add_bos=True, add_eos=True).adapt(map(caption, SCENES))
    rows, texts = make_rows(seen, options.scenes, tokenizer, random)
    print(
        f"{options.scenes} scenes with {len({*texts})} of the {len(SCENES)} captions, such as", *texts[:3], sep="\n  "
    )

    model = make_model(tokenizer, options.units)
    steps = -(-options.scenes // options.batch_size) * options.epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=options.learning_rate, warmup_steps=steps // 10
    )
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0))
    model.fit(rows, batch_size=options.batch_size, epochs=options.epochs)
    print(f"trained for {(time.monotonic() - started) / 60:.1f} minutes")
    for label, scenes in (("new scenes", seen), ("new scenes whose captions were left out", held_out)):
        unseen, right = make_rows(scenes, options.unseen, tokenizer, random)
        wrote = model.describe(unseen["source"], max_length=16)
        share = np.mean([one == other for one, other in zip(wrote, right, strict=True)])
        nearest = [texts[number] for number in most_similar(unseen["source"], rows["source"])]
        reference = np.mean([one == other for one, other in zip(nearest, right, strict=True)])
        print(f"exact captions of {options.unseen} {label}: {100 * share:.1f} %", end="")
        print(f" (the caption of the most similar training picture: {100 * reference:.1f} %)")

    picture = unseen["source"][0]
    decoded = model.decode(picture[None], strategy="greedy", max_length=16)
    count, grid = int(decoded.lengths[0, 0]), model.encoder.grid_shape
    weights = np.asarray(decoded.alignments)[0, 0, :count].reshape(count, *grid)
    figure = attention_over_picture(picture, [*wrote[0].split(), "end"][:count], weights, title=right[0])
    drawn = options.output.parent / f"{options.output.name}-attention.png"
    drawn.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(drawn)
    print(f"The attention of each word over a picture is drawn in {drawn}.")

    folder = kseq.export_saved_model(
        model, options.output, inputs="png", strategy=kseq.decoding.BeamSearch(beam_width=4), max_length=16,
        title="Captions", description="Describes a drawn scene.",
    )  # fmt: skip
    files = [tf.io.encode_png(np.round(255 * each).astype("uint8")).numpy() for each in unseen["source"][:4]]
    asked = {"image_bytes": np.array(files, object)}
    own = kseq.load_saved_model(folder)(**asked)
    for text, reference in zip(own["text"][:, 0], right, strict=False):
        print(f"{text} (drawn as: {reference})")
    return 0 if served.ask(options.output, asked, own) else 1


if __name__ == "__main__":
    sys.exit(main())
