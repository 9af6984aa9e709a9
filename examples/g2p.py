"""Grapheme to phoneme: train a model of pronunciation, "chaleur" -> ʃ a l œ ʁ, and measure its errors.

usage: python examples/g2p.py --data FOLDER [--language fre] [--model monotonic] [--epochs 30] [--models 2]

FOLDER holds the SIGMORPHON 2021 shared task's files LANGUAGE_train.tsv and LANGUAGE_dev.tsv, lines of word<TAB>phones
(Ashby et al., "Results of the second SIGMORPHON shared task on multilingual grapheme-to-phoneme conversion", 2021).
Trains in about 15 minutes on two cores, prints word and phone error rates on dev by greedy and by beam search, exports
the model, starts kseq-serve, and requests the best pronunciations, those in the files alone, and samples. With --models
2 it trains a second model from another seed, and the last lines show the ensemble of both. Models are saved beside
--output; --trained FILE ... loads models instead of training. With KERAS_BACKEND=jax, as on a GPU, the example ends
after saving them, and says how TensorFlow goes on. Exit code 0 only if the served answers equal the model's own. Needs
`pip install "kseq[examples]"`.
"""

import argparse
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from g2p_models import MODELS, make_model
from other_backend import goes_on_elsewhere
from served_strategies import serve_each_strategy

import kseq

MAX_LENGTH, BATCH = 32, 100


def read_pairs(path):
    """Return `(words, pronunciations)`; blanks separate phones."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(zip(*(line.split("\t")[:2] for line in lines), strict=True))


def error_rates(predicted, right):
    """Return the share of wrong words, and the edits per phone, in percent."""
    hypothesis, reference = (tf.strings.split(tf.constant(texts)).to_sparse() for texts in (predicted, right))
    edits = tf.reduce_sum(tf.edit_distance(hypothesis, reference, normalize=False)).numpy()
    words = np.mean([a != b for a, b in zip(predicted, right, strict=True)])
    return 100 * words, 100 * edits / sum(len(text.split()) for text in right)


def held_out(*columns):
    """Return each column without every tenth item."""
    return (tuple(item for place, item in enumerate(column) if place % 10) for column in columns)


def file_of(options, seed):
    return options.output.with_name(f"{options.output.name}-{seed}.keras")


def trained(source, target, words, phones, options, seed):
    keras.utils.set_random_seed(seed)
    model, start = make_model(options.model, source, target, options.units, options.dropout), time.monotonic()
    batches = kseq.training.bucket_by_length(
        kseq.training.text_pairs(source, target, words, phones),
        batch_size=options.batch_size, buckets=2, shuffle=True,
        vocabulary_sizes={"source": source.vocabulary_size, "target": target.vocabulary_size},
        seed=seed,
    )  # fmt: skip
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, options.epochs * len(batches), warmup_target=options.learning_rate, warmup_steps=len(batches)
    )
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True)
    model.fit(batches, epochs=options.epochs)
    minutes = (time.monotonic() - start) / 60
    print(f"{options.model}: {model.count_params():,} parameters, trained in {minutes:.1f} minutes", flush=True)
    file = file_of(options, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)
    return model


def strategies(widths):
    """Yield `(name, strategy)` for each line of the table."""
    yield "greedy", kseq.decoding.GreedySearch()
    for width in widths:
        for penalty in (0.0, 1.0):
            label = f"beam search, width {width}" + (f", length penalty {penalty}" if penalty else "")
            yield label, kseq.decoding.BeamSearch(beam_width=width, length_penalty=penalty)


def pronounce(model, strategy, source, target, words):
    """Return a model's pronunciation of each word; batches of one shape need one compilation."""
    decode = tf.function(
        lambda tokens, lengths: model.decode(tokens, lengths, strategy=strategy, max_length=MAX_LENGTH).tokens[:, 0],
        jit_compile=True,
    )
    tokens, lengths = source(words)
    tokens, lengths = (tf.concat([x, tf.repeat(x[:1], -len(words) % BATCH, axis=0)], axis=0) for x in (tokens, lengths))
    batches = [decode(tokens[i : i + BATCH], lengths[i : i + BATCH]) for i in range(0, len(tokens), BATCH)]
    return [text.decode() for text in target.detokenize(tf.concat(batches, axis=0)).numpy()[: len(words)]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--language", default="fre")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--model", choices=MODELS, default="additive", help="see examples/g2p_models.py")
    parser.add_argument("--tenth", action="store_true", help="hold a tenth of the training words out, in place of dev")
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--dropout", type=float, default=0.4)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=int, default=1)
    parser.add_argument("--trained", type=pathlib.Path, nargs="*", default=[], metavar="FILE")
    parser.add_argument("--widths", type=int, nargs="*", default=[2, 4, 8, 16], help="beam widths in the table")
    parser.add_argument("--limit", type=int, help="use this many words only")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/g2p"))
    options = parser.parse_args()
    words, phones = read_pairs(options.data / f"{options.language}_train.tsv")
    dev_words, dev_phones = read_pairs(options.data / f"{options.language}_dev.tsv")
    words, phones = words[: options.limit], phones[: options.limit]
    if options.tenth:
        dev_words, dev_phones, words, phones = words[::10], phones[::10], *held_out(words, phones)

    source = kseq.text.CharacterTokenizer(normalizer=kseq.text.TextNormalizer(form="NFC")).adapt(words)
    target = kseq.text.WordTokenizer(normalizer=kseq.text.TextNormalizer(form="NFC")).adapt(phones)
    models = [keras.saving.load_model(file) for file in options.trained] or [
        trained(source, target, words, phones, options, options.seed + number) for number in range(options.models)
    ]
    if goes_on_elsewhere(*(options.trained or [file_of(options, options.seed + n) for n in range(options.models)])):
        return 0

    dev_right = [text.decode() for text in target.normalize(dev_phones).numpy()]
    together = [(f"{len(models)} models, ", kseq.models.Ensemble(models))] if len(models) > 1 else []
    for whose, model in [("", models[0]), *together]:
        for label, strategy in strategies(options.widths):
            word_errors, phone_errors = error_rates(pronounce(model, strategy, source, target, dev_words), dev_right)
            line = f"{word_errors:.1f} % word error, {phone_errors:.2f} % phone error"
            print(f"{options.language} dev, {whose}{label}: {line}", flush=True)

    asked, permitted = list(dev_words[:5]), [*phones, *dev_phones]
    print(f"reference pronunciation of {asked[0]!r}: {dev_right[0]}")
    equal = serve_each_strategy(
        models[0], options.output, asked, permitted, source=source, target=target, buckets=(8, 16, 32),
        max_length=MAX_LENGTH,
    )  # fmt: skip
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
