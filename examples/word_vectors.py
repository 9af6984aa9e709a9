"""Word vectors: train them on a text, print nearest words, correct misspelt words, and export.

usage: python examples/word_vectors.py --data ../shared/data/tinyshakespeare [--model cbow] [--subwords]

Reads `input.txt` in the folder, or all `*.txt` files. Trains `SkipGram`, `CBOW` or `GloVe` on its lower-case words, and
prints the words nearest to some frequent ones. With `--subwords` a word's vector is made of its characters, as in
fastText: of 100 misspellings of frequent words of six or more letters, it counts those whose nearest word is the right
one. Exports the model, a text in, its vector and the nearest words out, and prints the command that serves it. Needs
`pip install "kseq[text,serving]"`.
"""

import argparse
import os
import pathlib
import random
import re
import string
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import kseq

MODELS = {"skip_gram": kseq.models.SkipGram, "cbow": kseq.models.CBOW, "glove": kseq.models.GloVe}
# gensim 4.4 with two threads on two cores, 100 numbers a word, tiny Shakespeare.
REFERENCE = {"skip_gram": "600,000", "cbow": "2,100,000"}


def read_texts(folder):
    """Return the texts between empty lines, of lower-case words without marks."""
    content = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))
                          if path.name != "SOURCE.txt").lower()  # fmt: skip
    return [" ".join(words) for part in content.split("\n\n") if (words := re.findall(r"\w[\w']*", part))]


def misspelt(word, draw):
    """Return a word with a letter left out, put in or exchanged, or with two letters swapped."""
    at, letter = draw.randrange(len(word) - 1), draw.choice(string.ascii_lowercase)
    forms = [word[:at] + word[at + 1 :], word[:at] + letter + word[at:], word[:at] + letter + word[at + 1 :],
             word[:at] + word[at + 1] + word[at] + word[at + 2 :]]  # fmt: skip
    return draw.choice(forms)


def corrected(model, vectors, frequent, draw, count=100):
    """Return `(misspelling, word, nearest word)` for `count` misspellings that are no words themselves."""
    pairs = []
    while len(pairs) < count:
        word = draw.choice(frequent)
        wrong = misspelt(word, draw)
        if wrong not in vectors:
            pairs.append((wrong, word))
    unseen = model.word_vectors(sorted({wrong for wrong, _ in pairs}))
    return [(wrong, word, unseen.nearest_in(vectors, wrong, 1)[0][0]) for wrong, word in pairs]


def made(options, words, texts):
    """Return the model and its training data."""
    cls = MODELS[options.model]
    if options.model == "glove":
        pairs = kseq.training.co_occurrences(words, texts, window=options.window)
        return cls(words.vocabulary_size, options.dim, source_tokenizer=words), pairs
    data = kseq.training.context_windows(words, texts, window=options.window, seed=options.seed)
    if not options.subwords:
        return cls(words.vocabulary_size, options.dim, source_tokenizer=words), data
    characters = kseq.text.CharacterTokenizer(normalizer=kseq.text.TextNormalizer(case="lower")).adapt(texts)
    # Large initial values: n-grams that tell little of the context still tell words apart.
    start = keras.initializers.RandomUniform(-0.3, 0.3, seed=options.seed)
    ngrams = kseq.layers.CharNGramEmbedding(
        characters.vocabulary_size, options.dim // 3, min_length=1, max_length=3, buckets=20_000, combine="concat",
        embeddings_initializer=start,
    )  # fmt: skip
    own = {"source_tokenizer": words, "character_tokenizer": characters}
    return cls(words.vocabulary_size, ngrams.dim, subwords=ngrams, **own), data


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--model", choices=MODELS, default="skip_gram")
    parser.add_argument("--subwords", action="store_true", help="vectors made of characters; not for glove")
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--window", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--min_count", type=int, default=5, help="rarer words are left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/word_vectors"))
    options = parser.parse_args()
    if options.subwords and options.model == "glove":
        parser.error("--subwords needs --model skip_gram or cbow")
    keras.utils.set_random_seed(options.seed)
    texts = read_texts(options.data)
    words = kseq.text.WordTokenizer(normalizer=kseq.text.TextNormalizer(case="lower"))
    words.adapt(texts, min_count=options.min_count)
    model, data = made(options, words, texts)
    model.compile()
    started, batches = time.monotonic(), {"batch_size": 1024} if options.model == "glove" else {}
    model.fit(data, epochs=options.epochs, **batches)
    rate = options.epochs * sum(len(text.split()) for text in texts) / (time.monotonic() - started)
    print(f"{rate:,.0f} words a second; gensim's: {REFERENCE.get(options.model, 'none')} without subwords")
    vectors = model.word_vectors()
    for word in [word for word in ("king", "sweet", "death", "sea", *words.vocabulary.strings[40:]) if word in vectors][
        :6
    ]:
        print(f"  {word}: " + ", ".join(f"{near} {cosine:.2f}" for near, cosine in vectors.nearest(word, 6)))
    if options.subwords:
        frequent = [word for word in words.vocabulary.strings[4:] if len(word) >= 6 and word.isalpha()][:300]
        found = corrected(model, vectors, frequent, random.Random(options.seed))
        right = sum(word == nearest for _, word, nearest in found)
        print(f"{right} of {len(found)} misspellings are nearest to the right word; the goal is 80. The first ones:")
        print("  " + ", ".join(f"{wrong} -> {nearest}" for wrong, _, nearest in found[:8]))
    kseq.export_saved_model(model, options.output, buckets=(1, 8, 32))
    print(f"To start a server, and ask it for nearest words:\n  kseq-serve --model_name={options.output.name} "
          f"--model_base_path={options.output.resolve()} --rest_api_port=8501 --enable_playground\n  curl -d "
          f"'{{\"instances\": [\"king\"]}}' http://localhost:8501/v1/models/{options.output.name}:predict")  # fmt: skip


if __name__ == "__main__":
    main()
