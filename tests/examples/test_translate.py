"""The example of translation: small, and on the real captions."""

import gzip
import os
import pathlib
import re

import pytest

from tests.examples.test_examples import ROOT, run

pytestmark = pytest.mark.server
MULTI30K = ROOT.parent / "shared" / "data" / "multi30k"
PAIRS = [
    ("a cat sits on a chair", "eine Katze sitzt auf einem Stuhl"),
    ("a dog runs in the snow", "ein Hund rennt durch den Schnee"),
    ("two men cook in a kitchen", "zwei Männer kochen in einer Küche"),
]


def write_captions(folder: pathlib.Path) -> None:
    for part, copies in (("train", 12), ("val", 1)):
        for column, language in enumerate(("en", "de")):
            with gzip.open(folder / f"{part}.{language}.gz", "wt", encoding="utf-8") as file:
                file.writelines(f"{pair[column]}\n" for pair in PAIRS * copies)


@pytest.mark.long
@pytest.mark.parametrize("model", ["recurrent", "transformer"])
def test_translation_of_three_captions(tmp_path, model):
    write_captions(tmp_path)
    small = ["--pieces=52", "--layers=1", "--units=32", "--dropout=0", "--batch_size=12", "--learning_rate=0.01"]
    paths = [f"--data={tmp_path}", f"--output={tmp_path}/captions"]
    output = run("translate.py", f"--model={model}", "--epochs=30", *small, *paths)
    scores = re.findall(r"^(greedy|beam search, width 8): BLEU (\d+\.\d), .*\|case:(mixed|lc)\|", output, re.MULTILINE)
    assert [(label, case) for label, _, case in scores] == [
        (label, case) for label in ("greedy", "beam search, width 8") for case in ("mixed", "lc")
    ]
    assert all(float(score) > 90 for _, score, _ in scores)
    assert "'a cat sits on a chair' -> 'eine Katze sitzt auf einem Stuhl'" in output
    assert "REST and gRPC equal the model's own answers." in output
    assert re.search(r"[\d,]+ parameters, trained in \d\.\d minutes; reading took \d+\.\d%", output)
    assert (tmp_path / "captions-attention.png").read_bytes().startswith(b"\x89PNG")
    assert f"--model_name=captions --model_base_path={tmp_path}/captions" in output


@pytest.mark.slow
@pytest.mark.skipif(not MULTI30K.is_dir(), reason=f"Multi30k is not at {os.path.relpath(MULTI30K, ROOT)}")
def test_translation_reaches_its_bleu(tmp_path):
    """Published recurrent models have 35 to 38, lower-cased, on the test captions."""
    output = run("translate.py", f"--data={MULTI30K}", f"--output={tmp_path}/captions")
    (score,) = re.findall(r"beam search, width 8: BLEU (\d+\.\d), .*\|case:lc\|", output)
    assert float(score) >= 37.0
