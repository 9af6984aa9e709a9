"""Part-of-speech tagging from words and their characters.

usage: python examples/tagging.py --data FOLDER [--epochs 6] [--output build/models/tags]

FOLDER holds the files *train.conllu and *dev.conllu of a treebank of universaldependencies.org, such as English EWT
(N. Silveira et al., "A gold standard dependency corpus for English", 2014). Trains a word and character bidirectional
LSTM from scratch, in about ten minutes on two cores, and prints the accuracy on dev. Exports it to --output, starts
kseq-serve and asks it for the tags of some sentences. Needs `pip install "kseq[text,serving]"`.
"""

import argparse
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import served
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
        "source": words.vocabulary.lookup(words.normalize(forms)), "characters": spelt, "characters_lengths": lengths
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


def make_model(words, characters, tags, units, dropout):
    encoder = kseq.models.WordEncoder(
        words.vocabulary_size, 100, kseq.cells.LSTMCell(units), dropout=dropout, word_dropout=0.1,
        characters=kseq.models.CharacterEncoder(characters.vocabulary_size, 32, kseq.cells.LSTMCell(64)),
    )  # fmt: skip
    names = {"class_names": tags, "source_tokenizer": words, "character_tokenizer": characters}
    return kseq.models.Tagger(encoder, len(tags), dropout=dropout, **names)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/tags"))
    parser.add_argument("--limit", type=int, help="use this many sentences only")
    options = parser.parse_args()
    started = time.monotonic()
    keras.utils.set_random_seed(options.seed)
    train, dev = (read_sentences(next(options.data.glob(f"*{part}.conllu"))) for part in ("train", "dev"))
    train = train[: options.limit]

    seen = [form for sentence in train for form, _ in sentence]
    normalizer = kseq.text.TextNormalizer(form=None, case="lower")
    vocabulary = kseq.text.Vocabulary.from_corpus([normalizer(seen).numpy().astype(str)], min_count=2)
    words = kseq.text.WordTokenizer(vocabulary, normalizer=normalizer)
    characters = kseq.text.CharacterTokenizer(max_length=16).adapt(seen)
    forms, tags = (sorted({pair[part] for sentence in train + dev for pair in sentence}) for part in (0, 1))
    told = forms, tags, spell(forms, words, characters)
    batches = make_batches(train, *told, batch_size=options.batch_size, shuffle=True, seed=options.seed)
    model = make_model(words, characters, tags, options.units, options.dropout)
    schedule = keras.optimizers.schedules.CosineDecay(options.learning_rate, options.epochs * len(batches))
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True)
    dev_batches = make_batches(dev, *told, batch_size=options.batch_size)
    history = model.fit(batches, epochs=options.epochs, validation_data=dev_batches).history

    accuracy, minutes = history["val_token_accuracy"][-1], (time.monotonic() - started) / 60
    count = sum(map(len, dev))
    print(f"dev: {100 * accuracy:.2f} % of {count} tags are right, after {minutes:.1f} minutes")
    for sentence in dev[:8]:
        tagged, right = model.tag([[form for form, _ in sentence]])[0], [tag for _, tag in sentence]
        hints = ["" if tag == of else f" (right is {of})" for (_, tag), of in zip(tagged, right, strict=True)]
        print(" ", *(f"{form}/{tag}{hint}" for (form, tag), hint in zip(tagged, hints, strict=True)))
    texts = [" ".join(form for form, _ in sentence) for sentence in dev[:8]]
    folder = kseq.export_saved_model(model, options.output, buckets=LENGTHS, batch_sizes=(1, 16), examples=texts[:3])
    return 0 if served.ask(options.output, {"text": texts}, kseq.load_saved_model(folder)(text=texts)) else 1


if __name__ == "__main__":
    sys.exit(main())
