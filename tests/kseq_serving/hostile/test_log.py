"""Requests that fail unexpectedly, which must not fill the log."""

import logging
from pathlib import Path

import numpy as np
import pytest

from kseq_serving import bounded_log
from kseq_serving.bounded_log import BoundedLog
from kseq_serving.core import ServerCore
from kseq_serving.flags import Flags
from kseq_serving.protocol import tensors
from kseq_serving.protocol.protos import ConfigProto
from kseq_serving.rest.api import HttpRequest, RestApi


def record(text: str, *, name: str = "any.package", error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord(name, logging.ERROR, "file.py", 7, text, None, info)


def test_one_place_writes_a_few_records_a_minute(monkeypatch: pytest.MonkeyPatch):
    now = [60.0]
    monkeypatch.setattr(bounded_log.time, "monotonic", lambda: now[0])
    bound = BoundedLog()
    assert sum(bound.filter(record("a")) for _ in range(1000)) == bounded_log.MAX_PER_MINUTE
    now[0] = 121.0
    assert bound.filter(record("a"))


def test_a_record_is_one_short_line_without_a_traceback():
    try:
        raise ValueError("wrong\nvalue")
    except ValueError as error:
        made = record("first\nsecond\x1b[0m" + "x" * 10_000, error=error)
    assert BoundedLog().filter(made)
    text = logging.Formatter().format(made)
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) <= 2 * bounded_log.MAX_CHARACTERS


def test_records_of_loading_a_model_keep_their_traceback():
    try:
        raise ValueError("wrong")
    except ValueError as error:
        made = record("loading", name="kseq_serving.models.manager", error=error)
    assert BoundedLog().filter(made)
    assert "Traceback" in logging.Formatter().format(made)


def test_an_unexpected_failure_of_requests_is_logged_a_few_times_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    api = RestApi(ServerCore(Flags(), ConfigProto()))
    monkeypatch.setattr(api, "_dispatch", lambda request, route: 1 // 0)
    monkeypatch.setattr(bounded_log, "_failures", bounded_log.RateLimit())
    for _ in range(100):
        assert api.answer(HttpRequest("GET", "/v1/models/a")).status == 500
    assert 1 <= len(caplog.records) <= bounded_log.MAX_PER_MINUTE
    assert all(made.exc_info is None and "\n" not in made.getMessage() for made in caplog.records)


@pytest.mark.parametrize("depth", [31, 32, 33, 63, 64, 65, 254, 255])
def test_deep_json_is_answered_whatever_numpy_allows(depth: int, models: Path, caplog: pytest.LogCaptureFixture):
    """NumPy before 2.0 has at most 32 dimensions."""
    from kseq_serving.models import model_config

    core = ServerCore(Flags(max_num_load_retries=0), ConfigProto())
    core.start(model_config.single_model("toy", str(models / "toy")))
    try:
        body = b'{"inputs": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
        answer = RestApi(core).answer(HttpRequest("POST", "/v1/models/toy:predict", body))
    finally:
        core.stop(0.0)
    assert answer.status in (200, 400, 501)
    assert answer.status != 501 or b"Input x has" in answer.body
    assert not [made for made in caplog.records if made.exc_info]


def test_the_largest_rank_is_numpys():
    np.empty((1,) * tensors.NUMPY_MAX_RANK)
    with pytest.raises(ValueError, match="dimension"):
        np.empty((1,) * (tensors.NUMPY_MAX_RANK + 1))
