"""The files beside an export's versions, read as servers read them."""

import pathlib
import re

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

import kseq
from kseq.export.serving_config import model_name, serving_files, write_serving_files
from kseq_serving.batching import batching_options
from kseq_serving.models.version_source import version_folders
from kseq_serving.protocol.protos import BatchingParameters, MonitoringConfig

NAMES = {"models.config", "batching.config", "monitoring.config", "serve.sh"}


@pytest.fixture(scope="module")
def folder(export_small, tokenizer, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "letters"
    return export_small(base, source=tokenizer, batch_sizes=(1, 2, 4), warmup=False)


@pytest.fixture
def base(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "m" / ".scratch").mkdir(parents=True)
    return tmp_path / "m"


def write(base: pathlib.Path, batch_sizes=(1, 2, 4)) -> None:
    files = serving_files("m", batch_sizes, lengths=True, one_step=False)
    write_serving_files(base, files, base / ".scratch")


def batching(text: str) -> BatchingParameters:
    return text_format.Parse(text, BatchingParameters())


@pytest.mark.long
def test_an_export_writes_them_beside_its_versions(folder):
    beside = {path.name for path in folder.parent.iterdir()}
    assert beside == {"1", *NAMES}
    assert version_folders(beside) == {1: "1"}  # no other entry counts as a version
    assert not {path.name for path in folder.iterdir()} & NAMES


@pytest.mark.long
def test_models_config_names_the_folder_in_a_container(folder):
    text = (folder.parent / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("letters", "/models/letters", "tensorflow")


def test_monitoring_config_switches_prometheus_on(folder):
    config = text_format.Parse((folder.parent / "monitoring.config").read_text(), MonitoringConfig())
    assert config.prometheus_config.enable
    assert config.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_batching_config_has_the_largest_batch_and_fills_up_none(folder):
    parameters = batching((folder.parent / "batching.config").read_text())
    options = batching_options.options(parameters)
    assert (options.allowed_sizes, options.max_rows) == ((), 4)  # the graph of serving_xla fills up itself
    assert options.max_queued_batches * options.max_rows == 1024
    assert not options.pad_inputs  # the inputs are texts
    assert not parameters.HasField("num_batch_threads")  # the default is the machine's number of cores


@pytest.mark.parametrize("largest", [2, 64, 2000])
def test_sequences_with_lengths_are_padded(largest):
    files = serving_files("m", (1, largest), lengths=True, one_step=False)
    options = batching_options.options(batching(files["batching.config"]))
    assert options.pad_inputs
    assert options.max_queued_batches >= 1


@pytest.mark.parametrize(
    ("batch_sizes", "one_step", "reason"),
    [((1, 8), True, "the states in requests to serving_step must not be padded"), ((1,), False, "batch size is 1")],
)
def test_what_must_not_be_batched_is_not(batch_sizes, one_step, reason):
    files = serving_files("m", batch_sizes, lengths=True, one_step=one_step)
    assert "batching.config" not in files
    assert "batching_parameters_file" not in files["serve.sh"]
    assert "enable_batching" not in files["serve.sh"]
    assert re.search(f"# Requests are not batched: .*{reason}", files["serve.sh"])


@pytest.mark.parametrize("edit", ["", "# mine"])
def test_parameters_of_batching_go_where_there_must_be_none(edit, base):
    write(base)
    with (base / "batching.config").open("a") as file:
        file.write(edit)
    files = serving_files("m", (1, 2, 4), lengths=True, one_step=True)
    write_serving_files(base, files, base / ".scratch")
    assert (base / "batching.config").exists() == bool(edit)


def test_an_edited_file_is_left_as_it_is(base):
    write(base)
    edited = (base / "batching.config").read_text().replace("micros { value: 0 }", "micros { value: 9 }")
    (base / "batching.config").write_text(edited)
    (base / "monitoring.config").unlink()
    write(base, batch_sizes=(1, 8))
    assert (base / "batching.config").read_text() == edited
    assert (base / "monitoring.config").is_file()  # a deleted file is written again


def test_a_file_that_nobody_edited_is_written_again(base):
    write(base)
    write(base, batch_sizes=(1, 8))
    assert batching((base / "batching.config").read_text()).max_batch_size.value == 8
    assert {path.name for path in base.iterdir()} == {".scratch", *NAMES}
    assert not any((base / ".scratch").iterdir())


@pytest.mark.parametrize("content", [b"", b"mine", b"\xff\xfe\n\x00", b"# Written by kseq (000000000000)\nmine\n"])
def test_a_users_own_file_is_left_as_it_is(content, base):
    (base / "serve.sh").write_bytes(content)
    (base / "models.config").mkdir()
    write(base)
    assert (base / "serve.sh").read_bytes() == content
    assert (base / "models.config").is_dir()


def test_a_reader_never_sees_half_a_file(base):
    """The file is replaced, not overwritten, so an open file stays complete."""
    write(base)
    with (base / "batching.config").open() as reader:
        write(base, batch_sizes=(1, 8))
        assert batching(reader.read()).max_batch_size.value == 4


@pytest.mark.parametrize("name", ["my model", "a:b", 'a"b', "a?b", "a\nb", "50%"])
def test_a_folders_name_that_no_url_holds_is_refused(name, model, strategy, tmp_path):
    with pytest.raises(
        ValueError, match="the name under which clients request the model, so it may only have letters, digits"
    ):
        kseq.export_saved_model(model, tmp_path / name, strategy=strategy)
    assert not (tmp_path / name).exists()


def test_the_name_is_that_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_name(pathlib.Path()) == tmp_path.name
    assert model_name(pathlib.Path("models/dates.v2-é_1/")) == "dates.v2-é_1"


@pytest.mark.long
def test_the_files_may_be_left_out(export_small, tmp_path):
    export_small(tmp_path / "my model", options=kseq.ExportOptions(serving_config=False))
    assert [path.name for path in (tmp_path / "my model").iterdir()] == ["1"]
