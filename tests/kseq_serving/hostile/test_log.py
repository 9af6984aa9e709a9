"""Requests that fail unexpectedly, which must not fill the log."""

import logging
from pathlib import Path

import numpy as np
import pytest

from kseq_serving import bounded_log
from kseq_serving.bounded_log import BoundedLog
from kseq_serving.core import ServerCore
from kseq_serving.errors import ServingError
from kseq_serving.flags import Flags
from kseq_serving.models import model_config
from kseq_serving.protocol import tensors
from kseq_serving.protocol.protos import ConfigProto, ModelServerConfig
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
    after = record("a")
    assert bound.filter(after)
    assert after.getMessage() == f"a ({1000 - bounded_log.MAX_PER_MINUTE} more records like this one were left out)"


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


def test_records_of_loading_models_are_bounded_after_many(monkeypatch: pytest.MonkeyPatch):
    """A server of many models logs them all when it starts; a client that reloads again and again fills no disk."""
    now = [60.0]
    monkeypatch.setattr(bounded_log.time, "monotonic", lambda: now[0])
    bound, error = BoundedLog(), ValueError("wrong")
    made = [record("m", name="kseq_serving.models.manager", error=error) for _ in range(1000)]
    written = [one for one in made if bound.filter(one)]
    assert written == made[: bounded_log.OPERATORS_AT_ONCE]
    assert sum(one.exc_text is not None for one in written) == bounded_log.MAX_PER_MINUTE  # tracebacks
    assert written[-1].getMessage() == "m: ValueError: wrong"
    now[0] += 7.0
    after = record("m", name="kseq_serving.models.manager")
    assert bound.filter(after)
    assert after.getMessage() == "m (800 more records like this one were left out)"
    assert not bound.filter(record("m", name="kseq_serving.models.manager"))


def test_a_name_or_an_error_of_a_reload_neither_breaks_lines_nor_fills_the_log():
    try:
        raise ValueError("wrong\n2026-11-30 I forged\x1b[0m" + "y" * 100_000)
    except ValueError as error:
        made = record("x\n" + "x" * 100_000, name="kseq_serving.models.manager", error=error)
    assert BoundedLog().filter(made)
    text = logging.Formatter().format(made)
    assert len(text) < 2 * (bounded_log.MAX_CHARACTERS + bounded_log.MAX_TRACEBACK_CHARACTERS)
    assert "\x1b" not in text
    assert all(line.startswith("  ") for line in text.splitlines()[1:])
    assert "ValueError: wrong" in text


class Lines(logging.Handler):
    """Handler that keeps what the server's would write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[str] = []
        self.addFilter(BoundedLog())

    def emit(self, record: logging.LogRecord) -> None:
        self.written.append(self.format(record))


def test_reloads_of_models_that_cannot_be_loaded_are_logged_a_few_times(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(bounded_log, "OPERATORS_AT_ONCE", 3)
    (tmp_path / "1").mkdir()
    core, lines = ServerCore(Flags(max_num_load_retries=0), ConfigProto()), Lines()
    core.start(ModelServerConfig())
    logging.getLogger().addHandler(lines)
    try:
        for number in range(10):
            with pytest.raises(ServingError, match="did not become available"):
                core.reload(model_config.single_model(f"m{number}", str(tmp_path)))
    finally:
        logging.getLogger().removeHandler(lines)
        core.stop(0.0)
    assert 3 <= sum("cannot be loaded" in line for line in lines.written) < 10  # one more every six seconds


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
