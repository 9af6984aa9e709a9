"""Read strings of spoken digits by CTC, find where each digit is, and tell single digits apart.

usage: python examples/spoken_digits.py --data FOLDER [--epochs 10]

FOLDER holds the Free Spoken Digit Dataset's recordings/{digit}_{speaker}_{index}.wav, 8 kHz mono (Z. Jackson et al.,
2016). Strings of 3 to 7 digits are recordings of one speaker, one after the other: of the official training set (index
5 and up) to train on, of the test set (index 0 to 4) to measure. The waveform goes in: the spectrogram is part of the
model. Prints digit error rates, how far off the boundaries between digits are that a CTC model and one without a blank
find, and the accuracy on single digits; draws an alignment; exports, starts kseq-serve and asks it with a wav file. Exit
code 0 only if the served answers equal the model's own. Needs `pip install "kseq[examples]"`.
"""

import argparse
import os
import pathlib
import sys
import time
import wave

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import served
import tensorflow as tf

import kseq

RATE, LONGEST = 8000, 7  # samples a second, digits in a string
WIDTHS = (16_000, 24_000, 32_000, 48_000, 72_000)  # samples that strings are padded to; XLA compiles each of them once
NAMES = "zero one two three four five six seven eight nine".split()


def read_wav(path):
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype("float32") / 32768


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(RATE)
        file.writeframes((samples * 32768).astype("<i2").tobytes())


def read_recordings(folder):
    """`(training, test)`, lists of (digit, speaker, samples)."""
    parts = [], []
    for path in sorted(folder.glob("*.wav")):
        digit, speaker, index = path.stem.split("_")
        parts[int(index) < 5].append((int(digit), speaker, read_wav(path)))
    return parts


def padded(rows, widths=WIDTHS):
    """The samples `(rows, width, 1)` and lengths of waveforms."""
    lengths = np.array([len(row) for row in rows], "int32")
    samples = np.zeros((len(rows), min(width for width in widths if width >= lengths.max()), 1), "float32")
    for place, row in enumerate(rows):
        samples[place, : len(row), 0] = row
    return {"features": samples, "lengths": lengths}


def make_strings(recordings, counts, ids, random, widths=WIDTHS):
    """What the recognizer takes, one string for each of `counts`, and where its digits end, in samples."""
    labels, ends, rows = np.full((len(counts), LONGEST), -1, "int32"), np.zeros((len(counts), LONGEST)), []
    speakers = sorted({speaker for _, speaker, _ in recordings})
    for row, count in enumerate(counts):
        voice = random.choice(speakers)
        own = [(digit, samples) for digit, speaker, samples in recordings if speaker == voice]
        chosen = [own[place] for place in random.integers(len(own), size=count)]
        labels[row, :count] = [ids[digit] for digit, _ in chosen]
        ends[row, :count] = np.cumsum([len(samples) for _, samples in chosen])
        rows.append(np.concatenate([samples for _, samples in chosen]))
    return {**padded(rows, widths), "labels": labels, "label_lengths": np.asarray(counts, "int32")}, ends


def strings_dataset(recordings, ids, steps, batch_size, random):
    """New strings in each epoch; those of a batch have as many digits, so that little of it is padding."""

    def batches():
        for _ in range(steps):
            yield make_strings(recordings, [random.integers(3, LONGEST + 1)] * batch_size, ids, random)[0]

    specs = {name: tf.TensorSpec([batch_size], tf.int32) for name in ("lengths", "label_lengths")}
    specs["features"] = tf.TensorSpec([batch_size, None, 1], tf.float32)
    specs["labels"] = tf.TensorSpec([batch_size, LONGEST], tf.int32)
    dataset = tf.data.Dataset.from_generator(batches, output_signature=specs)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)


def front_end():
    convolutions = kseq.models.FrameConvolutions((64, 128), strides=(2, 1))
    return [kseq.models.LogMelSpectrogram(RATE, normalize=True), convolutions]


class DigitClassifier(keras.Model):
    """Waveform -> logits of the ten digits."""

    def __init__(self, units, dropout):
        super().__init__()
        self.front_end = kseq.models.FrontEndChain(front_end())
        self.encoder = kseq.layers.Bidirectional(kseq.layers.GRU(units))
        self.dropout = keras.layers.Dropout(dropout)
        self.to_logits = keras.layers.Dense(len(NAMES))

    def call(self, inputs, training=None):
        frames = self.dropout(self.front_end(inputs["features"], inputs["lengths"]), training=training)
        mask = kseq.masking.mask_from_lengths(self.front_end.frames(inputs["lengths"]), tf.shape(frames)[1])
        return self.to_logits(self.dropout(self.encoder(frames, mask=mask), training=training))


def optimizer(steps, peak):
    schedule = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=peak, warmup_steps=steps // 10)
    return keras.optimizers.Adam(schedule, clipnorm=1.0)
