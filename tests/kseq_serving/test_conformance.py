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

REPOSITORY = Path(__file__).parents[2]
TRANSCRIPTS = REPOSITORY.parent / "shared" / "serving-transcripts"
AREAS = "rest_predict,rest_json,rest_errors,status,metadata,classify_regress,grpc"
# Those of these areas that need a server of their own each, and so take as long as all others together.
OWN_SERVER = r"classify_regress/check-|grpc/(health|unix|content)-|rest_errors/(cors|timeout)-"

KNOWN_DIFFERENCES = {
    # NumPy arrays, which carry every tensor here, have at most 64 dimensions; TensorFlow's have 254.
    "rest_json/rank-254",
}
DELIBERATE_DIFFERENCES = {
    # The real one never answers a request without rows under batching unless others come; here it runs by itself.
    "batching/zero-rows-alone",
    "batching/zero-rows-with-other-width",
    # The real one waits for ever for a model that is not there, and so does every reload after that.
    "config/reload-missing-base",
    "config/reload-behind-blocked",
    # The real one lets a client break the metrics' text with a line break in a name.
    "metrics/newline-in-label",
}

# With ports that nothing else can take while the server starts; its own may become those of a server in another test.
REPLAYER = """
import sys
import run_cases
from tests.kseq_serving.ports import free_port

run_cases.free_port = free_port
sys.exit(run_cases.main())
"""

# Asks six seconds after the start, most of which the import of TensorFlow may take on a busy machine.
NEEDS_A_QUICK_START = {"config/config-zero-latest-status"}

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(
        not TRANSCRIPTS.is_dir(), reason=f"the recorded answers of tensorflow_model_server are not at {TRANSCRIPTS}"
    ),
]


def replay(folder: Path, *options: str, timeout_s: float) -> tuple[set[str], str]:
    """Return the cases that differ, and what the replayer printed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    environment["CUDA_VISIBLE_DEVICES"] = ""
    environment["PYTHONPATH"] = os.pathsep.join((str(TRANSCRIPTS), str(REPOSITORY)))
    models = folder / "models"
    make = [sys.executable, str(TRANSCRIPTS / "make_models.py"), str(models)]
    subprocess.run(make, check=True, capture_output=True, env=environment, timeout=120)
    replayer = [sys.executable, "-c", REPLAYER, "--models", str(models), *options]
    replayed = subprocess.run(
        [*replayer, "--", sys.executable, "-m", "kseq_serving.main"],
        check=False,
        capture_output=True,
        env=environment,
        text=True,
        timeout=timeout_s,
    ).stdout
    return set(re.findall(r"^DIFF (\S+):", replayed, re.MULTILINE)), replayed


def test_recorded_answers(tmp_path: Path):
    options = ("--area", AREAS, "--only", f"^(?!{OWN_SERVER})", "--skip-others")
    differing, output = replay(tmp_path, *options, timeout_s=240)
    assert differing == KNOWN_DIFFERENCES, output
    assert re.search(r"^3\d\d cases, ", output, re.MULTILINE), output


@pytest.mark.slow
def test_all_recorded_answers(tmp_path: Path):
    differing, output = replay(tmp_path, timeout_s=900)
    assert differing - NEEDS_A_QUICK_START == KNOWN_DIFFERENCES | DELIBERATE_DIFFERENCES, output
    assert re.search(r"^559 cases, ", output, re.MULTILINE), output
