"""The README's example runs as it stands."""

import pathlib
import re

import pytest

pytestmark = pytest.mark.tensorflow
README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_twenty_lines_print_what_they_say(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    quiet = code.replace("model.fit(batches, epochs=200)", "model.fit(batches, epochs=200, verbose=0)")
    assert quiet != code
    exec(compile(quiet, "README", "exec"), {})
    printed = capsys.readouterr().out.strip().splitlines()[-1]
    said = re.search(r"It prints\s+`(.*?)`", README, re.DOTALL).group(1)
    assert printed == said
