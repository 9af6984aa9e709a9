"""Recognise strings of spoken digits by CTC, locate each digit, and classify single digits.

usage: python examples/spoken_digits.py --data FOLDER [--epochs 5] [--trained FILE]

FOLDER holds the Free Spoken Digit Dataset's recordings/{digit}_{speaker}_{index}.wav, 8 kHz mono (Z. Jackson et al.,
2016). A string is 3 to 7 concatenated recordings of one speaker: from the official training set (index 5 and up) for
training, from the test set (index 0 to 4) for measuring. The input is the waveform; the spectrogram is part of the
model. Prints digit error rates, the accuracy of a classifier of single digits, and the mean error of digit boundaries
by forced alignment; draws an alignment; exports, starts kseq-serve, and sends it a wav file. The recogniser is saved
beside --output; --trained FILE loads one instead. With KERAS_BACKEND=jax, as on a GPU, the example ends after saving
it, and says how TensorFlow goes on. Exit code 0 only if the served answers equal the model's own. Needs
`pip install "kseq[examples]"`.
"""

import argparse
import collections
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
from other_backend import goes_on_elsewhere

import kseq

RATE, LONGEST = 8000, 7  # samples a second, digits in a string
WIDTHS = (10_000, 24_000, 40_000, 72_000)  # lengths in samples to which strings are padded; XLA compiles once for each
NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def read_wav(path):
    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype("float32") / 32768


def write_wav(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        file.writeframes((samples * 32768).astype("<i2").tobytes())


def read_recordings(folder):
    """Return `(training, test)`, two dicts from speaker to a list of (digit, samples)."""
    parts = collections.defaultdict(list), collections.defaultdict(list)
    for path in sorted(folder.glob("*.wav")):
        digit, speaker, index = path.stem.split("_")
        samples = read_wav(path)
        if int(index) < 5:
            parts[1][speaker].append((int(digit), samples))
        elif len(samples) <= RATE:  # the few longer ones would widen whole batches
            parts[0][speaker].append((int(digit), samples))
    return parts


def padded(rows):
    """Return waveforms as padded samples `(rows, width, 1)`, and their lengths."""
    lengths = np.array([len(row) for row in rows], "int32")
    samples = np.zeros((len(rows), min(width for width in WIDTHS if width >= lengths.max()), 1), "float32")
    for place, row in enumerate(rows):
        samples[place, : len(row), 0] = row
    return {"features": samples, "lengths": lengths}


def faster(samples, factor):
    """Return the sound at another speed, which changes its duration and pitch."""
    return np.interp(np.arange(0, len(samples) - 1, factor), np.arange(len(samples)), samples)


def make_strings(recordings, counts, ids, random, *, change=False):
    """Return the recognizer's inputs, one string for each of `counts`, and the ends of the digits in samples."""
    labels, ends, rows = np.full((len(counts), LONGEST), -1, "int32"), np.zeros((len(counts), LONGEST)), []
    for row, count in enumerate(counts):
        own = recordings[random.choice(sorted(recordings))]
        chosen = [own[place] for place in random.integers(len(own), size=count)]
        sounds = [faster(samples, random.uniform(0.85, 1.15)) if change else samples for _, samples in chosen]
        labels[row, :count], ends[row, :count] = [ids[digit] for digit, _ in chosen], np.cumsum([*map(len, sounds)])
        rows.append(np.concatenate(sounds))
    return {**padded(rows), "labels": labels, "label_lengths": np.asarray(counts, "int32")}, ends


def strings_dataset(recordings, ids, lengths, options, random):
    """Return a dataset of new strings in each epoch; those of a batch have equally many digits, to reduce padding."""
    size = options.batch_size

    def batches():
        for _ in range(options.steps):
            yield make_strings(recordings, [random.choice(lengths)] * size, ids, random, change=True)[0]

    specs = {name: tf.TensorSpec([size], tf.int32) for name in ("lengths", "label_lengths")}
    specs |= {"features": tf.TensorSpec([size, None, 1]), "labels": tf.TensorSpec([size, LONGEST], tf.int32)}
    dataset = tf.data.Dataset.from_generator(batches, output_signature=specs)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(options.steps)).prefetch(2)
    untuned = tf.data.Options()
    untuned.autotune.enabled = False  # nothing to tune; an epoch may wait for the previous one's tuner
    return dataset.with_options(untuned)


