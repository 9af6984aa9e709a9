"""Good clients beside bad ones, on a server that puts their requests into one batch."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.kseq_serving import faults, isolation, toy_models
from tests.kseq_serving.clients import ServerProcess

SECONDS = 2.0


@pytest.fixture(params=[False, True], ids=["not padded", "padded"])
def padded(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def batching(models: Path, tmp_path: Path, *, padded: bool) -> Iterator[ServerProcess]:
    toy_models.save_shapes(tmp_path / "shapes" / "1")
    faults.write_config(tmp_path / "models.config", {"toy": models / "toy", "shapes": tmp_path / "shapes"})
    (tmp_path / "batching.config").write_text(isolation.BATCHING.format(padded=str(padded).lower()))
    server = ServerProcess(
        tmp_path / "log",
        f"--model_config_file={tmp_path}/models.config",
        "--enable_batching=true",
        f"--batching_parameters_file={tmp_path}/batching.config",
    )
    try:
        yield server.wait_ready()
    finally:
        server.stop()


@pytest.mark.server
def test_bad_clients_change_no_answer_of_good_ones(batching: ServerProcess, *, padded: bool):
    report = isolation.run(batching, SECONDS, padded=padded)
    assert (report.failed, report.crossed) == ({}, []), report
    assert report.good > 100
    assert {"REST 400", "gRPC INVALID_ARGUMENT", "gRPC FAILED_PRECONDITION"} <= set(report.bad)
    # A message that is cut off is INTERNAL, by the gRPC library; one that is late may miss its deadline.
    assert not [s for s in report.bad if s.startswith("REST 5") or s.split()[1] in ("UNKNOWN", "UNAVAILABLE")], report


def test_an_answer_of_another_client_is_seen():
    x = np.array([[7, 7]], np.float32)
    asked = isolation.Question("shapes", "serving_default", {"x": x}, "x", x)
    assert isolation.is_right(asked, {"x": [[7, 7]]})
    assert isolation.is_right(asked, {"x": [[7, 7, 7]]})  # padded with the request's own first value
    for wrong in ([[7, 8]], [[7, 7, 8]], [[7]], [[7, 7], [7, 7]], None):
        assert not isolation.is_right(asked, {"x": wrong})
