"""Music by a recurrent network: which notes sound at each step of a piano roll, given the steps before.

usage: python examples/music.py --data FOLDER [--pieces jsb_chorales] [--output build/models/music]

FOLDER holds jsb_chorales.json.gz or nottingham.json.gz: for "train" and "valid" pieces, lists of steps, each the list
of its keys from 0 to 87 (N. Boulanger-Lewandowski et al., "Modeling temporal dependencies in high-dimensional
sequences", 2012). Trains a `Forecaster` whose head is a mixture of probabilities of the keys, so that the notes of a
chord depend on each other; --components 1 is a single probability for each key. Prints the negative log-likelihood per
step on valid. Then it goes on from the beginning of a piece, and writes what it plays as a MIDI file and as a picture.
Takes some minutes on two cores. Needs `pip install "kseq[examples]"`.
"""

import argparse
import gzip
import json
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import mido
import numpy as np
from matplotlib.figure import Figure

import kseq

KEYS, LOWEST_NOTE = 88, 21  # of a piano, and the MIDI number of its lowest key
BEGINNING = 16  # steps of a piece that the model gets to go on from
SETTINGS = {  # pieces are cut to `length` steps and transposed by up to `semitones`, as the chorales are few
    "jsb_chorales": {"epochs": 120, "length": 128, "batch_size": 16, "dropout": 0.4, "semitones": 1},
    "nottingham": {"epochs": 32, "length": 200, "batch_size": 8, "dropout": 0.3, "semitones": 0},
}
REFERENCE = {"jsb_chorales": 8.45, "nottingham": 3.29}  # an LSTM, on test (S. Bai, J. Kolter, V. Koltun, 2018)


def rolls(pieces):
    """Return arrays (steps, keys) of 0 and 1."""
    arrays = [np.zeros((len(piece), KEYS), "float32") for piece in pieces]
    for array, piece in zip(arrays, pieces, strict=True):
        for step, keys in enumerate(piece):
            array[step, keys] = 1.0
    return arrays


class Segments(keras.utils.PyDataset):
    """Segments of all pieces in random order, each transposed by up to some semitones, padded to one length."""

    def __init__(self, pieces, length, batch_size, semitones, seed):
        super().__init__()
        self.segments = [piece[at : at + length] for piece in pieces for at in range(0, len(piece), length)]
        self.segments = [segment for segment in self.segments if len(segment) > 1]
        self.length, self.batch_size, self.semitones = length, batch_size, semitones
        self.random = np.random.default_rng(seed)
        self.on_epoch_end()

    def on_epoch_end(self):
        """Draw the order of the next epoch."""
        self.order = self.random.permutation(len(self.segments))

    def __len__(self):
        return len(self.segments) // self.batch_size

    def __getitem__(self, index):
        rows = [self.segments[place] for place in self.order[index * self.batch_size : (index + 1) * self.batch_size]]
        shifts = self.random.integers(-self.semitones, self.semitones + 1, size=len(rows))
        rows = [np.roll(row, shift, axis=1) for row, shift in zip(rows, shifts, strict=True)]
        context = np.zeros((len(rows), self.length - 1, KEYS), "float32")
        for place, row in enumerate(rows):
            context[place, : len(row) - 1] = row[:-1]
        lengths = np.array([len(row) - 1 for row in rows], "int32")
        target = np.stack([row[-1:] for row in rows])
        return {"context": context, "lengths": lengths, "target": target, "target_lengths": np.ones_like(lengths)}


def make_head(components):
    head = kseq.heads.Bernoulli(KEYS)
    return head if components == 1 else kseq.heads.Mixture([head] * components)


def write_midi(roll, path, seconds):
    """Write a roll (steps, keys) of 0 and 1; a key that stays on sounds on."""
    file = mido.MidiFile(ticks_per_beat=480)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=int(1e6 * seconds))])
    file.tracks.append(track)
    changes = np.diff(np.pad(roll, [(1, 1), (0, 0)]), axis=0)
    waited = 0
    for step in changes:
        for key in np.flatnonzero(step):
            kind = "note_on" if step[key] > 0 else "note_off"
            track.append(mido.Message(kind, note=int(key) + LOWEST_NOTE, velocity=80, time=waited))
            waited = 0
        waited += file.ticks_per_beat
    file.save(path)


def draw_roll(roll, beginning, title):
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.imshow(roll.T, aspect="auto", origin="lower", cmap="Greys", interpolation="nearest")
    axes.axvline(beginning - 0.5, color="tab:red", linestyle="dashed")
    axes.set_xlabel("step")
    axes.set_ylabel("key")
    axes.set_title(title)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--pieces", default="jsb_chorales", choices=[*REFERENCE])
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/music"))
    for name, default in (("units", 256), ("components", 16), ("steps", 96), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in (("learning_rate", 3e-3), ("seconds", 0.5)):
        parser.add_argument(f"--{name}", type=float, default=default)
    for name, default in SETTINGS["jsb_chorales"].items():
        parser.add_argument(f"--{name}", type=type(default), help="default by the pieces")
    parser.set_defaults(**SETTINGS[parser.parse_args().pieces])
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    with gzip.open(options.data / f"{options.pieces}.json.gz", "rt") as file:
        parts = {name: rolls(pieces) for name, pieces in json.load(file).items()}

    model = kseq.models.Forecaster(kseq.cells.LSTMCell(options.units), make_head(options.components),
                                   horizon=options.steps, num_paths=1, dropout=options.dropout)  # fmt: skip
    batches = Segments(parts["train"], options.length, options.batch_size, options.semitones, options.seed)
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.epochs * len(batches))
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True)
    model.fit(batches, epochs=options.epochs)
    valid = parts["valid"]
    rows = {"context": [piece[:-1] for piece in valid], "target": [piece[-1:] for piece in valid]}
    loss = model.evaluate(rows, batch_size=16, verbose=0)
    print(f"{options.pieces} valid: {loss:.2f} nats per step, of {sum(map(len, valid))} steps "
          f"(an LSTM on test: {REFERENCE[options.pieces]})")  # fmt: skip

    beginning = valid[0][:BEGINNING]
    played = model.forecast(beginning[None], seed=options.seed).paths[0, 0]
    piece = np.concatenate([beginning, played])
    kseq.export_saved_model(model, options.output, buckets=(BEGINNING, 64), batch_sizes=(1,), seed_input=True)
    files = [options.output.with_name(f"{options.output.name}{end}") for end in (".mid", "-roll.png")]
    write_midi(piece, files[0], options.seconds)
    title = f"{options.pieces}: {len(beginning)} steps of a piece, and how the model goes on"
    draw_roll(piece, len(beginning), title).savefig(files[1])
    print(f"A piece is written to {files[0]} and drawn in {files[1]}. To start a server:\n  kseq-serve --model_name="
          f"{options.output.name} --model_base_path={options.output.resolve()} --rest_api_port=8501")  # fmt: skip


if __name__ == "__main__":
    main()
