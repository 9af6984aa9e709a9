import asyncio
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kseq_serving import toy_models
from tests.kseq_serving.clients import ServerProcess

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """Function that runs a coroutine on an event loop in another thread."""
    yield from running(asyncio.new_event_loop())


def running(loop: asyncio.AbstractEventLoop) -> Iterator[Run]:
    """Run a loop in another thread, until the generator goes on; yield the function that runs a coroutine on it."""
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class HungFolders:
    """Folders in `paths`, whose listings hang until `let_go`."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.looks = 0
        self._list, self._go = os.listdir, threading.Event()

    def listdir(self, path: str) -> list[str]:
        if path in self.paths:
            self.looks += 1
            assert self._go.wait(10)
        return self._list(path)

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch) -> Iterator[HungFolders]:
    hung = HungFolders()
    monkeypatch.setattr(os, "listdir", hung.listdir)
    yield hung
    hung.let_go()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of toy models, with `text` only if tensorflow-text can be imported."""
    folder = tmp_path_factory.mktemp("models")
    toy_models.save_toy(folder / "toy" / "1")
    toy_models.save_version(folder / "versioned" / "1", 1)
    toy_models.save_version(folder / "versioned" / "2", 2)
    toy_models.save_compiled(folder / "compiled" / "1")
    toy_models.save_examples(folder / "examples" / "1")
    toy_models.save_kinds(folder / "kinds" / "1")
    with contextlib.suppress(ImportError):
        toy_models.save_text(folder / "text" / "1")
    return folder


@pytest.fixture(scope="session")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Server of all toy models, shared by the tests that do not change it."""
    folder = tmp_path_factory.mktemp("server")
    entries = "".join(
        f'config {{ name: "{path.name}" base_path: "{path}" model_platform: "tensorflow" {_extra(path.name)} }}\n'
        for path in sorted(models.iterdir())
    )
    config = folder / "models.config"
    config.write_text(f"model_config_list {{\n{entries}}}\n")
    process = ServerProcess(
        folder / "log", f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models=true"
    )
    try:
        yield process.wait_ready()
    finally:
        process.stop()


def _extra(name: str) -> str:
    if name != "versioned":
        return ""
    return 'model_version_policy { all {} } version_labels { key: "stable" value: 1 }'
