"""Replay of recorded responses of tensorflow_model_server, if a checkout of them lies beside this repository.

The replayer, the recordings and their models are not part of this repository. The other tests cover the most important
cases.
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
# Cases of these areas that need a server of their own each, and so take as long as all others together.
OWN_SERVER = r"classify_regress/check-|grpc/(health|unix|content)-|rest_errors/(cors|timeout)-"

KNOWN_DIFFERENCES = {
    # NumPy arrays have at most 64 dimensions; TensorFlow's tensors have 254.
    "rest_json/rank-254",
}
DELIBERATE_DIFFERENCES = {
    # With batching, the real server answers a request without rows only when others come; here it runs by itself.
    "batching/zero-rows-alone",
    "batching/zero-rows-with-other-width",
    # The real server fails a whole batch because of one request of another dtype or row shape; here it fails no other.
    "batching/bad-dtype-poisons-batch",
    "batching/mixed-width-no-padding",
    "batching/pad-empty-row",
    # The real server waits for ever for a model that does not exist, and so does every later reload.
    "config/reload-missing-base",
    "config/reload-behind-blocked",
    # The error says as well that --port and --grpc_socket_path set these options.
    "config/grpc-port-zero",
    # The real server does not escape line breaks in names, with which a client can break the text of the metrics.
    "metrics/newline-in-label",
}

# The replayer's own ports may be taken by a server of another test meanwhile, so it gets those of `free_port`.
REPLAYER = """
import sys
import run_cases
from tests.kseq_serving.ports import free_port

run_cases.free_port = free_port
sys.exit(run_cases.main())
"""

# These cases want a start, or its error, within 4 to 20 seconds, which a busy machine may not reach.
NEEDS_A_QUICK_START = {
    "config/config-zero-latest-status",
    "config/logging-config-collector",
    "labels_versions/empty-base-version-added-port",
    "labels_versions/empty-base-version-added-predict",
}

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(
        not TRANSCRIPTS.is_dir(), reason=f"the recorded answers of tensorflow_model_server are not at {TRANSCRIPTS}"
    ),
]


def replay(folder: Path, *options: str, timeout_s: float) -> tuple[set[str], str]:
    """Return the cases that differ, and the output of the replayer."""
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
    differing, output = replay(tmp_path, timeout_s=1800)
    assert differing - NEEDS_A_QUICK_START == KNOWN_DIFFERENCES | DELIBERATE_DIFFERENCES, output
    assert re.search(r"^559 cases, ", output, re.MULTILINE), output