def make_recognizer(words, units):
    front_end = [
        kseq.frontends.LogMelSpectrogram(RATE, normalize=True),
        kseq.frontends.FrameConvolutions((64, 128), strides=(2, 1)),
    ]
    encoder = kseq.layers.Bidirectional(kseq.layers.GRU(units, return_sequences=True))
    return kseq.models.CTCRecognizer(1, words.vocabulary_size, encoder, front_end=front_end, dropout=0.2)


class DigitClassifier(keras.Model):
    """A classifier from waveforms to logits of words."""

    def __init__(self, words, units):
        super().__init__()
        spectrogram = kseq.frontends.LogMelSpectrogram(RATE, normalize=True)
        convolutions = kseq.frontends.FrameConvolutions((64, 128), strides=(2, 1))
        self.front_end = kseq.frontends.FrontEndChain([spectrogram, convolutions])
        self.encoder = kseq.layers.Bidirectional(kseq.layers.GRU(units))
        self.dropout = keras.layers.Dropout(0.3)
        self.to_logits = keras.layers.Dense(words.vocabulary_size)

    def call(self, inputs, training=None):
        """Return the logits."""
        frames = self.dropout(self.front_end(inputs["features"], inputs["lengths"]), training=training)
        mask = kseq.masking.mask_from_lengths(self.front_end.frames(inputs["lengths"]), tf.shape(frames)[1])
        return self.to_logits(self.dropout(self.encoder(frames, mask=mask), training=training))


def fit(model, dataset, epochs, **losses):
    steps = epochs * len(dataset)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=4e-3, warmup_steps=1 + steps // 10)
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True, **losses)
    model.fit(dataset, epochs=epochs)


def single_accuracy(model, test, ids):
    """Return the share of correctly classified recordings."""
    digits, rows = zip(*(recording for own in test.values() for recording in own), strict=True)
    return model.evaluate(padded(rows), ids[list(digits)], batch_size=50, verbose=0, return_dict=True)["accuracy"]


def gaps(model, strings):
    """Align digits to frames; return the end of each digit but the last, and its distance to the next, in samples."""
    logits = model.predict({name: strings[name] for name in ("features", "lengths")}, batch_size=100, verbose=0)
    labels, frames = np.maximum(strings["labels"], 0), model.frames(strings["lengths"])
    aligned = kseq.ctc_forced_align(labels, logits, strings["label_lengths"], frames)
    starts, ends = kseq.alignment.alignment_spans(aligned, 1 / model.subsampling)  # NaN where there is no digit
    return ends[:, :-1] - model.subsampling / 2, starts[:, 1:] - ends[:, :-1]  # frames are centred


