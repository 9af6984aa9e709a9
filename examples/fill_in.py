"""Missing words: "I am ___ hungry, and I can eat half a pig" -> very, by a model that reads both sides of the gap.

usage: python examples/fill_in.py [--data FILE.txt] [--epochs 20] [--output build/models/fill_in]

FILE holds a sentence per line; without it, the example makes sentences. Trains a bidirectional LSTM to predict words
that are hidden at random, prints the share of held-out words that it finds, beside that of the most frequent word after
the word before, and fills in the gaps of some sentences. Then exports the model, which answers with the best word for
each token, and prints the command that serves it. Needs `pip install "kseq[text,serving]"`.
"""

import argparse
import collections
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kseq

GAP = "___"
LENGTHS = (8, 16, 32)  # numbers of words to which sentences are padded; longer ones are left out
NOT_HIDDEN = -100
SENTENCES = ["I am ___ .", "I am ___ hungry .", "I am ___ hungry , and I can eat half a pig .",
             "I am not ___ , and I will drink nothing .", "she ___ so tired , and she can sleep all day ."]  # fmt: skip
PEOPLE = {"I": "am", "you": "are", "she": "is", "he": "is", "we": "are", "they": "are"}
NEEDS = {
    "hungry": ("eat", ["half a pig", "a whole cake", "ten pies"]),
    "thirsty": ("drink", ["half a lake", "ten glasses of water"]),
    "tired": ("sleep", ["all day", "until noon"]),
}


def make_sentences(count):
    random = np.random.default_rng(0)
    sentences = []
    for _ in range(count):
        who = random.choice([*PEOPLE])
        need = random.choice([*NEEDS])
        verb, objects = NEEDS[need]
        begin = f"{who} {PEOPLE[who]}"
        very = random.choice(["very", "very", "so"])
        ends = [
            f"{begin} {random.choice(['happy', 'happy', need])} .",
            f"{begin} {random.choice([very, 'not'])} {need} .",
            f"{begin} {very} {need} , and {who} can {verb} {random.choice(objects)} .",
            f"{begin} not {need} , and {who} will {verb} nothing .",
        ]
        sentences.append(random.choice(ends))
    return sentences


def hide(gap, share):
    """Return a function that hides a share of the words of a batch, others each time, and makes them the labels."""

    def hidden(batch):
        words, real = batch["source"], tf.sequence_mask(batch["source_lengths"], tf.shape(batch["source"])[1])
        chosen = real & (tf.random.uniform(tf.shape(words)) < share)
        tags = tf.where(chosen, words, NOT_HIDDEN)
        return {"source": tf.where(chosen, gap, words), "source_lengths": batch["source_lengths"], "tags": tags}

    return hidden


def each_word_hidden(rows, gap):
    """Return rows for evaluation: each sentence once for each of its words, which is hidden."""
    places = [(row, place) for row in rows for place in range(len(row))]
    source = [[*row[:place], gap, *row[place + 1 :]] for row, place in places]
    tags = [[word if at == place else NOT_HIDDEN for at, word in enumerate(row)] for row, place in places]
    return {"source": source, "tags": tags}


def share_of_pairs(train, dev):
    """Return the share of words that are the most frequent one after the word before, in percent."""
    follow = collections.defaultdict(collections.Counter)
    for row in train:
        for before, word in zip([0, *row], row, strict=False):
            follow[before][word] += 1
    found = [follow[before].most_common(1)[0][0] == word if follow[before] else False
             for row in dev for before, word in zip([0, *row], row, strict=False)]  # fmt: skip
    return 100 * np.mean(found)


def fill(model, sentence, gap):
    """Return the words of the gaps of a sentence, the best three of each with their probabilities."""
    words, tokenizer = sentence.split(" "), model.source_tokenizer
    row = [gap if word == GAP else token for word, token in zip(words, tokenizer.tokenize([sentence])[0], strict=True)]
    logits = model.predict({"source": [[int(token) for token in row]]}, verbose=0)[0]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    best = [np.argsort(-probabilities[place])[:3] for place, word in enumerate(words) if word == GAP]
    names = tokenizer.vocabulary.tokens(np.array(best, "int32")).numpy()
    gaps = probabilities[[place for place, word in enumerate(words) if word == GAP]]
    return [[(name.decode(), float(of_gap[token])) for name, token in zip(*row, strict=True)]
            for *row, of_gap in zip(names, best, gaps, strict=True)]  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--sentences", type=int, default=2000, help="number of sentences that are made without --data")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--hidden", type=float, default=0.2, help="share of the words that are hidden in training")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=5e-3)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/fill_in"))
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    given = options.data.read_text(encoding="utf-8").splitlines() if options.data else make_sentences(options.sentences)
    order = np.random.default_rng(0).permutation(len(given))
    held_out = max(1, len(given) // 10)
    tokenizer = kseq.text.WordTokenizer().adapt([given[i] for i in order[held_out:]] + [GAP])
    rows = [tokenizer.tokenize([given[i]])[0].numpy().tolist() for i in order]
    dev, train = ([row for row in part if 0 < len(row) <= LENGTHS[-1]] for part in (rows[:held_out], rows[held_out:]))
    gap = int(tokenizer.tokenize([GAP])[0][0])
    encoder = kseq.models.Encoder(tokenizer.vocabulary_size, 64, kseq.cells.LSTMCell(options.units), dropout=0.2)
    names = [name.decode() for name in tokenizer.vocabulary.tokens(np.arange(tokenizer.vocabulary_size)).numpy()]
    model = kseq.models.Tagger(encoder, len(names), dropout=0.2, class_names=names, source_tokenizer=tokenizer)
    model.compile(
        keras.optimizers.Adam(options.learning_rate, clipnorm=1.0),
        kseq.losses.SequenceCrossEntropy(ignore_label=NOT_HIDDEN),
    )
    batches = kseq.training.bucket_by_length(
        {"source": train}, batch_size=options.batch_size, buckets=LENGTHS, shuffle=True, seed=0
    )
    model.fit(batches.map(hide(gap, options.hidden)), epochs=options.epochs)
    accuracy = model.evaluate(each_word_hidden(dev, gap), verbose=0, return_dict=True)["token_accuracy"]
    words = sum(map(len, dev))
    print(f"{100 * accuracy:.1f} % of {words} held-out words found, from both sides of the gap")
    print(f"{share_of_pairs(train, dev):.1f} % by the most frequent word after the word before")
    for sentence in SENTENCES:
        for best in fill(model, sentence, gap):
            print(f"  {sentence} -> " + ", ".join(f"{word} ({probability:.2f})" for word, probability in best))
    kseq.export_saved_model(model, options.output, buckets=LENGTHS, batch_sizes=(1, 16), examples=SENTENCES)
    name = options.output.name
    print(f"To start a server, and ask it for the best word of each token:\n  kseq-serve --model_name={name} "
          f"--model_base_path={options.output.resolve()} --rest_api_port=8501 --enable_playground\n  curl -d "
          f"'{{\"instances\": [\"{SENTENCES[1]}\"]}}' http://localhost:8501/v1/models/{name}:predict")  # fmt: skip


if __name__ == "__main__":
    main()
