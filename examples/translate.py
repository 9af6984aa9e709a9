"""Translation: train an encoder and a decoder with attention on captions in two languages, and measure BLEU.

usage: python examples/translate.py --data FOLDER [--source en] [--target de] [--model transformer] [--epochs 12]

FOLDER holds train.LANGUAGE.gz and val.LANGUAGE.gz, a text in each line, such as the 29,000 captions of Multi30k
(Elliott et al., "Multi30K: Multilingual English-German image descriptions", 2016). Trains byte pairs for each language
and a recurrent model or a Transformer, in less than an hour on two cores. Prints BLEU on the validation captions by
greedy and by beam search, draws the attention to one caption, exports the model to --output, starts kseq-serve and
sends it texts over REST and gRPC. Needs `pip install "kseq[examples]"`.
"""

import argparse
import gzip
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import sacrebleu
import served

import kseq
from kseq.plots import attention_heat_map

BUCKETS = (14, 20, 48)  # lengths to which batches are padded
MAX_LENGTH = 48
REFERENCES = """\
Published, English to German, on the test captions, lower-cased and tokenised: recurrent models of 1,000 units 35 to 38,
a Transformer of 2.6 million parameters 41"""


def read_texts(folder, part, language, limit=None):
    with gzip.open(folder / f"{part}.{language}.gz", "rt", encoding="utf-8") as lines:
        return [line.rstrip("\n") for line in lines][:limit]


def train_tokenizer(texts, pieces):
    normalizer = kseq.text.TextNormalizer(form="NFC")
    return kseq.text.SentencePieceTokenizer.train(
        texts, pieces, kind="bpe", byte_fallback=False, normalizer=normalizer, progress=False
    )


def make_model(source, target, options):
    sizes, units, dropout = (source.vocabulary_size, target.vocabulary_size), options.units, options.dropout
    if options.model == "transformer":
        shape = {"num_layers": options.layers, "num_heads": 4, "dropout": dropout}
        encoder = kseq.models.TransformerEncoder(sizes[0], units, **shape)
        decoder = kseq.models.TransformerDecoder(sizes[1], units, max_length=64, tie_embeddings=True, **shape)
    else:
        encoder = kseq.models.Encoder(
            sizes[0], units, kseq.cells.GRUCell(units), num_layers=options.layers, residual=True, dropout=dropout
        )
        decoder = kseq.models.Decoder(
            sizes[1], 2 * units, kseq.cells.GRUCell(2 * units), dropout=dropout, tie_embeddings=True
        )
    return kseq.models.Seq2Seq(encoder, decoder, source_tokenizer=source, target_tokenizer=target)


def train(model, texts, translations, options):
    rows = kseq.training.text_pairs(model.source_tokenizer, model.target_tokenizer, texts, translations)
    fits = [len(a) <= MAX_LENGTH and len(b) <= MAX_LENGTH for a, b in zip(*rows.values(), strict=True)]
    print(f"{len(fits) - sum(fits)} of {len(fits)} pairs have more than {MAX_LENGTH} tokens and are left out")
    rows = {name: [row for row, fit in zip(column, fits, strict=True) if fit] for name, column in rows.items()}
    batches = kseq.training.bucket_by_length(
        rows, batch_size=options.batch_size, buckets=BUCKETS, shuffle=True, seed=options.seed
    )
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, options.epochs * len(batches), warmup_target=options.learning_rate, warmup_steps=2 * len(batches)
    )
    loss = kseq.losses.SequenceCrossEntropy(label_smoothing=0.1)
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), loss, jit_compile=True)
    started = time.monotonic()
    model.fit(batches, epochs=options.epochs)
    minutes = (time.monotonic() - started) / 60
    started = time.monotonic()
    reading = sum(1 for _ in batches) and (time.monotonic() - started) / 60 * options.epochs
    print(
        f"{model.count_params():,} parameters, trained in {minutes:.1f} minutes; reading took {reading / minutes:.1%}"
    )


def print_bleu(label, translations, right):
    for lowercase in (False, True):
        metric = sacrebleu.BLEU(lowercase=lowercase)
        score = metric.corpus_score(translations, [right]).score
        print(f"{label}: BLEU {score:.1f}, {metric.get_signature()}", flush=True)


def draw_attention(model, text, strategy, file):
    ids, lengths = model.source_tokenizer([text])
    decoded = model.decode(ids, lengths, strategy=strategy, max_length=MAX_LENGTH)
    read = [model.source_tokenizer.vocabulary.strings[piece] for piece in ids[0]]
    wrote = [model.target_tokenizer.vocabulary.strings[piece] for piece in decoded.tokens[0, 0]]
    wrote = wrote[: int(decoded.lengths[0, 0])]
    weights = np.asarray(decoded.alignments)[0, 0, : len(wrote), : len(read)]
    attention_heat_map(read, wrote, weights, title=text).savefig(file)
    print(f"The attention is drawn in {file}.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--source", default="en")
    parser.add_argument("--target", default="de")
    parser.add_argument("--model", choices=["recurrent", "transformer"], default="recurrent")
    parser.add_argument("--pieces", type=int, default=6000, help="tokens of each language")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--units", type=int, default=256, help="of the encoder's layers, in each direction")
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--limit", type=int, help="train on this many pairs, for trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/translate"))
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    texts, translations = (
        read_texts(options.data, "train", name, options.limit) for name in (options.source, options.target)
    )
    asked, right = (read_texts(options.data, "val", name, options.limit) for name in (options.source, options.target))
    model = make_model(train_tokenizer(texts, options.pieces), train_tokenizer(translations, options.pieces), options)
    train(model, texts, translations, options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    model.save(options.output.with_suffix(".keras"))

    beam = kseq.decoding.BeamSearch(beam_width=8, length_penalty=1.0)
    for label, strategy in (("greedy", "greedy"), ("beam search, width 8", beam)):
        print_bleu(label, model.translate(asked, strategy=strategy, max_length=MAX_LENGTH), right)
    print(REFERENCES)
    draw_attention(model, asked[0], beam, options.output.with_name(f"{options.output.name}-attention.png"))
    folder = kseq.export_saved_model(
        model, options.output, strategy=beam, buckets=(16, 48), batch_sizes=(1, 8), max_length=MAX_LENGTH,
        alignments=True, examples=asked[:3],
    )  # fmt: skip
    own = kseq.load_saved_model(folder)(text=asked[:5])
    for text, answer in zip(asked, own["text"][:, 0], strict=False):
        print(f"{text!r} -> {answer!r}")
    return 0 if served.ask(options.output, {"text": asked[:5]}, own) else 1


if __name__ == "__main__":
    sys.exit(main())