def ask(folder, strings, row, texts):
    """Send a wav file of one string to kseq-serve; return whether it answers as the model does."""
    name, path = folder.parent.name, folder.parent.parent / f"{folder.parent.name}-asked.wav"
    write_wav(path, strings["features"][row, : strings["lengths"][row], 0])
    samples = read_wav(path)[:, None]
    asked = {"features": samples[None], "lengths": np.array([len(samples)], "int32")}
    own = kseq.load_saved_model(folder)(**asked)
    with served.serving(name, folder.parent) as clients:
        rest, remote = (client.predict(name, asked) for client in clients)
    print(f"{path} -> {rest['text'][0, 0]} ({rest['scores'][0, 0]:.2f}), reference: {texts[row]}")
    equal = served.equal(rest, own) and served.equal(remote, own)
    print(f"REST and gRPC {'equal' if equal else 'DIFFER FROM'} the model's own answers.")
    return equal


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="batches of strings in an epoch")
    parser.add_argument("--strings", type=int, default=500, help="number of test strings")
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trained", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/digits"))
    options = parser.parse_args()
    started = time.monotonic()
    keras.utils.set_random_seed(options.seed)
    random = np.random.default_rng(options.seed)
    training, test = read_recordings(options.data / "recordings")
    words = kseq.text.WordTokenizer().adapt(NAMES)
    ids = words.tokenize(NAMES).flat_values.numpy()
    counts = np.resize(np.arange(3, LONGEST + 1), options.strings)
    unseen, true_ends = make_strings(test, counts, ids, random)
    strings = strings_dataset(training, ids, range(3, LONGEST + 1), options, random)

    file = options.trained or options.output.with_name(f"{options.output.name}.keras")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    model = keras.saving.load_model(file) if options.trained else make_recognizer(words, options.units)
    if not options.trained:
        fit(model, strings, options.epochs)
        model.save(file)
    if goes_on_elsewhere(file):
        return 0
    classifier = DigitClassifier(words, options.units)
    singles = strings_dataset(training, ids, [1], options, random).map(lambda inputs: (inputs, inputs["labels"][:, 0]))
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    fit(classifier, singles, 2 * options.epochs, loss=cross_entropy, metrics=["accuracy"])
    minutes = (time.monotonic() - started) / 60

    beam = kseq.decoding.CTCBeamSearch(beam_width=8)
    decoded = model.decode(unseen["features"], unseen["lengths"], strategy=beam)
    metric = kseq.metrics.EditDistance()
    metric.update_state(unseen["labels"], decoded.tokens[:, 0], unseen["label_lengths"], decoded.lengths[:, 0])
    accuracy, recordings = single_accuracy(classifier, test, ids), sum(map(len, test.values()))
    greedy = model.evaluate(unseen, batch_size=100, verbose=0, return_dict=True)["token_error_rate"]
    print(f"{len(counts)} strings of {counts.sum()} spoken digits of the test set, after {minutes:.1f} minutes:")
    print(f"  digit error {100 * greedy:.2f} % greedy, {100 * float(metric.result()):.2f} % by beam search")
    print(f"  single digits: {100 * accuracy:.1f} % of {recordings} are right")
    # CTC does not locate the boundary between two digits. Its place within their gap is estimated on training strings.
    known, known_ends = make_strings(training, counts, ids, random)
    (ends, gap), (unseen_ends, unseen_gap) = gaps(model, known), gaps(model, unseen)
    there = np.isfinite(gap)
    share = np.sum((gap * (known_ends[:, :-1] - ends))[there]) / max(1, np.sum(gap[there] ** 2))  # least squares
    for name, part in (("in the middle of the gap", 0.5), (f"at {100 * share:.0f} % of the gap", share)):
        found = unseen_ends + part * unseen_gap
        error = 1000 * np.nanmean(np.abs(found - true_ends[:, :-1])) / RATE
        print(f"  boundaries {name}: {error:.1f} ms off on average")

    texts = [text.decode() for text in words.detokenize(np.maximum(unseen["labels"], 0)).numpy()]
    asked = int(np.argmax(counts == 5))
    length, inner = unseen["lengths"][asked], found[asked, : counts[asked] - 1]
    spectrogram = kseq.frontends.LogMelSpectrogram(RATE)(unseen["features"][asked, None, :length], np.array([length]))
    figure = kseq.plots.alignment_heat_map(
        np.asarray(spectrogram)[0], texts[asked].split(), np.append(0, inner) / RATE, np.append(inner, length) / RATE,
        frame_rate=100.0, boundaries=true_ends[asked, : len(inner)] / RATE, title="aligned; dashed: true boundaries",
    )  # fmt: skip
    picture = options.output.parent / f"{options.output.name}-alignment.png"
    figure.savefig(picture)
    print(f"The alignment of {texts[asked]!r} is drawn in {picture}.")
    folder = kseq.export_saved_model(
        model, options.output, strategy=beam, target=words, buckets=WIDTHS, batch_sizes=(1, 4)
    )
    return 0 if ask(folder, unseen, asked, texts) else 1


if __name__ == "__main__":
    sys.exit(main())
