"""The examples of pictures, patterns and series of numbers at small sizes."""

import gzip
import json
import os
import pathlib
import re

import numpy as np
import pytest

from tests.examples.test_examples import ROOT, run

pytestmark = pytest.mark.server
RATES = ROOT.parent / "shared" / "data" / "exchange_rate"
ROLLS = ROOT.parent / "shared" / "data" / "piano_rolls"


def exact_captions(*arguments: str) -> list[float]:
    """Return the percentages of exact captions, of seen captions and of those that were left out of the training."""
    output = run("captions.py", *arguments)
    assert "REST and gRPC equal the model's own answers." in output
    assert re.search(r"most similar training picture: \d+\.\d %", output)
    return [float(share) for share in re.findall(r"exact captions of \d+ new scenes.*: (\d+\.\d) % \(", output)]


@pytest.mark.long
def test_captions_of_a_few_scenes(tmp_path):
    small = ["--epochs=1", "--scenes=64", "--unseen=8", "--units=6", f"--output={tmp_path}/models/captions"]
    assert len(exact_captions(*small)) == 2
    assert (tmp_path / "models" / "captions-attention.png").read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in (tmp_path / "models" / "captions").iterdir() if entry.is_dir()] == ["1"]


@pytest.mark.slow
def test_captions_are_exact(tmp_path):
    """99.0 and 98.1 % when it was written; a share of 1000 scenes has a standard error of 0.4."""
    assert min(exact_captions(f"--output={tmp_path}/captions")) >= 95.0


def detected(*arguments: str) -> dict[str, list[float]]:
    """Return precision, recall and the share of streams without error, in percent, of letters and of DNA."""
    output = run("detect_pattern.py", *arguments)
    assert output.count("REST and gRPC equal the model's own answers.") == 2
    pattern = r"(letters|dna): \d+ occurrences.*\n  the tagger: precision (\S+) %, recall (\S+) %, .* error (\S+) %"
    return {name: [float(share) for share in shares] for name, *shares in re.findall(pattern, output)}


@pytest.mark.long
def test_patterns_of_three_letters_are_detected(tmp_path):
    small = [
        "--word=ABA",
        "--motif=TWR",
        "--epochs=4",
        "--streams=1000",
        "--length=16",
        "--units=12",
        "--batch_size=16",
    ]
    found = detected(*small, "--learning_rate=0.02", f"--output={tmp_path}/pattern")
    assert min(found["letters"] + found["dna"]) > 90.0


@pytest.mark.slow
def test_udacity_and_the_tata_box_are_detected(tmp_path):
    found = detected(f"--output={tmp_path}/pattern")
    assert min(found["letters"] + found["dna"]) >= 99.5


