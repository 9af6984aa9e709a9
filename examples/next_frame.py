"""Predict the next frames of a film of moving digits by a convolutional LSTM.

usage: python examples/next_frame.py [--epochs 12] [--output build/models/film]

Two of scikit-learn's digits of 8 by 8 pixels (nothing is downloaded) move over a larger picture, and rebound from its
edges. From each frame and those before it, the model predicts the next frame; to predict several, it reads its own (X.
Shi et al., "Convolutional LSTM network: a machine learning approach for precipitation nowcasting", 2015). Training
films show the first 1,400 digits, test films the last 397. Trains for a few minutes on two cores, prints the error
beside that of repeating the last frame, draws the predicted frames, saves the model, exports it to --output, starts
kseq-serve and sends it a film. Needs `pip install "kseq[examples]"`.
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
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import kseq

SIDE, DIGIT, TRAINING = 16, 8, 1400  # pixels of a picture's side and of a digit's; number of digits to train with
SHOWN, PREDICTED = 10, 6  # frames of a film that the model sees, and that it predicts


def make_films(images, count, frames, random):
    """Return films `(count, frames, SIDE, SIDE, 1)` of two digits that move by a pixel a frame, on the diagonals."""
    films, room = np.zeros((count, frames, SIDE, SIDE, 1), "float32"), SIDE - DIGIT
    steps = np.arange(frames)[:, None]
    for film in films:
        for image in images[random.integers(len(images), size=2)]:
            speed = random.choice([-1, 1], size=2)
            places = np.mod(random.integers(0, 2 * room, size=2) + speed * steps, 2 * room)
            places = room - abs(places - room)  # (frames, 2); it rebounds from the edges
            for frame, (row, column) in zip(film, places, strict=True):
                there = frame[row : row + DIGIT, column : column + DIGIT, 0]
                np.maximum(there, image, out=there)
    return films


def make_model(filters):
    """Return a model from frames to the next frame of each, `(batch, time, SIDE, SIDE, 1)` both."""
    films = keras.Input((None, SIDE, SIDE, 1), name="films")
    # Each frame is read with the one before it, in which a digit that moves is a pixel away.
    before = keras.layers.ZeroPadding3D(((1, 0), (2, 2), (2, 2)))(films)
    values = keras.layers.Conv3D(filters, (2, 5, 5), activation="relu")(before)
    values = kseq.layers.RNN(kseq.cells.ConvLSTMCell(filters, 3), return_sequences=True)(values)
    values = keras.layers.Conv3D(filters, (1, 3, 3), padding="same", activation="relu")(values)
    frames = keras.layers.Conv3D(1, (1, 3, 3), padding="same", activation="sigmoid")(values)
    return keras.Model(films, frames)


def go_on(model, films, count):
    """Return the next `count` frames after films, each predicted from the frames before it, also predicted ones."""
    for _ in range(count):
        frame = model.predict(films, batch_size=100, verbose=0)[:, -1:]
        films = np.concatenate([films, frame], axis=1)
    return films[:, -count:]


def draw(shown, rows, path):
    """Draw the frames shown, and below them the rows of frames that follow, by name."""
    figure = Figure(figsize=(len(shown), 1.1 * (1 + len(rows))), layout="constrained")
    every = figure.subplots(1 + len(rows), len(shown), squeeze=False)
    for axes, (name, frames) in zip(every, {"shown": shown, **rows}.items(), strict=True):
        axes[0].set_ylabel(name)
        for number, place in enumerate(axes):
            place.set_xticks([])
            place.set_yticks([])
            if number < len(frames):
                place.imshow(frames[number, ..., 0], cmap="gray", vmin=0.0, vmax=1.0)
            else:
                place.set_visible(False)
    figure.savefig(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--films", type=int, default=2000)
    parser.add_argument("--unseen", type=int, default=200, help="number of test films")
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/film"))
    options = parser.parse_args()
    started = time.monotonic()
    keras.utils.set_random_seed(options.seed)
    random = np.random.default_rng(options.seed)
    images = load_digits().images / 16.0
    films = make_films(images[:TRAINING], options.films, SHOWN + PREDICTED, random)
    unseen = make_films(images[TRAINING:], options.unseen, SHOWN + PREDICTED, random)

    model = make_model(options.filters)
    steps = -(-options.films // options.batch_size) * options.epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=options.learning_rate, warmup_steps=steps // 10
    )
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), "binary_crossentropy", metrics=["mean_squared_error"])
    model.fit(films[:, :-1], films[:, 1:], batch_size=options.batch_size, epochs=options.epochs)
    print(f"trained for {(time.monotonic() - started) / 60:.1f} minutes")

    shown, right = unseen[:, :SHOWN], unseen[:, SHOWN:]
    predicted, repeated = go_on(model, shown, PREDICTED), np.repeat(shown[:, -1:], PREDICTED, axis=1)
    print(f"mean squared error of the next frames of {len(unseen)} new films, of pixels from 0 to 1:")
    for label, frames in (("predicted", predicted), ("last frame repeated", repeated)):
        errors = np.mean((frames - right) ** 2, axis=(0, 2, 3, 4))
        print(f"  {label}: " + ", ".join(f"{error:.4f}" for error in errors))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    picture, saved = (options.output.parent / f"{options.output.name}{end}" for end in ("-frames.png", ".keras"))
    draw(shown[0], {"right": right[0], "predicted": predicted[0], "repeated": repeated[0]}, picture)
    model.save(saved)
    print(f"The next frames of a film are drawn in {picture}, the model is saved in {saved}.")

    kseq.export_saved_model(
        model, options.output, inputs="features", answers="sequence", buckets=(SHOWN,), batch_sizes=(1, 4)
    )
    asked = {"features": shown[:2], "lengths": np.array([SHOWN, SHOWN // 2], "int32")}
    return 0 if served.ask(options.output, asked, kseq.load_saved_model(options.output / "1")(**asked)) else 1


if __name__ == "__main__":
    sys.exit(main())
