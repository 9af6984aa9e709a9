"""Training on two replicas of a `tf.distribute.MirroredStrategy` is that of one process with the whole batch, to 1e-5.

The devices are processors. A program is a process of its own, as devices are made when TensorFlow starts.
"""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests.contracts.models import MAKERS

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROOT = pathlib.Path(__file__).parents[2]
ON_TENSORFLOW = (
    *("graph", "tokens", "fewer_rows_than_replicas", "keras_losses", "weights_of_rows", "penalties", "optimizers"),
    *("half_precision", "losses", "metrics", "monitors", "not_finite", "decoded", "resume"),
    *("carried_states", "resume_carried_states"),
)
REFUSED_ON_TENSORFLOW = ("accumulation", "uneven_carried_states")
QUICK_MODELS = ("CTCRecognizer", "Tagger, CRF")


def run(program: str, names: tuple[str, ...], **environment: str) -> dict[str, dict]:
    """Return the differences that a program prints, or its errors, by case."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.distribution.{program}", *names],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": f"{ROOT}:{ROOT / 'serving'}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"case"')]
    return {line.pop("case"): line for line in lines}


def on_tensorflow(names: tuple[str, ...]) -> dict[str, dict]:
    return run("mirrored", names, KERAS_BACKEND="tensorflow")


def assert_equal(found: dict[str, dict], names: tuple[str, ...]) -> None:
    assert [*found] == [*names]
    assert not {name: each["error"] for name, each in found.items() if "error" in each}
    wrong = {
        name: {what: value for what, value in each["differences"].items() if not value <= 1e-5}
        for name, each in found.items()
    }
    assert not {name: each for name, each in wrong.items() if each}
    assert all(each["differences"] for each in found.values())


def test_two_replicas_are_one_process_with_the_whole_batch():
    assert_equal(on_tensorflow((*ON_TENSORFLOW, *QUICK_MODELS)), (*ON_TENSORFLOW, *QUICK_MODELS))


def test_what_replicas_cannot_do_is_refused():
    found = on_tensorflow(REFUSED_ON_TENSORFLOW)
    assert "gradient_accumulation_steps" in found["accumulation"]["error"]
    assert "cannot be shared evenly by 2 replicas" in found["uneven_carried_states"]["error"]


def test_every_model_under_a_mirrored_strategy():
    assert_equal(on_tensorflow(tuple(MAKERS)), tuple(MAKERS))
