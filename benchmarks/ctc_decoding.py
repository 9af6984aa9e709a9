"""Time of CTC prefix beam search, for kseq, TensorFlow's decoder and pyctcdecode.

usage: python benchmarks/ctc_decoding.py [--cases 32x400x64x10 8x2000x5000x16x40 ...] [--logits noise speech] [--runs 5]
       [--part 1x100]

A case is batch x frames x classes x beam width, optionally x classes per frame. kseq and
`tf.nn.ctc_beam_search_decoder` take turns in one process, on the same logits. The table gives medians in milliseconds
and, in brackets, half the interquartile range. pyctcdecode, if installed, decodes the first utterance only, and so does
kseq in the column beside it; both mostly use one core.

- logits: noise, without any structure; speech, blanks and symbols that last several frames, plus noise.
- same: the share of rows with the same string, and the largest difference of their scores. TensorFlow's decoder loses
  some extensions (see tests/reference/ctc_decoding.py), so scores and a few strings may differ.
- part: the rows and frames that TensorFlow decodes; its time is scaled up to the whole, which takes minutes for
  8x2000x5000x16. Without --part it decodes everything.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from turns import median_and_spread, take_turns

import kseq

try:
    from pyctcdecode import build_ctcdecoder
except ImportError as error:
    build_ctcdecoder, WHY_NOT = None, error

CASES = ("32x400x64x10", "32x400x64x100", "8x2000x5000x16x40")


def make_logits(kind, batch, frames, classes):
    """Return logits whose blank is the last class."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(batch, frames, classes)).astype("float32")
    if kind == "noise":
        return 2 * logits
    turns = random.random((batch, frames)) < 0.3
    symbols = np.where(
        random.random((batch, frames)) < 0.5, classes - 1, random.integers(0, classes - 1, (batch, frames))
    )
    start = np.maximum.accumulate(np.where(turns, np.arange(frames), 0), axis=1)
    logits[np.arange(batch)[:, None], np.arange(frames), np.take_along_axis(symbols, start, 1)] += np.log(classes) + 2
    return logits


def kseq_decoder(width, per_frame, blank):
    @tf.function(jit_compile=True, autograph=False)
    def decode(logits, lengths):
        return kseq.ctc_beam_search(logits, lengths, beam_width=width, blank_index=blank, classes_per_frame=per_frame)

    def run(logits, lengths):
        decoded = decode(logits, lengths)
        return decoded.tokens.numpy()[:, 0], decoded.scores.numpy()[:, 0]

    return run


def tensorflow_decoder(width):
    def run(logits, lengths):
        (tokens,), scores = tf.nn.ctc_beam_search_decoder(tf.transpose(logits, (1, 0, 2)), lengths, width, 1)
        return tf.sparse.to_dense(tokens, default_value=-1).numpy(), scores.numpy()[:, 0]

    return run


def pyctcdecode_decoder(width, classes):
    decoder = build_ctcdecoder([*(chr(0x4E00 + n) for n in range(classes - 1)), ""])  # letters, and "" for the blank
    return lambda logits, lengths: decoder.decode(logits, beam_width=width)


def compare(ours, theirs):
    """Return the share of rows with the same string, and the largest difference of their scores."""
    width = max(ours[0].shape[1], theirs[0].shape[1])
    tokens = [np.pad(x, ((0, 0), (0, width - x.shape[1])), constant_values=-1) for x, _ in (ours, theirs)]
    same = (tokens[0] == tokens[1]).all(1)
    return f"{same.mean():.2f}, {np.abs(ours[1] - theirs[1])[same].max(initial=0.0):.4f}"


def row(case, kind, options):
    """Return one line of the table."""
    batch, frames, classes, width, *rest = map(int, case.split("x"))
    logits = make_logits(kind, batch, frames, classes)
    tensor, lengths = tf.constant(logits), tf.constant(np.full(batch, frames, "int32"))
    rows, part = (int(n) for n in options.part.split("x")) if options.part else (batch, frames)
    ours, theirs = kseq_decoder(width, *(rest or [None]), classes - 1), tensorflow_decoder(width)
    piece, piece_lengths = tensor[:rows, :part], tf.minimum(lengths[:rows], part)
    contenders = {"kseq": lambda: ours(tensor, lengths), "tensorflow": lambda: theirs(piece, piece_lengths)}
    times = take_turns(contenders, options.runs)
    factor = batch * frames / (rows * part)
    median = {name: np.median(runs) for name, runs in times.items()}
    ratio = factor * median["tensorflow"] / median["kseq"]
    cells = [
        case,
        kind,
        median_and_spread(times["kseq"]),
        median_and_spread(factor * np.array(times["tensorflow"])),
        f"{ratio:.1f}",
    ]
    cells.append(compare(ours(piece, piece_lengths), theirs(piece, piece_lengths)))
    if build_ctcdecoder is None:
        return " | ".join([*cells, "-", "-", "-"])
    other = pyctcdecode_decoder(width, classes)
    times = take_turns(
        {"kseq": lambda: ours(tensor[:1], lengths[:1]), "pyctcdecode": lambda: other(logits[0], None)}, options.runs
    )
    ratio = np.median(times["pyctcdecode"]) / np.median(times["kseq"])
    return " | ".join(
        [*cells, median_and_spread(times["kseq"]), median_and_spread(times["pyctcdecode"]), f"{ratio:.1f}"]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="*", default=CASES)
    parser.add_argument("--logits", nargs="*", default=["noise", "speech"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--part", help="rows x frames that TensorFlow decodes")
    options = parser.parse_args()
    notes = [f"no pyctcdecode: {WHY_NOT}"] if build_ctcdecoder is None else []
    notes += [f"tensorflow on {options.part} only, its time multiplied"] if options.part else []
    machine = f"CPU, {os.cpu_count()} cores, float32, median ms of {options.runs} runs"
    versions = f"tensorflow {tf.__version__}, keras {keras.__version__}, kseq {kseq.__version__}"
    print("; ".join([machine, versions, *notes]))
    head = ["batch x frames x classes x width", "logits", "kseq xla", "tensorflow", "tensorflow / kseq", "same, scores",
            "kseq, one", "pyctcdecode, one", "pyctcdecode / kseq"]  # fmt: skip
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for case in options.cases:
        for kind in options.logits:
            print("| " + row(case, kind, options) + " |", flush=True)


if __name__ == "__main__":
    main()
