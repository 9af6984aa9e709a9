"""Strategies, scorers, tokenizers and models pickled in one process and used in another, which has only the bytes."""

import copy
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

import kseq
from kseq.decoding import (
    BeamSearch,
    CTCBeamSearch,
    CTCStreaming,
    HotWords,
    LanguageModelScorer,
    Lexicon,
    NGram,
    NGramScorer,
    Sampling,
    TokenStreaming,
    constraints,
)
from tests.support import BACKEND

ROOT = pathlib.Path(__file__).parents[2]
ARPA = "\\data\\\nngram 1=4\n\n\\1-grams:\n-99\t<s>\n-1\t</s>\n-0.5\ta\n-0.7\tb\n\n\\end\\\n"
SOURCE, LENGTHS = np.array([[4, 5, 6]]), np.array([3])
LOGITS = np.random.default_rng(0).normal(size=(1, 5, 3)).astype("float32")
# Runs in a folder and process of its own.
USE = """
import pickle, sys
things = pickle.load(sys.stdin.buffer)
sys.path.insert(0, {root!r})
from tests.decoding.test_copies import answers
sys.stdout.buffer.write(pickle.dumps(answers(things)))
"""


def make(folder):
    (folder / "model.arpa").write_text(ARPA)
    (folder / "vocabulary.txt").write_text("a\nb\n")
    cell = kseq.cells.GRUCell
    model = kseq.models.Seq2Seq(kseq.models.Encoder(9, 4, cell(4)), kseq.models.Decoder(8, 4, cell(4)))
    model.build()
    state, memory = model.encode(SOURCE, LENGTHS)
    language = kseq.models.Seq2Seq(kseq.models.Encoder(9, 4, cell(4)), kseq.models.Decoder(3, 4, cell(4)))
    language.build()
    first, seen = language.encode(SOURCE, LENGTHS)
    scorers = (
        NGramScorer(NGram.from_arpa(folder / "model.arpa", ["_", "a", "b"])),
        HotWords([[1, 2]], boost=np.float32(1.5)),
        Lexicon([[1], [2]]),
        LanguageModelScorer(step=language.step, state=first, memory=seen, bos_id=2),
    )
    phrases = (constraints.RequiredPhrases([[5]]), constraints.AllowedOutputs([[5, 6], [4, 5]]))
    streaming = TokenStreaming(strategy="greedy", step=model.step, bos_id=2, eos_id=3, max_length=3)
    list(streaming(state, memory=memory))  # it has compiled functions now
    things = {
        "model": model,
        "beam": BeamSearch(beam_width=np.int64(3), constraints=phrases),
        "sampling": Sampling(temperature=np.float32(0.5)),
        "ctc": CTCBeamSearch(scorers=scorers),
        "chunks": CTCStreaming(search=CTCBeamSearch(beam_width=2), max_length=4),
        "streaming": streaming,
        "start": (state, memory),
    }
    if BACKEND == "tensorflow":
        vocabulary = kseq.text.Vocabulary.from_file(folder / "vocabulary.txt")
        normalizer = kseq.text.TextNormalizer(case="lower")
        things["tokenizer"] = kseq.text.CharacterTokenizer(vocabulary, normalizer=normalizer, max_length=np.int64(5))
        things["vocabulary"] = vocabulary
    for file in folder.iterdir():
        file.unlink()
    return things


def answers(things):
    model = things["model"]
    made = [model.decode(SOURCE, LENGTHS, strategy=things[name], max_length=4, seed=1) for name in ("beam", "sampling")]
    said = [x for decoded in made for x in (decoded.tokens, decoded.scores)]
    ctc = things["ctc"](LOGITS, np.array([5]))
    chunks = things["chunks"]
    final = chunks.finish(chunks.advance(chunks.start(1, 3), LOGITS, np.array([5])))
    state, memory = things["start"]
    said += [ctc.tokens, ctc.scores, final.tokens, *(x.tokens for x in things["streaming"](state, memory=memory))]
    if "tokenizer" in things:
        said += [*things["tokenizer"](["ABc", "b"]), things["vocabulary"].lookup(["b", "c"])]
    return [np.asarray(x) for x in said]


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    return make(tmp_path_factory.mktemp("files"))


def assert_same(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.long
def test_deep_copies_work_without_the_original(things):
    copied = copy.deepcopy(things)
    assert_same(answers(copied), answers(things))
    if "tokenizer" in things:
        ours, theirs = (x["vocabulary"]._ids._initializer._filename.asset_path.numpy() for x in (things, copied))
        assert ours != theirs  # a file of its own


@pytest.mark.server
@pytest.mark.long
def test_another_process_uses_what_was_pickled(things, tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", USE.format(root=str(ROOT))],
        input=pickle.dumps(things),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    assert_same(pickle.loads(run.stdout), answers(things))
