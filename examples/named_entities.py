"""Named entities by a bidirectional LSTM over words and characters, with and without a conditional random field (CRF).

usage: python examples/named_entities.py --data FOLDER [--seeds 3] [--epochs 12] [--output build/models/diseases]

FOLDER holds train.tsv and devel.tsv, a word and its tag per line and an empty line between sentences, such as the
names of diseases of the NCBI disease corpus (R. Dogan, R. Leaman, Z. Lu, 2014). Trains each seed's model twice, from
scratch and without pretrained vectors, prints the F1 of spans on devel, exports the last CRF to --output, starts
kseq-serve and asks it over REST and gRPC. Needs `pip install "kseq[text,serving]"`.
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
import tensorflow as tf

import kseq

LENGTHS = (16, 32, 64, 128)  # lengths to which sentences are padded; longer ones are left out of training
TEXT = "Familial adenomatous polyposis (FAP) is caused by mutations of APC, unlike breast cancer."


def read_sentences(path):
    """Return lists of `(word, tag)`."""
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    return [[tuple(line.split("\t")) for line in block.split("\n")] for block in blocks]


def make_batches(sentences, tags, words, characters, **options):
    """Return batches of sentences of similar length, with the inputs of the model for each form of a word."""
    forms = sorted({word for sentence in sentences for word, _ in sentence})
    spelt, lengths = characters(forms)
    tables = {
        "source": words.vocabulary.lookup(words.normalize(forms)),
        "characters": spelt,
        "characters_lengths": lengths,
    }
    form_ids, tag_ids = ({name: index for index, name in enumerate(names)} for names in (forms, tags))
    rows = {
        "forms": [[form_ids[word] for word, _ in sentence] for sentence in sentences],
        "tags": [[tag_ids[tag] for _, tag in sentence] for sentence in sentences],
    }

    def look_up(batch):
        told = {name: tf.gather(table, batch["forms"]) for name, table in tables.items()}
        return {**batch, **told, "source_lengths": batch["forms_lengths"]}

    return kseq.training.bucket_by_length(rows, buckets=LENGTHS, **options).map(look_up)


def train(batches, devel, tags, words, characters, options, *, seed, crf):
    """Return a trained tagger and its F1 of spans on devel."""
    keras.utils.set_random_seed(seed)
    spelling = kseq.models.CharacterEncoder(characters.vocabulary_size, 30, kseq.cells.LSTMCell(options.units // 3))
    encoder = kseq.models.WordEncoder(
        words.vocabulary_size, 100, kseq.cells.LSTMCell(options.units), characters=spelling, dropout=0.5,
        word_dropout=0.2,
    )  # fmt: skip
    model = kseq.models.Tagger(
        encoder, len(tags), dropout=0.5, crf=crf, scheme="BIO" if crf else None, class_names=tags,
        source_tokenizer=words, character_tokenizer=characters,
    )  # fmt: skip
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.epochs * len(batches))
    model.compile(
        keras.optimizers.Adam(schedule, clipnorm=1.0), metrics=[kseq.metrics.SpanF1(tags, "BIO")], jit_compile=True
    )
    print(f"seed {seed}, {'with' if crf else 'without'} a CRF:")
    history = model.fit(batches, epochs=options.epochs, validation_data=devel, validation_freq=options.epochs).history
    return model, 100 * history["val_span_f1"][-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--units", type=int, default=150)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=4e-3)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/diseases"))
    options = parser.parse_args()
    started = time.monotonic()
    sentences, devel = (read_sentences(options.data / f"{part}.tsv") for part in ("train", "devel"))
    tags = sorted({tag for sentence in sentences + devel for _, tag in sentence}, key=lambda tag: (tag != "O", tag))
    seen = [word for sentence in sentences for word, _ in sentence]
    normalizer = kseq.text.TextNormalizer(form="NFC", case="lower")
    words = kseq.text.WordTokenizer(normalizer=normalizer, split_punctuation=True).adapt(seen, min_count=2)
    characters = kseq.text.CharacterTokenizer(max_length=20).adapt(seen)
    sentences = [sentence for sentence in sentences if len(sentence) <= LENGTHS[-1]]
    told = tags, words, characters
    devel = make_batches(devel, *told, batch_size=options.batch_size)
    f1 = np.zeros((options.seeds, 2))
    for seed, crf in np.ndindex(f1.shape):
        batches = make_batches(sentences, *told, batch_size=options.batch_size, shuffle=True, seed=seed)
        model, f1[seed, crf] = train(batches, devel, *told, options, seed=seed, crf=bool(crf))

    gains = f1[:, 1] - f1[:, 0]
    for seed, (without, with_crf) in enumerate(f1):
        print(
            f"seed {seed}: F1 on devel {without:.2f} without a CRF, {with_crf:.2f} with it: {with_crf - without:+.2f}"
        )
    for label, values in (("without a CRF", f1[:, 0]), ("with a CRF", f1[:, 1]), ("worth of the CRF", gains)):
        print(f"{label}: {values.mean():.2f} (standard deviation {values.std(ddof=min(1, len(values) - 1)):.2f})")
    print("published: 84 to 86 on test with pretrained vectors (BiLSTM-CRF); a CRF is worth about 1 point")
    print(f"{f1.size} models in {(time.monotonic() - started) / 60:.1f} minutes")

    folder = kseq.export_saved_model(model, options.output, buckets=(16, 64), batch_sizes=(1, 16), examples=[TEXT])
    own = kseq.load_saved_model(folder)(text=[TEXT])
    for start, end, kind in zip(own["span_starts"][0], own["span_ends"][0], own["span_types"][0], strict=True):
        print(f"  {kind}: {TEXT.encode()[start:end].decode()!r}")
    return 0 if served.ask(options.output, {"text": [TEXT]}, own) else 1


if __name__ == "__main__":
    sys.exit(main())
