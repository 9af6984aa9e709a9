"""Grapheme to phoneme: learn to say words, "chaleur" -> ʃ a l œ ʁ, and measure it.

usage: python examples/g2p.py --data FOLDER [--language fre] [--epochs 30]

FOLDER holds the SIGMORPHON 2021 shared task's files LANGUAGE_train.tsv and LANGUAGE_dev.tsv, lines of word<TAB>phones
(Ashby et al., "Results of the second SIGMORPHON shared task on multilingual grapheme-to-phoneme conversion", 2021).
Trains in about 15 minutes on two cores, prints word and phone error rates on dev by greedy and by beam search, exports,
starts kseq-serve and asks it. Exit code 0 only if the served answers equal the model's own. Needs
`pip install "kseq[examples]"`.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import served
import tensorflow as tf

import kseq


def read_pairs(path):
    """`(words, pronunciations)`; phones are separated by blanks."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(zip(*(line.split("\t")[:2] for line in lines), strict=True))


def error_rates(said, right):
    """Share of wrong words, and edits per phone, in percent."""
    hypothesis, reference = (tf.strings.split(tf.constant(texts)).to_sparse() for texts in (said, right))
    edits = tf.reduce_sum(tf.edit_distance(hypothesis, reference, normalize=False)).numpy()
    words = np.mean([a != b for a, b in zip(said, right, strict=True)])
    return 100 * words, 100 * edits / sum(len(text.split()) for text in right)


def make_model(source, target, units, dropout):
    cell = kseq.cells.GRUCell(units)
    return kseq.models.Seq2Seq(
        kseq.models.Encoder(source.vocabulary_size, 128, cell, num_layers=2, residual=True, dropout=dropout),
        kseq.models.Decoder(target.vocabulary_size, 128, cell, dropout=dropout),
        bos_id=target.bos_id,
        eos_id=target.eos_id,
    )


def train(model, source, target, words, phones, options):
    batches = kseq.training.bucket_by_length(
        {"source": source.tokenize(words).to_list(), "target": [[target.bos_id, *row, target.eos_id] for row in
                                                                target.tokenize(phones).to_list()]},
        batch_size=options.batch_size, buckets={"source": (12, 32), "target": (12, 32)}, shuffle=True,
        vocabulary_sizes={"source": source.vocabulary_size, "target": target.vocabulary_size},
        seed=options.seed,
    )  # fmt: skip
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, options.epochs * len(batches), warmup_target=options.learning_rate, warmup_steps=len(batches)
    )
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True)
    model.fit(batches, epochs=options.epochs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--language", default="fre")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use the first words only")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/g2p"))
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    words, phones = read_pairs(options.data / f"{options.language}_train.tsv")
    dev_words, dev_phones = read_pairs(options.data / f"{options.language}_dev.tsv")
    words, phones = words[: options.limit], phones[: options.limit]

    source = kseq.text.CharacterTokenizer(normalizer=kseq.text.TextNormalizer(form="NFC")).adapt(words)
    target = kseq.text.WordTokenizer(normalizer=kseq.text.TextNormalizer(form="NFC")).adapt(phones)
    model = make_model(source, target, options.units, options.dropout)
    train(model, source, target, words, phones, options)

    dev_right = [text.decode() for text in target.normalize(dev_phones).numpy()]
    said = {}
    for name, strategy in (
        ("greedy", kseq.decoding.GreedySearch()),
        ("beam search", kseq.decoding.BeamSearch(beam_width=5, top_paths=3)),
    ):
        folder = kseq.export_saved_model(
            model, options.output, strategy=strategy, source=source, target=target, buckets=(8, 16, 32), max_length=32
        )
        said[name] = kseq.load_saved_model(folder)(text=dev_words)["text"][:, 0].tolist()
        word_errors, phone_errors = error_rates(said[name], dev_right)
        print(f"{options.language} dev, {name}: {word_errors:.1f} % word error, {phone_errors:.2f} % phone error")

    asked = list(dev_words[:5])
    own = kseq.load_saved_model(folder)(text=asked)
    with served.serving("g2p", options.output) as clients:
        rest, remote = (client.predict("g2p", {"text": asked}) for client in clients)
    for word, answers, scores, right in zip(asked, rest["text"], rest["scores"], dev_right, strict=False):
        print(f"{word!r} -> {answers[0]} ({scores[0]:.2f}), right is {right}")
    equal = served.equal(rest, own) and served.equal(remote, own)
    print(f"REST and gRPC {'equal' if equal else 'DIFFER FROM'} the model's own answers.")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
