"""Sentiment, or any other label of a text: train on a file of labelled texts, evaluate, and export.

usage: python examples/sentiment.py --data FILE.tsv [--epochs 8]

FILE holds lines of text<TAB>label in UTF-8; the labels may be any names, such as positive and negative. Holds out a
tenth of the texts, trains a `SequenceClassifier` over words with attention pooling, and prints its accuracy beside the
share of the most frequent label, and some answers. Then exports the model, and prints the command that serves it. Needs
`pip install "kseq[text,serving]"`.
"""

import argparse
import collections
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import kseq

LENGTHS = (16, 32, 64, 128)  # numbers of words to which texts are padded; longer ones are cut


def read_labelled(path):
    """Return `(texts, labels)`.

    Raises:
        ValueError: If a line has no label.
    """
    texts, labels = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text, tab, label = line.rpartition("\t")
        if not tab or not text.strip() or not label.strip():
            raise ValueError(f"{path}, line {number}: expected text<TAB>label, but the line is {line!r}.")
        texts.append(text)
        labels.append(label.strip())
    return texts, labels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--min_count", type=int, default=2, help="rarer words are unknown words")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/sentiment"))
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    texts, labels = read_labelled(options.data)
    names = sorted(set(labels))
    order = np.random.default_rng(options.seed).permutation(len(texts))
    held_out = max(1, len(texts) // 10)
    dev, train = ([(texts[i], labels[i]) for i in part] for part in (order[:held_out], order[held_out:]))

    normalizer = kseq.text.TextNormalizer(case="lower")
    words = kseq.text.WordTokenizer(normalizer=normalizer, max_length=LENGTHS[-1])
    words.adapt([text for text, _ in train], min_count=options.min_count)
    encoder = kseq.models.Encoder(words.vocabulary_size, 64, kseq.cells.GRUCell(options.units), dropout=options.dropout)
    model = kseq.models.SequenceClassifier(
        encoder, len(names), pooling="attention", dropout=options.dropout, source_tokenizer=words, class_names=names
    )
    batches, dev_batches = (
        kseq.training.bucket_by_length(
            kseq.training.labelled_texts(words, names, *zip(*part, strict=True)),
            batch_size=options.batch_size, buckets=LENGTHS, shuffle=True, seed=options.seed,
        )
        for part in (train, dev)
    )  # fmt: skip
    model.compile(keras.optimizers.Adam(options.learning_rate, clipnorm=1.0))
    accuracy = model.fit(batches, epochs=options.epochs, validation_data=dev_batches).history["val_accuracy"][-1]

    shown = dev[:5]
    for (text, label), [(name, probability)] in zip(
        shown, model.classify([text for text, _ in shown], top=1), strict=True
    ):
        print(f"  {text[:70]!r} -> {name} ({probability:.2f})" + (f", right is {label}" if name != label else ""))
    most = collections.Counter(label for _, label in dev).most_common(1)[0][1] / len(dev)
    print(
        f"{100 * accuracy:.1f} % of {len(dev)} held-out texts are right; the most frequent label has {100 * most:.1f} %"
    )
    kseq.export_saved_model(model, options.output, buckets=LENGTHS)
    name = options.output.name
    print(f"To start a server, and ask it for classes:\n  kseq-serve --model_name={name} "
          f"--model_base_path={options.output.resolve()} --rest_api_port=8501 --enable_playground\n  curl -d "
          f"'{{\"instances\": [\"...\"]}}' http://localhost:8501/v1/models/{name}:predict")  # fmt: skip


if __name__ == "__main__":
    main()
