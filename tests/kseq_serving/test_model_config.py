import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kseq_serving.errors import InvalidArgumentError, ServingError
from kseq_serving.models import model_config
from kseq_serving.protocol.protos import ModelConfig


def model(name: str = "m", **fields: str) -> ModelConfig:
    return ModelConfig(**{"name": name, "base_path": "/models/m", "model_platform": "tensorflow"} | fields)


def test_text_format_as_people_write_it(tmp_path: Path):
    path = tmp_path / "models.config"
    path.write_text(
        "# a comment\n"
        "model_config_list: { config: [ { name: 'm', base_path: \"/a\" \"/b\"; model_platform: 'tensorflow'\n"
        "  model_version_policy { specific { versions: 3 versions: 5 } } version_labels { key: 'x' value: 3 } } ] }"
    )
    (config,) = model_config.read_config(str(path)).model_config_list.config
    assert config.base_path == "/a/b"
    assert list(config.model_version_policy.specific.versions) == [3, 5]
    assert dict(config.version_labels) == {"x": 3}


@pytest.mark.parametrize("text", ["model_config_list {", "model_config_list { config { nam: 'm' } }"])
def test_what_is_no_config_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(InvalidArgumentError) as caught:
        model_config.read_config(str(path))
    assert caught.value.message == f"Invalid protobuf file: '{path}'"


def make_unreadable(path: Path) -> None:
    path.write_text("")
    path.chmod(0)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: None, "NOT_FOUND: {path}; No such file or directory"),
        (Path.touch, "INVALID_ARGUMENT: {path}; Invalid argument"),
        (Path.mkdir, "NOT_FOUND: {path}; No such device"),
        pytest.param(
            make_unreadable,
            "PERMISSION_DENIED: {path}; Permission denied",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file"),
        ),
        (lambda path: path.write_bytes(b"\xff"), "INVALID_ARGUMENT: Invalid protobuf file: '{path}'"),
    ],
    ids=["missing", "empty", "folder", "unreadable", "no UTF-8"],
)
def test_files_that_cannot_be_read(tmp_path: Path, make: Callable[[Path], object], error: str):
    """TensorFlow Serving maps files into memory, which fails for empty ones and for folders."""
    path = tmp_path / "models.config"
    make(path)
    with pytest.raises(ServingError) as caught:
        model_config.read_config(str(path))
    assert str(caught.value) == error.format(path=path)


def test_a_path_through_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ServingError) as caught:
        model_config.read_config(str(tmp_path / "file" / "models.config"))
    assert str(caught.value) == f"FAILED_PRECONDITION: {tmp_path}/file/models.config; Not a directory"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([model(), model()], "Illegal to list model m multiple times in config list"),
        ([model(base_path="x/y")], "Expected model m to have an absolute path or URI; got base_path()=x/y"),
    ],
)
def test_models_that_contradict_each_other(models: list[ModelConfig], message: str):
    with pytest.raises(InvalidArgumentError) as caught:
        model_config.validate(models)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([model(model_platform="onnx")], "Model m requests unsupported platform onnx"),
        ([model(model_platform="onnx"), model(model_platform="")], "Model m requests unsupported platform onnx"),
        (
            [model(model_platform="")],
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, "
            "model name is m",
        ),
        (
            [model(model_type=2)],
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            "model name is m",
        ),
        ([model(model_platform="", model_type=2)], "ModelServerConfig::model_type choice 2 not supported."),
    ],
)
def test_platforms_that_cannot_be_served(models: list[ModelConfig], message: str):
    with pytest.raises(InvalidArgumentError) as caught:
        model_config.check_platforms(models)
    assert caught.value.message == message


def test_request_logs_are_refused():
    model_config.check_request_logs([model()])
    with pytest.raises(InvalidArgumentError, match=r"No request-logger-creator provided\.$"):
        model_config.check_request_logs([model(), model(logging_config={})])


def test_the_deprecated_type_names_the_platform():
    model_config.check_platforms([model(model_platform="", model_type=1)])


def test_a_model_keeps_its_platform():
    with pytest.raises(InvalidArgumentError) as caught:
        model_config.validate([model(model_platform="other")], [model()])
    assert caught.value.message == (
        "Illegal to change a model's platform. For model m platform was tensorflow and new platform requested is other"
    )


@pytest.mark.parametrize(
    ("given", "absolute"),
    [("m", "{here}/m"), ("./a/../m/", "{here}/m"), ("~/m", "{home}/m"), ("/a/../m/", "/a/../m/"), ("s3://m", "s3://m")],
)
def test_a_relative_path_starts_at_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, absolute: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert model_config.absolute(given) == absolute.format(here=tmp_path, home="/home/me")
