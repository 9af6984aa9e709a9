"""Samples a second of `model.fit`, end to end on real data, for kseq and for the same models of plain Keras layers.

usage: python benchmarks/training.py --data FOLDER [--only g2p digits tagger characters]
       [--contenders "keras" "keras xla" "kseq"] [--epochs 5] [--part 1.0]

FOLDER holds sigmorphon2021_g2p/fre_train.tsv, fsdd/recordings, ud_ewt/en_ewt-ud-train.conllu and
tinyshakespeare/input.txt. The models are those of `models_in_keras.py`, in sizes for these data: an encoder and decoder
with attention for French pronunciations, a recognizer of strings of spoken digits by CTC, a tagger of parts of speech,
and a language model of characters. All train by Adam on the same rows in new orders, with no metrics.

- keras: batches in the order of the shuffle, each padded to its longest row (`padded_batch`), in a plain graph, Keras's
  default; keras xla: rows of similar length (`bucket_by_sequence_length`, full batches only), `jit_compile=True`.
  CTC is `keras.ops.ctc_loss`.
- kseq: its models as the README trains them, in the default settings, by `continuous_batches` or by `bucket_by_length`,
  which chooses three lengths from the data; "keras xla" has the same. The frames of digits come from the same
  `padded_batch` as Keras's.
- Epochs of the contenders take turns in one process, after one that compiles; medians in samples a second, and in
  brackets half the interquartile range as a share. A sample is a row, of characters a row of 100 steps. first: seconds
  of the epoch that compiles.
- padding: the share of the places in all batches that hold no token or frame; waiting: the share of an epoch in which
  `fit` waits for its next batch.
- --part 0.1 takes a tenth of the rows, to try the script.
"""

import argparse
import collections
import os
import pathlib
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from first_step import Package
from models_in_keras import characters_model, speech_model, tagger_model, translator_model
from turns import take_turns

import kseq

PLAIN, OURS = Package(keras, keras.layers, None), Package(keras, kseq.layers, kseq)
# `feeds`: a dataset by contender; `model`: a function from a package to a model and its loss; `places`: a function from
# a batch to the arrays `(rows, time)` that hold tokens or frames, and 0 in the padding.
Task = collections.namedtuple("Task", "feeds model places")
CONTENDERS = ["keras", "keras xla", "kseq"]
BOS, EOS = 2, 3


def ids_of(rows, first):
    """Return the rows as lists of ids from `first` on, and the number of ids."""
    known = {item: first + place for place, item in enumerate(sorted({item for row in rows for item in row}))}
    return [[known[item] for item in row] for row in rows], first + len(known)


def dataset_of(rows, specs, random_rows):
    """Return a dataset of tuples of rows, shuffled."""
    dataset = tf.data.Dataset.from_generator(lambda: iter(rows), output_signature=specs)
    return dataset.cache().shuffle(random_rows, seed=0)


def padded_batches(dataset, size, length, buckets):
    """Return batches padded to their longest row, and by `buckets` to the least of these lengths that suffices."""
    count = len(buckets) + 1
    bucketed = dataset.bucket_by_sequence_length(
        length, [bucket + 1 for bucket in buckets], [size] * count, pad_to_bucket_boundary=True, drop_remainder=True
    )
    return dataset.padded_batch(size).prefetch(2), bucketed.prefetch(2)


def g2p(folder, part):
    lines = (folder / "sigmorphon2021_g2p" / "fre_train.tsv").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t")[:2] for line in lines[: int(1600 * part)]]
    source, source_size = ids_of([word for word, _ in pairs], 4)
    target, target_size = ids_of([phones.split() for _, phones in pairs], 4)
    target = [[BOS, *row, EOS] for row in target]
    specs = (tf.TensorSpec([None], tf.int32),) * 2
    rows = dataset_of(list(zip(source, target, strict=True)), specs, len(source))
    ours = kseq.training.bucket_by_length(
        {"source": source, "target": target}, batch_size=32, buckets=3, shuffle=True, seed=0
    )
    buckets = np.maximum(ours.buckets["source"], ours.buckets["target"]).tolist()
    plain = padded_batches(rows, 32, lambda x, y: tf.maximum(tf.size(x), tf.size(y)), buckets)
    plain = [dataset.map(lambda x, y: ((x, y[:, :-1]), y[:, 1:])) for dataset in plain]

    def model(package):
        return translator_model(package, source_size, target_size, 128, 256)[:2]

    def places(batch):
        return (batch["source"], batch["target"][:, 1:]) if isinstance(batch, dict) else (batch[0][0], batch[1])

    return Task({"keras": plain[0], "keras xla": plain[1], "kseq": ours}, model, places)