def frame_errors(tmp_path: pathlib.Path, *arguments: str) -> dict[str, list[float]]:
    """Return the mean squared errors of the next frames, of the predicted ones and of the last frame repeated."""
    output = run("next_frame.py", *arguments, f"--output={tmp_path}/models/film")
    assert "REST and gRPC equal the model's own answers." in output
    assert (tmp_path / "models" / "film-frames.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "models" / "film.keras").is_file()
    rows = re.findall(r"  (predicted|last frame repeated): ([\d., ]+)", output)
    return {label: [float(error) for error in errors.split(", ")] for label, errors in rows}


@pytest.mark.long
def test_next_frames_of_a_few_films(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    errors = frame_errors(tmp_path, "--epochs=1", "--films=16", "--unseen=4", "--filters=4", "--batch_size=8")
    assert [len(row) for row in errors.values()] == [6, 6]


@pytest.mark.slow
def test_next_frames_are_predicted(tmp_path):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    errors = frame_errors(tmp_path)
    predicted, repeated = np.array(errors["predicted"]), np.array(errors["last frame repeated"])
    assert predicted[0] < repeated[0] / 3.5  # 0.0175 and 0.0828 when it was written
    assert np.all(predicted < repeated)


def quantile_losses(*arguments: str) -> dict[str, float]:
    """Return the mean weighted quantile loss of each forecast."""
    output = run("exchange_rates.py", *arguments)
    return {name: float(loss) for name, loss in re.findall(r"^  ([A-Za-z ]+): (\d\.\d+), \d+ %$", output, re.MULTILINE)}


@pytest.mark.long
def test_exchange_rates_of_a_few_days(tmp_path):
    pytest.importorskip("statsmodels", reason="statsmodels is not installed")
    rates = 1.0 + 0.01 * np.cumsum(np.random.default_rng(0).normal(size=(230, 2)), axis=0)
    np.savetxt(tmp_path / "exchange_rate.csv", rates, delimiter=",")
    small = ["--context=20", "--units=4", "--layers=1", "--epochs=1", "--windows=64", "--paths=20"]
    losses = quantile_losses(f"--data={tmp_path}", f"--output={tmp_path}/rates", *small)
    assert set(losses) == {"Forecaster", "naive", "drift", "exponential smoothing"}
    assert all(0 < loss < 0.2 for loss in losses.values())
    assert (tmp_path / "rates-forecast.png").read_bytes().startswith(b"\x89PNG")
    assert [entry.name for entry in (tmp_path / "rates").iterdir() if entry.is_dir()] == ["1"]


@pytest.mark.slow
@pytest.mark.skipif(not RATES.is_dir(), reason=f"the exchange rates are not at {os.path.relpath(RATES, ROOT)}")
def test_exchange_rates_are_forecast_as_well_as_by_the_best_other(tmp_path):
    pytest.importorskip("statsmodels", reason="statsmodels is not installed")
    losses = quantile_losses(f"--data={RATES}", f"--output={tmp_path}/rates")
    assert losses["Forecaster"] <= min(losses.values())


@pytest.mark.long
def test_a_forecast_of_any_csv(tmp_path):
    lines = [
        f"day {i},{10 + 3 * np.sin(i / 3):.3f},{'' if i == 40 else round(5 + np.cos(i / 4), 3)}" for i in range(80)
    ]
    (tmp_path / "sales.csv").write_text("\n".join(["day,a,b", *lines]) + "\n", encoding="utf-8")
    small = ["--horizon=4", "--context=12", "--units=4", "--epochs=1", f"--output={tmp_path}/sales"]
    output = run("forecast.py", f"{tmp_path}/sales.csv", *small)
    assert "The column 'day' is left out: 'day 0' is no number." in output
    assert re.search(r"mase of the last 4 steps: \d+\.\d+; of the last value before them \d+\.\d+", output)
    written = (tmp_path / "sales-quantiles.csv").read_text().splitlines()
    assert written[0].startswith("column,step,0.1,0.2")
    assert [line.split(",")[:2] for line in written[1:]] == [[name, str(i)] for name in "ab" for i in range(1, 5)]
    assert (tmp_path / "sales-fan.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_music_of_a_few_chords(tmp_path):
    mido = pytest.importorskip("mido", reason="mido is not installed")
    piece = [[39, 43, 46], [39, 43, 46], [41, 45]] * 12
    with gzip.open(tmp_path / "jsb_chorales.json.gz", "wt") as file:
        json.dump({"train": [piece] * 4, "valid": [piece]}, file)
    small = ["--epochs=1", "--units=4", "--length=16", "--batch_size=4", "--steps=8"]
    output = run("music.py", f"--data={tmp_path}", f"--output={tmp_path}/music", *small)
    assert re.search(r"jsb_chorales valid: \d+\.\d\d nats per step, of 36 steps", output)
    notes = [message for message in mido.MidiFile(tmp_path / "music.mid").tracks[0] if message.type == "note_on"]
    assert {39 + 21, 43 + 21, 41 + 21} <= {message.note for message in notes}
    assert (tmp_path / "music-roll.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.skipif(not ROLLS.is_dir(), reason=f"the piano rolls are not at {os.path.relpath(ROLLS, ROOT)}")
@pytest.mark.parametrize(("pieces", "most"), [("jsb_chorales", 8.45), ("nottingham", 3.3)])
def test_music_reaches_its_likelihood(tmp_path, pieces, most):
    pytest.importorskip("mido", reason="mido is not installed")
    output = run("music.py", f"--data={ROLLS}", f"--pieces={pieces}", f"--output={tmp_path}/music")
    assert float(re.search(r"valid: (\d+\.\d\d) nats per step", output)[1]) <= most
