import logging
from pathlib import Path

import pytest

from kseq_serving.models.version_source import VersionSource, choose, version_folders
from kseq_serving.protocol.protos import ModelConfig, ServableVersionPolicy


class Aspirations(dict):
    """Fake manager that records the aspired versions of each model."""

    def set_aspired(self, model: str, versions: dict[int, str]) -> None:
        self[model] = versions


def test_only_numbers_are_versions():
    names = ["00000007", "-3", "v9", "1.5", "12", "12.tmp", str(2**63), "1e3", "٣", "abc"]
    assert version_folders(names) == {7: "00000007", -3: "-3", 12: "12"}


@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        ({}, [9]),
        ({"latest": {}}, [9]),
        ({"latest": {"num_versions": 0}}, [9]),
        ({"latest": {"num_versions": 2}}, [9, 4]),
        ({"latest": {"num_versions": 7}}, [9, 4, 1]),
        ({"all": {}}, [1, 4, 9]),
        ({"specific": {"versions": [1, 4, 5]}}, [1, 4]),
        ({"specific": {}}, []),
    ],
)
def test_policies(policy: dict, versions: list[int]):
    assert choose(ServableVersionPolicy(**policy), [1, 4, 9]) == versions


def test_it_tells_what_it_finds(tmp_path: Path):
    aspired = Aspirations()
    source = VersionSource(aspired, 0)  # pyright: ignore[reportArgumentType]
    (tmp_path / "m" / "3").mkdir(parents=True)
    source.adopt(source.find([ModelConfig(name="m", base_path=str(tmp_path / "m"))]))
    assert aspired == {"m": {3: str(tmp_path / "m" / "3")}}
    (tmp_path / "m" / "4").mkdir()
    source.poll()
    assert aspired == {"m": {4: str(tmp_path / "m" / "4")}}

    source.adopt([])
    assert aspired == {"m": {}}


def test_a_missing_folder_unloads_nothing_and_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    aspired = Aspirations()
    source = VersionSource(aspired, 0)  # pyright: ignore[reportArgumentType]
    (tmp_path / "here" / "1").mkdir(parents=True)
    folders = (("a", "gone"), ("b", "here"))
    models = [ModelConfig(name=name, base_path=str(tmp_path / folder)) for name, folder in folders]
    with caplog.at_level(logging.WARNING):
        source.adopt(source.find(models))
        source.poll()
    assert list(aspired) == ["b"]
    assert [record.getMessage() for record in caplog.records] == [
        f"Nothing to serve: the base path {tmp_path}/gone of model a cannot be read (No such file or directory). "
        f"Expected there: a folder whose name is the version number and that holds saved_model.pb, for example "
        f"{tmp_path}/gone/1/saved_model.pb. Still looking."
    ]


def test_a_versions_folder_as_base_path_is_said(tmp_path: Path):
    source = VersionSource(Aspirations(), 0)  # pyright: ignore[reportArgumentType]
    (tmp_path / "saved_model.pb").touch()
    model = ModelConfig(name="m", base_path=str(tmp_path))
    (found,) = source.find([model])
    assert found.problem == "is the folder of a version, so give the folder that it is in"
    (tmp_path / "1").mkdir()
    (found,) = source.find([model])
    assert (found.problem, found.versions) == ("", {1: str(tmp_path / "1")})
