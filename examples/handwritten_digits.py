"""Recognise lines of handwritten digits by CTC, trained without the digits' positions.

usage: python examples/handwritten_digits.py [--epochs 4] [--lines 12800]

The digits are scikit-learn's `load_digits`, 1,797 real ones of 8 by 8 pixels (E. Alpaydin, C. Kaynak, "Optical
recognition of handwritten digits", 1998); nothing is downloaded. A line has 3 to 7 digits with random gaps or overlaps.
Training lines consist of the first 1,000 digits, slightly rotated and stretched, test lines of the last 797, unchanged.
About 2.6 % of the test digits are wrong after 100 s on two cores. Needs `pip install "kseq[examples]"`.
"""

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from scipy.ndimage import affine_transform
from sklearn.datasets import load_digits

import kseq

HEIGHT, WIDTH, TRAINING, LONGEST = 8, 96, 1000, 7  # WIDTH: of a padded line, in pixels; LONGEST: digits in a line
GAPS = range(-2, 5)  # pixels between two digits; negative gaps are overlaps


def changed(image, random):
    """Return the digit, slightly rotated, slanted, stretched and moved, with another intensity."""
    matrix = np.eye(2) + random.normal(scale=0.09, size=(2, 2))
    centre = np.full(2, (HEIGHT - 1) / 2)
    offset = centre - matrix @ centre + random.normal(scale=0.4, size=2)
    return affine_transform(image, matrix, offset, order=1) * random.uniform(0.8, 1.2)


def make_lines(images, digits, count, random, *, change=False):
    """Return the model's inputs: columns of pixels as frames, and the digits plus one, since class 0 is the blank."""
    features, lengths = np.zeros((count, WIDTH, HEIGHT), "float32"), np.zeros(count, "int32")
    labels, label_lengths = np.full((count, LONGEST), -1, "int32"), random.integers(3, LONGEST + 1, count)
    for row, length in enumerate(label_lengths):
        chosen = random.integers(len(images), size=length)
        start = random.integers(0, 4)
        for place in chosen:
            image = changed(images[place], random) if change else images[place]
            here = features[row, start : start + HEIGHT]
            np.maximum(here, image.T, out=here)
            lengths[row], start = start + HEIGHT, start + HEIGHT + random.choice(GAPS)
        labels[row, :length] = digits[chosen] + 1
    return {"features": features, "lengths": lengths, "labels": labels, "label_lengths": label_lengths.astype("int32")}


def make_model(units):
    return kseq.models.CTCRecognizer(
        HEIGHT, 11, kseq.layers.Bidirectional(kseq.layers.GRU(units, return_sequences=True)), dropout=0.1,
        front_end=kseq.frontends.FrameConvolutions((32, 64), strides=(1, 2), height_strides=(1, 2)),
    )  # fmt: skip


def show(line, length, read, frames, subsampling):
    """Print a line of pixels, and below it each recognised digit at the frame where the model emitted it."""
    for pixels in line[:length].T:
        print("  " + "".join(" .:-=+*#%@"[int(np.clip(9 * pixel, 0, 9))] for pixel in pixels))
    below = [" "] * length
    for token, frame in zip(read, frames, strict=True):
        below[min(frame * subsampling, length - 1)] = str(token - 1)
    print("  " + "".join(below) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lines", type=int, default=12_800)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    keras.utils.set_random_seed(options.seed)
    random = np.random.default_rng(options.seed)
    images, digits = load_digits(return_X_y=True)
    images = images.reshape(-1, HEIGHT, HEIGHT) / 16.0
    lines = make_lines(images[:TRAINING], digits[:TRAINING], options.lines, random, change=True)
    unseen = make_lines(images[TRAINING:], digits[TRAINING:], 1000, random)

    model = make_model(options.units)
    steps = -(-options.lines // 32) * options.epochs
    schedule = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=4e-3, warmup_steps=steps // 20)
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True)
    model.fit(lines, batch_size=32, epochs=options.epochs)
    minutes = (time.monotonic() - started) / 60

    decoded = model.decode(unseen["features"], unseen["lengths"], strategy=kseq.decoding.CTCBeamSearch(beam_width=8))
    tokens, counts, frames = (np.asarray(x)[:, 0] for x in (decoded.tokens, decoded.lengths, decoded.frames))
    for row in range(3):
        read = slice(0, counts[row])
        show(unseen["features"][row], unseen["lengths"][row], tokens[row, read], frames[row, read], model.subsampling)
    metric = kseq.metrics.EditDistance()
    metric.update_state(unseen["labels"], tokens, unseen["label_lengths"], counts)
    right = np.mean([np.array_equal(a[a > 0], b[b > 0]) for a, b in zip(unseen["labels"], tokens, strict=True)])
    greedy = model.evaluate(unseen, batch_size=250, verbose=0, return_dict=True)["token_error_rate"]
    print(f"1000 lines of {int(unseen['label_lengths'].sum())} unseen digits, after {minutes:.1f} minutes:")
    print(f"  digit error {100 * greedy:.2f} % greedy, {100 * float(metric.result()):.2f} % by beam search")
    print(f"  lines without any error, by beam search: {100 * right:.1f} %")


if __name__ == "__main__":
    main()
