"""Normalise written dates in some 20 languages to ISO format: "3 mai 1979" -> 1979-05-03.

usage: python examples/normalize_dates.py [--epochs 8] [--output build/models/dates]

Trains for about two minutes on two cores, exports to --output, starts kseq-serve and sends it requests over REST and
gRPC. Exit code 0 only if the served answers equal the model's own. Needs `pip install "kseq[examples]"`.
"""

import argparse
import datetime
import os
import pathlib
import random
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import served
from babel.dates import format_date, format_skeleton
from served_strategies import serve_each_strategy

import kseq
from kseq.plots import attention_heat_map

LOCALES = "cs da de el en en_GB es fi fr hr hu it ja ko nb nl pl pt ro ru sv tr".split()  # noqa: SIM905
STYLES = ("medium", "long", "full", "yMMMd", "yMMMMd")  # CLDR's styles, in lower case, and skeletons
HELD_OUT_STYLE = "yMMMEd"
ASKED = ["3 mai 1979", "Dienstag, 5. August 2008", "10 Eylül 2011", "May 21, 2034", "1996年2月29日"]


def written(date, style, locale):
    if style.islower():
        return format_date(date, format=style, locale=locale)
    return format_skeleton(style, date, locale=locale)


def make_pairs(count, styles, days, generator):
    """Return `(texts, ISO dates)`: dates drawn from `days`, in random styles and languages."""
    dates = [datetime.date.fromordinal(generator.choice(days)) for _ in range(count)]
    texts = [written(date, generator.choice(styles), generator.choice(LOCALES)) for date in dates]
    return texts, [date.isoformat() for date in dates]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--examples", type=int, default=24_000)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--all_strategies", action="store_true", help="also serve n-best, real dates only, and samples")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("build/models/dates"))
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    generator = random.Random(0)
    days = list(range(datetime.date(1920, 1, 1).toordinal(), datetime.date(2050, 1, 1).toordinal()))
    generator.shuffle(days)
    seen, unseen = days[: len(days) * 9 // 10], days[len(days) * 9 // 10 :]
    texts, dates = make_pairs(options.examples, STYLES, seen, generator)
    print(f"{len(texts)} dates in {len(LOCALES)} languages, such as", *map(repr, texts[:3]), sep="\n  ")

    normalizer = kseq.text.TextNormalizer(form="NFKC", case="lower")
    source = kseq.text.CharacterTokenizer(normalizer=normalizer).adapt(texts)
    target = kseq.text.CharacterTokenizer(add_bos=True, add_eos=True).adapt(dates)
    model = kseq.models.Seq2Seq(
        kseq.models.Encoder(source.vocabulary_size, 64, kseq.cells.GRUCell(options.units), dropout=0.1),
        kseq.models.Decoder(target.vocabulary_size, 32, kseq.cells.GRUCell(options.units)),
        source_tokenizer=source,
        target_tokenizer=target,
    )
    batches = kseq.training.bucket_by_length(
        kseq.training.text_pairs(source, target, texts, dates),
        batch_size=64, buckets={"source": (16, 48), "target": (12,)}, shuffle=True, seed=0,
    )  # fmt: skip
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, options.epochs * len(batches))
    model.compile(keras.optimizers.Adam(schedule, clipnorm=1.0), jit_compile=True)
    model.fit(batches, epochs=options.epochs)

    beam = kseq.decoding.BeamSearch(beam_width=4, top_paths=3)
    folder = kseq.export_saved_model(
        model, options.output, strategy=beam, buckets=(16, 32, 64), max_length=12, alignments=True,
        title="Dates", description="Writes a date in any of some 20 languages as ISO 8601.", examples=ASKED,
    )  # fmt: skip
    exported = kseq.load_saved_model(folder)
    for label, styles in (("held-out dates", STYLES), (f"held-out style {HELD_OUT_STYLE}", [HELD_OUT_STYLE])):
        asked, right = make_pairs(1000, styles, unseen, generator)
        share = np.mean(exported(text=asked)["text"][:, 0] == np.array(right))
        print(f"exact match on 1000 {label}: {100 * share:.1f} %")

    decoded = model.decode(*source(ASKED[1:2]), strategy=beam, max_length=12)
    read, wrote = source.normalize(ASKED[1:2]).numpy()[0].decode(), target.detokenize(decoded.tokens).numpy()[0, 0]
    figure = attention_heat_map(read, wrote.decode(), np.asarray(decoded.alignments)[0, 0], title=ASKED[1])
    picture = options.output.parent / f"{options.output.name}-attention.png"
    figure.savefig(picture)

    own = exported(text=ASKED)
    name = options.output.name
    with served.serving(name, options.output) as clients:
        rest, remote = (client.predict(name, {"text": ASKED}) for client in clients)
    for text, answers, scores in zip(ASKED, rest["text"], rest["scores"], strict=True):
        best = ", ".join(f"{answer} ({score:.2f})" for answer, score in zip(answers, scores, strict=True))
        print(f"{text!r} -> {best}")
    equal = served.equal(rest, own) and served.equal(remote, own)
    print(f"REST and gRPC {'equal' if equal else 'DIFFER FROM'} the model's own answers.")
    print(f"Attention is drawn in {picture}. To start a server and send it a request:")
    command = pathlib.Path(sys.executable).with_name("kseq-serve")
    print(
        f"  {command} --model_name={name} --model_base_path={options.output.resolve()} --port=8500 --rest_api_port=8501"
        " --enable_playground"
    )
    print("  The playground at http://localhost:8501/ then shows the best answers and the attention for any date.")
    print(f'  curl -d \'{{"instances": ["3 mai 1979"]}}\' http://localhost:8501/v1/models/{name}:predict')
    if options.all_strategies:
        permitted = [datetime.date.fromordinal(day).isoformat() for day in sorted(days)]
        equal &= serve_each_strategy(
            model, options.output, ASKED, permitted, source=source, target=target, buckets=(16, 32, 64), max_length=12
        )
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
