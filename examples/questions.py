"""Question classification: "Who wrote Hamlet ?" -> HUM, by words and their characters, beside a linear model.

usage: python examples/questions.py --data FOLDER [--texts FILE ...] [--seeds 0 1 2] [--epochs 10]
       [--pretrained FILE.keras]

FOLDER holds the file train.txt of TREC's questions, lines of COARSE:fine QUESTION in ISO-8859-1 (X. Li, D. Roth,
"Learning question classifiers", 2002). For each seed it holds out a random tenth of the questions, and trains a
`SequenceClassifier` of the six coarse classes from scratch, and beside it scikit-learn's logistic regression over
n-grams of words and characters. A seed takes some minutes on two cores. It prints the accuracies, their mean and
spread, and exports the last model. With --texts, unlabelled texts (one a line, plain or packed by gzip, or CoNLL-U),
the classifier begins with word vectors that it trains on them and on the questions that are not held out. With
--pretrained, it begins with the saved `LanguageModel` of lower-case words of more texts, its tokenizer and the weights
of its encoder. Needs `pip install "kseq[examples]"`.
"""

import argparse
import gzip
import os
import pathlib
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

import kseq

LENGTHS = (8, 12, 16, 40)  # numbers of words to which questions are padded
REFERENCE = "91.2 % (Y. Kim, 2014, a CNN without pretrained vectors, on the official test set)"


def read_questions(path):
    """Return `(questions, classes)`."""
    lines = path.read_text(encoding="iso-8859-1").splitlines()
    classes, questions = zip(*(line.split(" ", 1) for line in lines), strict=True)
    return list(questions), [name.split(":")[0] for name in classes]


def halves(items, held_out):
    """Return the items for training, and those that are held out."""
    return [items[i] for i in range(len(items)) if i not in held_out], [items[i] for i in sorted(held_out)]


def read_texts(paths):
    """Return the texts of files, with blanks around punctuation marks."""
    texts = []
    for path in paths:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = content.decode("utf-8").splitlines()
        if path.suffix == ".conllu":
            lines = [line.removeprefix("# text = ") for line in lines if line.startswith("# text = ")]
        texts += [" ".join(re.findall(r"\w+(?:'\w+)?|[^\w\s]", line)) for line in lines]
    return texts


def word_vectors(words, questions, texts, seed):
    """Return vectors of words of their texts, with a standard deviation of 0.3."""
    model = kseq.models.SkipGram(words.vocabulary_size, 100, source_tokenizer=words)
    model.compile(steps_per_execution=16)
    model.fit(kseq.training.context_windows(words, [*questions * 3, *texts], window=5, seed=seed), epochs=5)
    vectors = model.word_vectors()
    return kseq.text.WordVectors(vectors.words, 0.3 / vectors.matrix.std() * vectors.matrix)


def make_model(texts, names, options, seed):
    language = keras.saving.load_model(options.pretrained) if options.pretrained else None
    more = read_texts(options.texts)
    words = kseq.text.WordTokenizer(normalizer=kseq.text.TextNormalizer(case="lower"), max_length=LENGTHS[-1])
    words = words.adapt([*texts, *more], min_count=2) if language is None else language.tokenizer
    characters = kseq.text.CharacterTokenizer(max_length=14).adapt(texts)
    encoder = kseq.models.WordEncoder(
        words.vocabulary_size, 100, kseq.cells.LSTMCell(options.units), dropout=0.4, word_dropout=0.2,
        characters=kseq.models.CharacterEncoder(characters.vocabulary_size, 32, kseq.cells.LSTMCell(48), dropout=0.1),
    )  # fmt: skip
    if more:
        word_vectors(words, texts, more, seed).assign_to(encoder.embedding)
    if language is not None:
        encoder = kseq.models.ParallelEncoder([language.encoder, encoder])
    return kseq.models.SequenceClassifier(
        encoder, len(names), pooling=options.pooling, dropout=0.5, class_names=names, source_tokenizer=words,
        character_tokenizer=characters,
    )  # fmt: skip


def make_batches(model, texts, classes, batch_size, **options):
    rows = kseq.training.labelled_texts(
        model.source_tokenizer, model.class_names, texts, classes, character_tokenizer=model.character_tokenizer
    )
    return kseq.training.bucket_by_length(rows, batch_size=batch_size, buckets=LENGTHS, **options)


def trained(train, dev, names, options, seed):
    """Return a model, and the percentage of `dev` that it classifies right after the last epoch."""
    keras.utils.set_random_seed(seed)
    model = make_model(train[0], names, options, seed)
    batches = make_batches(model, *train, options.batch_size, shuffle=True, seed=seed)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, options.epochs * len(batches), warmup_target=options.learning_rate, warmup_steps=len(batches)
    )
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True)
    dev_batches = make_batches(model, *dev, options.batch_size)
    history = model.fit(batches, epochs=options.epochs, validation_data=dev_batches).history
    return model, 100 * history["val_accuracy"][-1]


def linear_model(train, dev):
    """Return the percentage of `dev` that logistic regression over n-grams classifies right."""
    ngrams = make_union(
        TfidfVectorizer(ngram_range=(1, 3), token_pattern=r"\S+", sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 5), sublinear_tf=True),
    )
    return 100 * make_pipeline(ngrams, LogisticRegression(C=30, max_iter=1000)).fit(*train).score(*dev)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--pooling", default="max")
    parser.add_argument("--texts", type=pathlib.Path, nargs="+", default=[], metavar="FILE")
    parser.add_argument("--pretrained", type=pathlib.Path, help="a LanguageModel, saved as .keras")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/questions"))
    options = parser.parse_args()
    questions, classes = read_questions(options.data / "train.txt")
    names = sorted(set(classes))
    scores = []
    for seed in options.seeds:
        held_out = set(np.random.default_rng(seed).permutation(len(questions))[: len(questions) // 10].tolist())
        train, dev = zip(halves(questions, held_out), halves(classes, held_out), strict=True)
        model, own = trained(train, dev, names, options, seed)
        scores.append((own, linear_model(train, dev)))
        print("seed {}: {:.1f} % right, logistic regression {:.1f} %".format(seed, *scores[-1]), flush=True)
    for text, row in zip(dev[0][:5], model.classify(dev[0][:5], top=2), strict=True):
        print(f"  {text} -> " + ", ".join(f"{name} ({probability:.2f})" for name, probability in row))
    for label, column in zip(("SequenceClassifier", "logistic regression"), np.array(scores).T, strict=True):
        low, high = column.min(), column.max()
        print(f"{label}: {column.mean():.1f} % of {len(dev[0])} held-out questions right ({low:.1f} to {high:.1f})")
    print(f"published: {REFERENCE}")
    kseq.export_saved_model(model, options.output, buckets=LENGTHS)
    print(f"To start a server, and ask it for classes:\n  kseq-serve --model_name={options.output.name} "
          f"--model_base_path={options.output.resolve()} --rest_api_port=8501 --enable_playground\n  curl -d "
          "'{\"signature_name\": \"serving_classify\", \"examples\": [{\"text\": \"Who wrote Hamlet ?\"}]}' "
          f"http://localhost:8501/v1/models/{options.output.name}:classify")  # fmt: skip


if __name__ == "__main__":
    main()