def tagger(folder, part):
    text = (folder / "ud_ewt" / "en_ewt-ud-train.conllu").read_text(encoding="utf-8")
    sentences = []
    for block in text.strip().split("\n\n")[: int(1600 * part)]:
        fields = [line.split("\t") for line in block.splitlines() if line[0].isdigit()]
        sentences.append([(field[1], field[3]) for field in fields if field[0].isdigit()][:64])
    words, vocabulary = ids_of([[word for word, _ in row] for row in sentences], 4)
    tags, count = ids_of([[tag for _, tag in row] for row in sentences], 0)
    rows = dataset_of(list(zip(words, tags, strict=True)), (tf.TensorSpec([None], tf.int32),) * 2, len(words))
    ours = kseq.training.bucket_by_length(
        {"source": words, "tags": tags}, batch_size=32, buckets=3, shuffle=True, seed=0
    )
    plain = padded_batches(rows, 32, lambda x, y: tf.size(x), ours.buckets["source"])

    def places(batch):
        return (batch["source"] if isinstance(batch, dict) else batch[0],)

    feeds = {"keras": plain[0], "keras xla": plain[1], "kseq": ours}
    return Task(feeds, lambda package: tagger_model(package, vocabulary, 100, 128, count), places)


def characters(folder, part):
    text = (folder / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")[: int(100_000 * part)]
    (ids,), size = ids_of([text], 1)
    rows, steps = 32, 100
    each = (len(ids) - 1) // rows // steps * steps  # the plain model has no shorter chunks
    columns = [
        np.array([ids[row * each + shift : (row + 1) * each + shift] for row in range(rows)]) for shift in (0, 1)
    ]
    chunks = [np.stack(np.split(column.astype("int32"), each // steps, axis=1)) for column in columns]
    plain = tf.data.Dataset.from_tensor_slices(tuple(chunks)).prefetch(2)
    ours = kseq.training.continuous_batches(np.array(ids[: rows * each + 1]), rows, steps)

    def model(package):
        if not package.kseq:
            return characters_model(package, size, rows, steps)
        encoder = kseq.models.Encoder(size, 64, kseq.cells.LSTMCell(256), num_layers=2, bidirectional=False)
        model = kseq.models.LanguageModel(encoder, bos_id=None)
        model.build()
        return model, kseq.losses.SequenceCrossEntropy()

    def places(batch):
        return (batch["source"] if isinstance(batch, dict) else batch[0],)

    return Task({"keras": plain, "keras xla": plain, "kseq": ours}, model, places)


def strings_of_digits(folder, count):
    """Return strings of 3 to 7 spoken digits as log-mel frames, 80 bands, and their digits from 1 on."""
    paths = sorted((folder / "fsdd" / "recordings").glob("*.wav"))
    random, spectrogram = np.random.default_rng(0), kseq.frontends.LogMelSpectrogram(8000, normalize=True)
    sounds, digits = [], []
    for length in np.resize(np.arange(3, 8), count):
        chosen = random.choice(len(paths), length)
        sounds.append(np.concatenate([tf.audio.decode_wav(tf.io.read_file(str(paths[i])))[0] for i in chosen]))
        digits.append([1 + int(paths[i].name[0]) for i in chosen])
    lengths = np.array([len(sound) for sound in sounds], "int32")
    padded = np.stack([np.pad(sound, [(0, lengths.max() - len(sound)), (0, 0)]) for sound in sounds])
    frames = np.concatenate([spectrogram(padded[i : i + 20], lengths[i : i + 20]) for i in range(0, count, 20)])
    counts = np.asarray(spectrogram.frames(lengths))
    return [row[:length] for row, length in zip(frames, counts, strict=True)], digits


def ctc_of_keras(targets, logits):
    """Return Keras's CTC loss; a row of `targets` holds its number of labels, its frames, and its labels."""
    targets = keras.ops.cast(targets, "int32")  # `fit` has made them floats
    return keras.ops.ctc_loss(targets[:, 2:], logits, targets[:, 0], targets[:, 1], mask_index=0)


def digits(folder, part):
    frames, labels = strings_of_digits(folder, int(160 * part))
    bands, longest = frames[0].shape[1], max(map(len, frames))
    specs = (tf.TensorSpec([None, bands], tf.float32), tf.TensorSpec([None], tf.int32))
    rows = dataset_of(list(zip(frames, labels, strict=True)), specs, len(frames))
    # Keras's loss wants the numbers of labels and of frames, which two convolutions halve.
    told = rows.map(lambda x, y: (x, tf.concat([[tf.size(y), (tf.shape(x)[0] + 1) // 2], y], 0)))
    plain = padded_batches(told, 16, lambda x, y: tf.shape(x)[0], (longest // 2, longest))
    ours = rows.map(
        lambda x, y: {"features": x, "lengths": tf.shape(x)[0], "labels": y, "label_lengths": tf.size(y)}
    ).padded_batch(16)

    def model(package):
        model, loss, _ = speech_model(package, bands, 11, 64, 128, 2)
        return model, loss if package.kseq else ctc_of_keras

    def places(batch):
        return ((batch["features"] if isinstance(batch, dict) else batch[0])[..., 0],)

    feeds = {"keras": plain[0], "keras xla": plain[1], "kseq": ours.prefetch(2)}
    return Task(feeds, model, places)


TASKS = {"g2p": g2p, "digits": digits, "tagger": tagger, "characters": characters}


def count_waiting():
    """Let every iterator of `tf.data` count the seconds in which a graph waits for it; return the counter."""
    iterator = type(iter(tf.data.Dataset.range(1)))
    get_next, waited = iterator.get_next, tf.Variable(0.0, dtype=tf.float64)

    def counted(self):
        before = tf.timestamp()
        with tf.control_dependencies([before]):
            batch = get_next(self)
        with tf.control_dependencies(tf.nest.flatten(batch)):
            waited.assign_add(tf.timestamp() - before)
        return batch

    iterator.get_next = counted
    return waited


class Training:
    """A contender's model; a call trains it for an epoch, and notes how many seconds that took and waited for input."""

    def __init__(self, task, contender, waited):
        keras.utils.set_random_seed(0)
        self.model, loss = task.model(OURS if contender == "kseq" else PLAIN)
        self.model.compile("adam", loss, metrics=[], jit_compile=True if contender == "keras xla" else "auto")
        self.feed, self.waited, self.seconds, self.waits = task.feeds[contender], waited, [], []

    def __call__(self):
        """Train for an epoch."""
        self.waited.assign(0.0)
        start = time.perf_counter()
        self.model.fit(self.feed, shuffle=False, verbose=0)
        self.seconds.append(time.perf_counter() - start)
        self.waits.append(float(self.waited))


def count_rows(task, contender):
    """Return the rows of an epoch, and the share of the places in its batches that hold no token or frame."""
    batches = [[np.asarray(array) for array in task.places(batch)] for batch in task.feeds[contender]]
    rows = sum(np.any(first, axis=1).sum() for first, *_ in batches)  # kseq completes batches by empty rows
    real = sum(np.count_nonzero(array) for batch in batches for array in batch)
    return int(rows), 1 - real / sum(array.size for batch in batches for array in batch)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(TASKS), choices=TASKS)
    parser.add_argument("--contenders", nargs="*", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--part", type=float, default=1.0)
    options = parser.parse_args()
    print(f"CPU, {os.cpu_count()} cores, float32, median samples a second of {options.epochs} epochs; tensorflow "
          f"{tf.__version__}, keras {keras.__version__}, kseq {kseq.__version__}")  # fmt: skip
    names = options.contenders
    head = ["task", "samples an epoch", *names, "kseq / best of Keras", "padding", "waiting", "first"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    warnings.filterwarnings("ignore", message="Your input ran out of data")  # of datasets whose size Keras learns
    waited = count_waiting()
    for name in options.only:
        task = TASKS[name](options.data, options.part)
        made = {contender: Training(task, contender, waited) for contender in names}
        sizes = {contender: training.model.count_params() for contender, training in made.items()}
        assert len({*sizes.values()}) == 1, f"The contenders have different numbers of weights: {sizes}"
        times = take_turns(made, options.epochs, rounds=1, twice=False)
        counted = {key: count_rows(task, key) for key in names}
        speed = {key: 1e3 * counted[key][0] / np.array(times[key]) for key in names}
        median = {key: float(np.median(speed[key])) for key in names}
        spread = {key: np.subtract(*np.percentile(speed[key], [75, 25])) / 2 / median[key] for key in names}
        best = max((median[key] for key in names if key != "kseq"), default=float("nan"))
        cells = [name, str(max(count for count, _ in counted.values()))]
        cells += [f"{median[key]:.0f} ({spread[key]:.0%})" for key in names]
        cells.append(f"{median.get('kseq', float('nan')) / best:.2f}")
        cells.append(", ".join(f"{counted[key][1]:.0%}" for key in names))
        cells.append(", ".join(f"{sum(made[key].waits[1:]) / sum(made[key].seconds[1:]):.1%}" for key in names))
        cells.append(", ".join(f"{made[key].seconds[0]:.0f} s" for key in names))
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
