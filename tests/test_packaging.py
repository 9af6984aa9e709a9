"""The wheel and the sdist: built, installed into an empty environment, and used from an empty folder."""

import os
import pathlib
import re
import subprocess
import sys
import tarfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator

import pytest

from tests.kseq_serving.ports import free_port

pytestmark = pytest.mark.packaging
ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LAYER_ALONE = """
import sys
import numpy as np
import kseq
print(kseq.layers.LSTM(3)(np.zeros((2, 4, 5), "float32")).shape)
print(sorted({"tensorflow_text", "aiohttp"} & set(sys.modules)))
"""


def run(*command: str | pathlib.Path, cwd: pathlib.Path) -> str:
    """Run a command to which this checkout is invisible; return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "KERAS"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", ROOT, "--outdir", folder, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def environment(built: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The programs of a virtual environment in which the wheel was installed without any extra."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    (wheel,) = built.glob("*.whl")
    run(folder / "bin" / "pip", "install", "--quiet", "--no-compile", wheel, cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def exported(environment: pathlib.Path, built: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder where the README's twenty lines have run, with the extras that the README names."""
    folder = tmp_path_factory.mktemp("exported")
    (wheel,) = built.glob("*.whl")
    run(environment / "pip", "install", "--quiet", "--no-compile", f"{wheel}[text,serving]", cwd=folder)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (folder / "twenty_lines.py").write_text(code, encoding="utf-8")
    printed = run(environment / "python", "twenty_lines.py", cwd=folder).strip().splitlines()[-1]
    assert printed == re.search(r"It prints\s+`(.*?)`", README, re.DOTALL).group(1)
    return folder


@pytest.fixture
def served(environment: pathlib.Path, exported: pathlib.Path) -> Iterator[str]:
    """The address of `kseq-serve`, started by the command of the README."""
    command = re.search(r"^kseq-serve (.*)$", README, re.MULTILINE).group(1).replace("$PWD", str(exported))
    rest_port = free_port()
    command = command.replace("--port=8500", f"--port={free_port()}").replace("8501", str(rest_port))
    with (exported / "log").open("wb") as log:
        server = subprocess.Popen([str(environment / "kseq-serve"), *command.split()], stderr=log, stdout=log)
    try:
        yield f"http://localhost:{rest_port}"
    finally:
        server.terminate()
        server.wait(20)


def relative_files(folder: str, *patterns: str) -> set[str]:
    found = {path for pattern in patterns for path in (ROOT / folder).rglob(pattern)}
    return {path.relative_to(ROOT / folder).as_posix() for path in found if "__pycache__" not in path.parts}


def test_the_wheel_holds_both_packages_and_nothing_else(built: pathlib.Path):
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    kinds = ("*.py", "*.typed", "*.js", "*.css", "*.html", "*.svg")
    expected = {f"kseq/{name}" for name in relative_files("kseq", *kinds)}
    expected |= {f"kseq_serving/{name}" for name in relative_files("serving/kseq_serving", *kinds)}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {"kseq/py.typed", "kseq_serving/main.py"} <= names


def test_the_sdist_holds_what_make_test_needs(built: pathlib.Path):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "Makefile", "README.md", "LICENSE", "CHANGELOG.md"} <= names
    for folder in ("kseq", "serving", "tests", "examples", "benchmarks"):
        assert {f"{folder}/{name}" for name in relative_files(folder, "*.py")} <= names
    assert {f"tests/assets/{name}" for name in relative_files("tests/assets", "*.keras", "*.npz", "*.zip")} <= names


def test_layers_need_none_of_the_extras(environment: pathlib.Path, tmp_path: pathlib.Path):
    assert run(environment / "python", "-c", LAYER_ALONE, cwd=tmp_path).split() == ["(2,", "3)", "[]"]


def test_the_readmes_server_answers_its_request(served: str, exported: pathlib.Path):
    body, path = re.search(r"curl -d '(.*?)' http://localhost:8501(\S+)", README).groups()
    request = urllib.request.Request(f"{served}{path}", body.encode())
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = urllib.request.urlopen(request, timeout=10).read().decode()
            break
        except OSError:
            assert time.monotonic() < deadline, (exported / "log").read_text()
            time.sleep(0.2)
    assert re.search(r'"l u"', answer), answer
