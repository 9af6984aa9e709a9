"""Configurations, labels and reloads, with real models in this process."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kseq_serving.core import ServerCore
from kseq_serving.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, ServingError
from kseq_serving.flags import Flags
from kseq_serving.inference import predict
from kseq_serving.models.folders import Folders
from kseq_serving.models.lifecycle import State
from kseq_serving.protocol.protos import ConfigProto, ModelServerConfig, ModelSpec
from tests.kseq_serving import toy_models
from tests.kseq_serving.clients import publish, wait_for
from tests.kseq_serving.conftest import HungFolders

MakeCore = Callable[..., ServerCore]
PLAIN = (
    "The signature serving_default reads variables that loading does not restore (dense/kernel, 1 in all). "
    "tf.saved_model.save of a Keras 3 model writes such files: write the model with "
    "kseq.export_saved_model(model, path), or with Keras's model.export(path)."
)
OPEN = threading.Event()
OPEN.set()


@pytest.fixture
def make_core() -> Iterator[MakeCore]:
    made: list[ServerCore] = []

    def make(**flags: Any) -> ServerCore:
        flags = {"max_num_load_retries": 0, "file_system_poll_wait_seconds": 0} | flags
        made.append(ServerCore(Flags(**flags), ConfigProto()))
        return made[-1]

    yield make
    for core in made:
        core.stop(1.0)


def test_batches_of_one_kind_leave_a_core(make_core: MakeCore, monkeypatch: pytest.MonkeyPatch):
    made = []
    monkeypatch.setattr("kseq_serving.core.BatchScheduler", lambda threads, *, at_once: made.append((threads, at_once)))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    make_core(enable_batching=True)
    assert made == [(3, 2)]


def config(*models: dict) -> ModelServerConfig:
    result = ModelServerConfig()
    result.model_config_list.SetInParent()
    for model in models:
        result.model_config_list.config.add(model_platform="tensorflow", **model)
    return result


def versioned(models: Path, labels: dict[str, int] | None = None, versions: tuple[int, ...] = (1, 2)) -> dict:
    policy = {"specific": {"versions": versions}}
    path = str(models / "versioned")
    return {"name": "v", "base_path": path, "model_version_policy": policy, "version_labels": labels or {}}


def ask(core: ServerCore, signature_name: str = "", **spec: Any) -> float:
    wanted = ModelSpec(name="v", **{name: value for name, value in spec.items() if name != "version"})
    if "version" in spec:
        wanted.version.value = spec["version"]
    with core.lease(wanted) as servable:
        signature = predict.find(servable.session.signatures, signature_name)
        return float(predict.run(servable.session, signature, {"x": np.float32([1.0])})["y"][0])


def states(core: ServerCore, model: str) -> list[State]:
    return [status.state for status in core.board.versions(model).values()]


def save_without_variables(folder: Path) -> None:
    toy_models.save_weighted(folder)
    shutil.rmtree(folder / "variables")


@pytest.mark.long
def test_versions_by_number_label_and_latest(make_core: MakeCore, models: Path):
    core = make_core(allow_version_labels_for_unavailable_models=True)
    core.start(config(versioned(models, {"stable": 1, "gone": 7})))
    wait_for(lambda: core.board.is_available("v", 1))
    assert (ask(core), ask(core, version=1), ask(core, version_label="stable")) == (12.0, 11.0, 11.0)
    with pytest.raises(NotFoundError, match=r"Specific\(v, 7\)"):
        ask(core, version_label="gone")
    with pytest.raises(InvalidArgumentError, match="Unrecognized servable version label: "):
        ask(core, version_label="")


def test_a_label_needs_an_available_version(make_core: MakeCore, models: Path):
    core = make_core()
    message = "Request to assign label to version 1 of model v, which is not currently available for inference"
    with pytest.raises(FailedPreconditionError, match=message):
        core.start(config(versioned(models, {"stable": 1})))


@pytest.mark.parametrize("allowed", [False, True])
def test_a_label_in_use_stays_where_it_can_answer(make_core: MakeCore, models: Path, allowed: bool):
    core = make_core(allow_version_labels_for_unavailable_models=allowed)
    core.start(config(versioned(models, versions=(1,))))
    core.reload(config(versioned(models, {"stable": 1}, versions=(1,))))
    with pytest.raises(FailedPreconditionError):
        core.reload(config(versioned(models, {"stable": 2}, versions=(1,))))
    assert ask(core, version_label="stable") == 11.0


def test_a_reload_adds_and_removes_models(make_core: MakeCore, models: Path):
    core = make_core()
    toy = {"name": "toy", "base_path": str(models / "toy")}
    core.start(config(versioned(models, versions=(1,))))
    core.reload(config(versioned(models, versions=(2,)), toy))
    wait_for(lambda: core.board.is_available("toy", 1) and core.board.versions("v")[1].state is State.END)
    assert ask(core) == 12.0

    core.reload(config(toy))
    wait_for(lambda: core.board.versions("v")[2].state is State.END)
    with pytest.raises(NotFoundError, match=r"Latest\(v\)"):
        ask(core)


def test_a_refused_reload_changes_nothing(make_core: MakeCore, models: Path):
    core = make_core()
    core.start(config(versioned(models)))
    with pytest.raises(InvalidArgumentError, match="multiple times"):
        core.reload(config(versioned(models, versions=()), versioned(models)))
    assert ask(core) == 12.0


def test_a_reload_answers_when_its_new_models_are_available(make_core: MakeCore, models: Path):
    core = make_core()
    core.start(config())
    core.reload(config(versioned(models, versions=(2,))))
    assert ask(core) == 12.0
    core.reload(config())
    wait_for(lambda: core.board.versions("v")[2].state is State.END)
    core.reload(config(versioned(models, versions=(2,))))  # the version's earlier END is ignored
    assert ask(core) == 12.0


def test_a_reload_with_a_model_that_is_nowhere_is_refused(make_core: MakeCore, models: Path, tmp_path: Path):
    core = make_core()
    core.start(config(versioned(models)))
    for path in (tmp_path, tmp_path / "none"):
        missing = {"name": "m", "base_path": str(path)}
        with pytest.raises(NotFoundError, match=f"any version of model m that is to be served at base path {path}"):
            core.reload(config(versioned(models), missing))
    assert ask(core) == 12.0
    core.reload(config(versioned(models)))


def test_a_reload_with_a_model_that_cannot_be_loaded_says_so(make_core: MakeCore, models: Path, tmp_path: Path):
    core = make_core()
    core.start(config(versioned(models)))
    (tmp_path / "1").mkdir()
    with pytest.raises(ServingError, match="name: m version: 1} due to error: NOT_FOUND"):
        core.reload(config(versioned(models), {"name": "m", "base_path": str(tmp_path)}))
    assert ask(core) == 12.0


@pytest.fixture
def held_loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, threading.Event]]:
    """Events by model; the load of a model in this mapping waits for its event."""
    held: dict[str, threading.Event] = {}
    load = ServerCore._load

    def hold(core: ServerCore, model: str, version: int, path: str) -> Any:
        assert held.get(model, OPEN).wait(10)
        return load(core, model, version, path)

    monkeypatch.setattr(ServerCore, "_load", hold)
    yield held
    for event in held.values():
        event.set()


def test_a_reload_does_not_wait_for_a_model_that_another_one_removes(
    make_core: MakeCore, models: Path, held_loads: dict[str, threading.Event]
):
    held_loads["busy"] = threading.Event()
    core, other = make_core(), str(models / "toy")
    core.start(config(versioned(models)))
    core.reload(config(versioned(models), {"name": "busy", "base_path": other}), wait=False)
    wait_for(lambda: states(core, "busy") == [State.LOADING])
    with ThreadPoolExecutor(1) as pool:  # m waits behind the model that is being loaded
        waiting = pool.submit(core.reload, config(versioned(models), {"name": "m", "base_path": other}))
        wait_for(lambda: "m" in core._names)
        assert not waiting.done()
        core.reload(config(versioned(models)))
        error = waiting.exception(10)
    assert isinstance(error, ServingError)
    assert str(error) == "ABORTED: Removed by another configuration before it was available: m"
    held_loads["busy"].set()
    core.reload(config(versioned(models), {"name": "m", "base_path": other}))
    assert core.board.is_available("m", 1)


def test_a_reload_need_not_wait(make_core: MakeCore, models: Path, held_loads: dict[str, threading.Event]):
    held_loads["m"] = threading.Event()
    core = make_core()
    m, n = ({"name": name, "base_path": str(models / "toy")} for name in "mn")
    core.start(config(versioned(models)))
    core.reload(config(versioned(models), m), wait=False)
    wait_for(lambda: states(core, "m") == [State.LOADING])
    with pytest.raises(ServingError, match="not available before the deadline"):
        core.reload(config(versioned(models), m, n), timeout_s=0.1)
    held_loads["m"].set()
    wait_for(lambda: core.board.is_available("n", 1))


@pytest.mark.long
def test_a_folder_that_hangs_holds_up_neither_reloads_nor_the_watch(
    make_core: MakeCore, models: Path, tmp_path: Path, hung: HungFolders
):
    shutil.copytree(models / "versioned" / "1", tmp_path / "v" / "1")
    core = make_core(file_system_poll_wait_seconds=1)
    core._source._folders = Folders(timeout_s=0.5)
    watched = {"name": "v", "base_path": str(tmp_path / "v")}
    core.start(config(watched))
    hung.paths = {"/hung"}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(core.reload, config(watched, {"name": "m", "base_path": "/hung"}))
        wait_for(lambda: hung.looks == 1)
        core.reload(config(watched, {"name": "toy", "base_path": str(models / "toy")}))
        assert core.board.is_available("toy", 1)
        assert not waiting.done()
        error = waiting.exception(10)
    assert isinstance(error, NotFoundError)
    assert "at base path /hung, which cannot be read (Connection timed out)" in error.message

    hung.paths = {str(models / "toy")}  # the folder of a model that is served
    wait_for(lambda: hung.looks == 2)
    publish(models / "versioned" / "2", tmp_path / "v" / "2")
    wait_for(lambda: core.board.is_available("v", 2))
    assert core.board.is_available("toy", 1)


def test_a_model_that_cannot_be_loaded_ends_the_start(make_core: MakeCore, tmp_path: Path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    with pytest.raises(ServingError) as caught:
        make_core().start(config({"name": "m", "base_path": str(tmp_path / "m")}))
    assert str(caught.value) == (
        "UNKNOWN: 1 servable(s) did not become available: {{{name: m version: 1} due to error: NOT_FOUND: Could not "
        f"find SavedModel .pb or .pbtxt at supplied export directory path: {tmp_path}/m/1}}, }}"
    )


def missing(path: Path) -> str:
    return f"NOT_FOUND: Could not find SavedModel .pb or .pbtxt at supplied export directory path: {path}"


def test_several_broken_models_are_told_by_name(make_core: MakeCore, models: Path, tmp_path: Path):
    """And before request logs, which TensorFlow Serving refuses last."""
    for name in ("b/2", "b/1", "a/3"):
        (tmp_path / name).mkdir(parents=True)
    broken = [{"name": name, "base_path": str(tmp_path / name)} for name in ("b", "a")]
    good = {"name": "toy", "base_path": str(models / "toy"), "logging_config": {}}
    with pytest.raises(ServingError) as caught:
        make_core().start(config(broken[0], good, broken[1]))
    assert str(caught.value) == (
        f"UNKNOWN: 2 servable(s) did not become available: {{{{{{name: a version: 3}} due to error: "
        f"{missing(tmp_path / 'a/3')}}}, {{{{name: b version: 2}} due to error: {missing(tmp_path / 'b/2')}}}, }}"
    )
    core = make_core()
    core.start(config())
    with pytest.raises(
        ServingError, match=r"UNKNOWN: 1 model\(s\) did not become available: {{{name: b version: 2} due to"
    ):
        core.reload(config(broken[0]))
    with pytest.raises(InvalidArgumentError, match="No request-logger-creator provided"):
        make_core().start(config(good))


UNAVAILABLE_LABEL = "Request to assign label to version 7 of model v, which is not currently available for inference"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ([{"base_path": "x"}, {}], "Illegal to list model v multiple times in config list"),
        ([{"base_path": "x", "version_labels": {"l": 7}}], "Expected model v to have an absolute path or URI; got "),
        ([{"model_platform": "onnx", "version_labels": {"l": 7}}], UNAVAILABLE_LABEL),
        ([{"model_platform": "onnx", "logging_config": {}}], "Model v requests unsupported platform onnx"),
    ],
)
def test_of_several_mistakes_the_first_is_told(make_core: MakeCore, models: Path, changes: list, error: str):
    """In the order of TensorFlow Serving: names, paths, labels, platforms."""
    wrong = ModelServerConfig()
    for change in changes:
        wrong.model_config_list.config.add(**({"model_platform": "tensorflow"} | versioned(models) | change))
    with pytest.raises(ServingError) as caught:
        make_core().start(wrong)
    assert caught.value.message.startswith(error)


def test_a_changed_platform_is_told_before_labels(make_core: MakeCore, models: Path):
    core = make_core()
    core.start(config(versioned(models, versions=(1,))))
    wrong = config(versioned(models, {"l": 7}))
    wrong.model_config_list.config[0].model_platform = "onnx"
    with pytest.raises(InvalidArgumentError, match="Illegal to change a model's platform"):
        core.reload(wrong)
    assert ask(core) == 11.0


@pytest.mark.long
@pytest.mark.parametrize(
    ("save", "problem"),
    [
        (save_without_variables, "The file variables/variables.index is missing: copy the whole version folder."),
        (toy_models.save_keras_plainly, PLAIN),
    ],
)
def test_a_version_that_cannot_answer_does_not_take_the_place_of_one_that_does(
    make_core: MakeCore, tmp_path: Path, save: Callable[[Path], None], problem: str
):
    toy_models.save_weighted(tmp_path / "1")
    save(tmp_path / "2")
    core = make_core(file_system_poll_wait_seconds=1)
    both = {"specific": {"versions": [1, 2]}}
    core.start(
        config({"name": "v", "base_path": str(tmp_path), "model_version_policy": {"specific": {"versions": [1]}}})
    )
    core.reload(config({"name": "v", "base_path": str(tmp_path), "model_version_policy": both}))
    wait_for(lambda: State.END in states(core, "v"))
    assert ask(core) == 3.0
    error = core.board.versions("v")[2].error
    assert str(error) == f"NOT_FOUND: {tmp_path}/2 cannot answer. {problem} Version 1 of model v stays."


def test_alone_a_version_without_variables_is_served_as_far_as_it_goes(make_core: MakeCore, tmp_path: Path):
    toy_models.save_weighted(tmp_path / "1")
    shutil.rmtree(tmp_path / "1" / "variables")
    core = make_core()
    core.start(config({"name": "v", "base_path": str(tmp_path)}))
    assert states(core, "v") == [State.AVAILABLE]
    with pytest.raises(ServingError, match="FAILED_PRECONDITION: Could not find variable"):
        ask(core)


def test_a_keras_model_saved_plainly_is_said(make_core: MakeCore, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """When it is loaded, and to each client; signatures without variables answer."""
    toy_models.save_keras_plainly(tmp_path / "1")
    core = make_core()
    core.start(config({"name": "v", "base_path": str(tmp_path)}))
    assert [r.message for r in caplog.records if r.levelname == "ERROR"] == [
        f"Version 1 of model v in {tmp_path}/1 will fail requests. {PLAIN}"
    ]
    assert states(core, "v") == [State.AVAILABLE]
    with pytest.raises(ServingError) as caught:
        ask(core)
    assert caught.value.message.startswith("Could not find variable dense/kernel.")
    assert caught.value.message.endswith(f"\n{PLAIN}")
    assert ask(core, "triple") == 3.0


def test_a_model_whose_variables_are_restored_has_no_problem(
    make_core: MakeCore, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    toy_models.save_weighted(tmp_path / "1")
    core = make_core()
    core.start(config({"name": "v", "base_path": str(tmp_path)}))
    assert ask(core) == 3.0
    assert "ERROR" not in [record.levelname for record in caplog.records]


def test_tags_that_are_not_there(make_core: MakeCore, models: Path):
    with pytest.raises(ServingError, match=r"matching supplied tags: \{ a b \}"):
        make_core(saved_model_tags="b,a").start(config(versioned(models)))


def test_no_models_at_all(make_core: MakeCore):
    core = make_core()
    core.start(config())
    with pytest.raises(NotFoundError):
        ask(core)
