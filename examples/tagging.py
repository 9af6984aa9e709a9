"""Part-of-speech tagging from words and their characters.

usage: python examples/tagging.py --data FOLDER [--epochs 6]

FOLDER holds the files *train.conllu and *dev.conllu of a treebank of universaldependencies.org, such as English EWT
(N. Silveira et al., "A gold standard dependency corpus for English", 2014). Trains a word and character bidirectional
LSTM from scratch, in about ten minutes on two cores, and prints the accuracy on dev and some sentences.
Needs `pip install "kseq[text]"`.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kseq

LENGTHS = (8, 16, 32, 64)  # lengths to which sentences are padded; longer ones are split


def read_sentences(path):
    """Return lists of `(word, tag)` without multiword tokens and empty nodes, whose numbers contain a - or a `.`."""
    blocks = path.read_text(encoding="utf-8").strip().split("\n\n")
    rows = [[line.split("\t") for line in block.splitlines() if line[0] != "#"] for block in blocks]
    sentences = [[(fields[1], fields[3]) for fields in row if fields[0].isdigit()] for row in rows]
    return [words[at : at + LENGTHS[-1]] for words in sentences for at in range(0, len(words), LENGTHS[-1])]


def spell(forms, words, characters):
    """Return a table for each input of the model, by word form: word ids, character ids, numbers of characters."""
    spelt, lengths = characters(forms)
    return {
        "source": words.lookup([form.lower() for form in forms]), "characters": spelt, "characters_lengths": lengths
    }  # fmt: skip


def make_batches(sentences, forms, tags, spelling, **options):
    """Return batches of sentences of similar length, with the inputs that the tables `spelling` hold for each form."""
    form_ids, tag_ids = ({name: index for index, name in enumerate(names)} for names in (forms, tags))
    rows = {
        "forms": [[form_ids[form] for form, _ in sentence] for sentence in sentences],
        "tags": [[tag_ids[tag] for _, tag in sentence] for sentence in sentences],
    }

    def look_up(batch):
        told = {name: tf.gather(table, batch["forms"]) for name, table in spelling.items()}
        return {**batch, **told, "source_lengths": batch["forms_lengths"]}

    return kseq.training.bucket_by_length(rows, buckets=LENGTHS, **options).map(look_up)


def make_model(words, characters, num_tags, units, dropout):
    encoder = kseq.models.WordEncoder(
        len(words), 100, kseq.cells.LSTMCell(units), dropout=dropout, word_dropout=0.1,
        characters=kseq.models.CharacterEncoder(characters.vocabulary_size, 32, kseq.cells.LSTMCell(64)),
    )  # fmt: skip
    return kseq.models.Tagger(encoder, num_tags, dropout=dropout)


def show(model, batch, forms, tags):
    """Print a sentence with its predicted tags, and the right tag beside each wrong one."""
    said = np.argmax(model(batch)[0], axis=-1)
    shown = []
    for place in range(int(batch["source_lengths"][0])):
        tag, right = tags[said[place]], tags[int(batch["tags"][0, place])]
        shown.append(f"{forms[int(batch['forms'][0, place])]}/{tag}" + (f" (right is {right})" if tag != right else ""))
    print(" ", *shown)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use this many sentences only")
    options = parser.parse_args()
    started = time.monotonic()
    keras.utils.set_random_seed(options.seed)
    train, dev = (read_sentences(next(options.data.glob(f"*{part}.conllu"))) for part in ("train", "dev"))
    train = train[: options.limit]

    seen = [form for sentence in train for form, _ in sentence]
    words = kseq.text.Vocabulary.from_corpus([[form.lower() for form in seen]], min_count=2)
    characters = kseq.text.CharacterTokenizer(max_length=16).adapt(seen)
    forms, tags = (sorted({pair[part] for sentence in train + dev for pair in sentence}) for part in (0, 1))
    told = forms, tags, spell(forms, words, characters)
    batches = make_batches(train, *told, batch_size=options.batch_size, shuffle=True, seed=options.seed)
    model = make_model(words, characters, len(tags), options.units, options.dropout)
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.epochs * len(batches))
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True)
    dev_batches = make_batches(dev, *told, batch_size=options.batch_size)
    history = model.fit(batches, epochs=options.epochs, validation_data=dev_batches).history

    for batch in make_batches(dev[:8], *told, batch_size=1):
        show(model, batch, forms, tags)
    accuracy, minutes = history["val_token_accuracy"][-1], (time.monotonic() - started) / 60
    count = sum(map(len, dev))
    print(f"dev: {100 * accuracy:.2f} % of {count} tags are right, after {minutes:.1f} minutes")


if __name__ == "__main__":
    main()
