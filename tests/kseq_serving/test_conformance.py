"""Replays recorded answers of tensorflow_model_server, where a checkout of them lies beside this repository.

The replayer, the recordings and the models they were made with are not part of this repository; the facts in them
that matter most stand in the other tests.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TRANSCRIPTS = Path(__file__).parents[3] / "shared" / "serving-transcripts"
AREAS = "rest_predict,rest_json,status,metadata"

KNOWN_DIFFERENCES = {
    # NumPy arrays, which carry every tensor here, have at most 64 dimensions; TensorFlow's have 254.
    "rest_json/rank-254",
    # The digits of an integer beyond 64 bits in an error's text: the shortest ones here, not always there.
    "rest_json/u64-too-big",
}

pytestmark = pytest.mark.skipif(
    not TRANSCRIPTS.is_dir(), reason=f"the recorded answers of tensorflow_model_server are not at {TRANSCRIPTS}"
)


def test_recorded_answers(tmp_path: Path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    models = tmp_path / "models"
    subprocess.run(
        [sys.executable, str(TRANSCRIPTS / "make_models.py"), str(models)],
        check=True,
        capture_output=True,
        env=environment,
        timeout=120,
    )
    replayer = [sys.executable, str(TRANSCRIPTS / "run_cases.py"), "--models", str(models)]
    replay = subprocess.run(
        [*replayer, "--area", AREAS, "--skip-others", "--", sys.executable, "-m", "kseq_serving.main"],
        check=False,
        capture_output=True,
        env=environment,
        text=True,
        timeout=120,
    )
    differing = set(re.findall(r"^DIFF (\S+):", replay.stdout, re.MULTILINE))
    assert differing == KNOWN_DIFFERENCES, replay.stdout
    assert re.search(r"^1\d\d cases, ", replay.stdout, re.MULTILINE), replay.stdout
