import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kseq_serving.errors import NotFoundError, ServingError
from kseq_serving.models.lifecycle import State, StatusBoard
from kseq_serving.models.manager import Action, Managed, Stage, VersionManager, next_action


def never() -> bool:
    return False


class FakeSession:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


class Loader:
    """Loader of fake sessions; paths in `broken` fail, and those in `hung` wait for their event."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.hung: dict[str, threading.Event] = {}
        self.tries: list[str] = []
        self.sessions: dict[str, FakeSession] = {}

    def __call__(self, model: str, version: int, path: str) -> Any:
        self.tries.append(path)
        if path in self.hung:
            self.hung[path].wait(30)
        if path in self.broken:
            raise NotFoundError(f"no {path}")
        self.sessions[path] = FakeSession()
        return self.sessions[path]


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def board() -> StatusBoard:
    return StatusBoard()


@pytest.fixture
def manager(loader: Loader, board: StatusBoard) -> Iterator[VersionManager]:
    yield from running(VersionManager(loader, board, max_retries=2, retry_interval_s=0.0))


def running(manager: VersionManager) -> Iterator[VersionManager]:
    manager.start()
    yield manager
    manager.stop(1.0)


def wait(board: StatusBoard, expected: dict[int, State], model: str = "m") -> None:
    def states() -> dict[int, State]:
        return {version: status.state for version, status in board.versions(model).items()}

    arrived = threading.Event()
    for _ in range(500):
        if states() == expected:
            return
        arrived.wait(0.01)
    raise AssertionError(states())


READY, NEW, FAILED, BUSY, RETRY = Stage.READY, Stage.NEW, Stage.FAILED, Stage.BUSY, Stage.RETRY


@pytest.mark.parametrize(
    ("versions", "action"),
    [
        ({}, None),
        ({1: (NEW, True), 2: (NEW, True)}, (Action.LOAD, 2)),
        ({1: (READY, False), 2: (NEW, True)}, (Action.LOAD, 2)),
        ({1: (READY, False), 2: (READY, True)}, (Action.UNLOAD, 1)),
        ({1: (READY, False), 2: (FAILED, True)}, None),
        ({1: (READY, False), 2: (READY, False), 3: (NEW, True)}, (Action.UNLOAD, 1)),
        ({1: (READY, False)}, (Action.UNLOAD, 1)),
        ({1: (READY, True), 2: (FAILED, True)}, None),
        ({1: (READY, False), 2: (BUSY, True)}, None),
        ({1: (READY, False), 2: (BUSY, True), 3: (NEW, True)}, (Action.LOAD, 3)),
        ({1: (BUSY, False), 2: (READY, False), 3: (READY, True)}, (Action.UNLOAD, 2)),
        ({1: (READY, False), 2: (RETRY, True)}, None),
        ({1: (NEW, True), 2: (RETRY, True)}, None),
        ({1: (RETRY, True), 2: (NEW, True)}, (Action.LOAD, 2)),
        ({1: (READY, False), 2: (READY, False), 3: (RETRY, True)}, (Action.UNLOAD, 1)),
    ],
)
def test_next_action_never_leaves_a_model_without_a_version(versions: dict, action: tuple | None):
    """A version that waits for its next try is not due yet."""
    managed = {
        version: Managed("", aspired, stage, due=2.0 if stage is RETRY else 0.0)
        for version, (stage, aspired) in versions.items()
    }
    assert next_action(managed, 1.0) == action


def test_a_version_is_tried_again_when_it_is_due():
    managed = {1: Managed(""), 2: Managed("", stage=RETRY, due=2.0)}
    assert next_action(managed, 2.0) == (Action.LOAD, 2)


def test_a_new_version_replaces_the_old_one(manager: VersionManager, board: StatusBoard, loader: Loader):
    manager.set_aspired("m", {1: "/m/1"})
    wait(board, {1: State.AVAILABLE})
    manager.set_aspired("m", {2: "/m/2"})
    wait(board, {2: State.AVAILABLE, 1: State.END})
    assert loader.sessions["/m/1"].closed.is_set()
    with manager.lease("m") as servable:
        assert servable.version == 2
    with pytest.raises(NotFoundError, match=r"Servable not found for request: Specific\(m, 1\)"):
        manager.lease("m", 1)


def test_a_version_in_use_ends_after_its_requests(manager: VersionManager, board: StatusBoard, loader: Loader):
    manager.set_aspired("m", {1: "/m/1"})
    wait(board, {1: State.AVAILABLE})
    with manager.lease("m", 1):
        manager.set_aspired("m", {2: "/m/2"})
        wait(board, {2: State.AVAILABLE, 1: State.UNLOADING})
        assert not loader.sessions["/m/1"].closed.is_set()
    wait(board, {2: State.AVAILABLE, 1: State.END})
    assert loader.sessions["/m/1"].closed.is_set()


def test_a_broken_version_is_tried_again_and_the_old_one_stays(
    manager: VersionManager, board: StatusBoard, loader: Loader
):
    manager.set_aspired("m", {1: "/m/1"})
    wait(board, {1: State.AVAILABLE})
    loader.broken.add("/m/2")
    manager.set_aspired("m", {2: "/m/2"})
    wait(board, {2: State.END, 1: State.AVAILABLE})
    assert loader.tries == ["/m/1", "/m/2", "/m/2", "/m/2"]
    error = board.versions("m")[2].error
    assert isinstance(error, ServingError)
    assert str(error) == "NOT_FOUND: no /m/2"


def test_no_wanted_version_unloads_all(manager: VersionManager, board: StatusBoard):
    manager.set_aspired("m", {1: "/m/1"})
    wait(board, {1: State.AVAILABLE})
    manager.set_aspired("m", {})
    wait(board, {1: State.END})
    with pytest.raises(NotFoundError, match=r"Latest\(m\)"):
        manager.lease("m")
    manager.set_aspired("m", {1: "/m/1"})
    wait(board, {1: State.AVAILABLE})


def test_whoever_waits_sees_the_newest_version_settle(manager: VersionManager, board: StatusBoard, loader: Loader):
    loader.broken.add("/b/1")
    manager.set_aspired("a", {1: "/a/1", 2: "/a/2"})
    manager.set_aspired("b", {1: "/b/1"})
    settled = board.wait_until_settled(["a", "b"], never)
    assert {model: (version, status.state) for model, (version, status) in settled.items()} == {
        "a": (2, State.AVAILABLE),
        "b": (1, State.END),
    }


def test_waiting_can_be_given_up(board: StatusBoard):
    stop = threading.Event()
    waiter: Callable[[], Any] = lambda: board.wait_until_settled(["m"], stop.is_set)  # noqa: E731
    thread = threading.Thread(target=waiter)
    thread.start()
    stop.set()
    board.wake()
    thread.join(5)
    assert not thread.is_alive()


@pytest.fixture
def impatient(loader: Loader, board: StatusBoard) -> Iterator[VersionManager]:
    manager = VersionManager(loader, board, max_retries=0, retry_interval_s=0.0, patience_s=0.05)
    manager.start()
    yield manager
    for event in loader.hung.values():
        event.set()
    manager.stop(1.0)


def test_a_load_that_hangs_holds_up_no_other_version(impatient: VersionManager, board: StatusBoard, loader: Loader):
    loader.hung["/m/2"] = threading.Event()
    impatient.set_aspired("m", {1: "/m/1"})
    wait(board, {1: State.AVAILABLE})
    impatient.set_aspired("m", {2: "/m/2"})
    wait(board, {2: State.LOADING, 1: State.AVAILABLE})
    impatient.set_aspired("other", {7: "/other/7"})
    wait(board, {7: State.AVAILABLE}, "other")
    impatient.set_aspired("m", {3: "/m/3"})
    wait(board, {3: State.AVAILABLE, 2: State.LOADING, 1: State.END})
    loader.hung["/m/2"].set()  # nobody wants it any longer
    wait(board, {3: State.AVAILABLE, 2: State.END, 1: State.END})
    assert loader.sessions["/m/2"].closed.is_set()
    assert not loader.sessions["/m/3"].closed.is_set()
    with impatient.lease("m") as servable:
        assert servable.version == 3


def test_a_slow_load_is_served_when_it_ends(impatient: VersionManager, board: StatusBoard, loader: Loader):
    loader.hung["/m/2"] = threading.Event()
    impatient.set_aspired("m", {1: "/m/1"})
    wait(board, {1: State.AVAILABLE})
    impatient.set_aspired("m", {2: "/m/2"})
    impatient.set_aspired("other", {7: "/other/7"})
    wait(board, {7: State.AVAILABLE}, "other")
    with impatient.lease("m") as servable:
        assert servable.version == 1  # until the new one is there
    loader.hung["/m/2"].set()
    wait(board, {2: State.AVAILABLE, 1: State.END})
    assert loader.tries.count("/m/2") == 1


def test_a_request_that_never_ends_holds_up_no_other_version(
    impatient: VersionManager, board: StatusBoard, loader: Loader
):
    """The version that it uses stays loaded."""
    impatient.set_aspired("m", {1: "/m/1"})
    wait(board, {1: State.AVAILABLE})
    with impatient.lease("m"):
        impatient.set_aspired("m", {2: "/m/2"})
        wait(board, {2: State.AVAILABLE, 1: State.UNLOADING})
        impatient.set_aspired("m", {3: "/m/3"})
        impatient.set_aspired("other", {7: "/other/7"})
        wait(board, {7: State.AVAILABLE}, "other")
        wait(board, {3: State.AVAILABLE, 2: State.END, 1: State.UNLOADING})
        impatient.set_aspired("m", {1: "/m/1", 3: "/m/3"})  # and is loaded again, once it is unloaded
        assert not loader.sessions["/m/1"].closed.is_set()
        first = loader.sessions["/m/1"]
    wait(board, {3: State.AVAILABLE, 2: State.END, 1: State.AVAILABLE})
    assert first.closed.is_set()


def test_a_load_that_ends_after_the_stop_is_closed(loader: Loader, board: StatusBoard):
    loader.hung["/m/1"] = threading.Event()
    manager = VersionManager(loader, board, max_retries=0, retry_interval_s=0.0, patience_s=0.05)
    manager.start()
    manager.set_aspired("m", {1: "/m/1"})
    wait(board, {1: State.LOADING})
    manager.stop(1.0)
    loader.hung["/m/1"].set()
    arrived = threading.Event()
    while "/m/1" not in loader.sessions:
        arrived.wait(0.01)
    assert loader.sessions["/m/1"].closed.wait(5)
    with pytest.raises(NotFoundError):
        manager.lease("m")


@pytest.fixture
def slow_to_retry(loader: Loader, board: StatusBoard) -> Iterator[VersionManager]:
    """Manager that waits a minute between two tries, longer than any test."""
    yield from running(VersionManager(loader, board, max_retries=5, retry_interval_s=60.0))


def test_others_are_loaded_between_two_tries(slow_to_retry: VersionManager, board: StatusBoard, loader: Loader):
    loader.broken |= {"/m/1", "/m/2"}
    slow_to_retry.set_aspired("m", {1: "/m/1", 2: "/m/2"})
    slow_to_retry.set_aspired("other", {7: "/other/7"})
    wait(board, {7: State.AVAILABLE}, "other")
    slow_to_retry.set_aspired("other", {})
    wait(board, {7: State.END}, "other")
    assert loader.tries == ["/m/2", "/other/7"]  # the older version waits for the newer one
    wait(board, {2: State.LOADING, 1: State.START})
    slow_to_retry.set_aspired("m", {1: "/m/1", 2: "/m/2", 3: "/m/3"})
    wait(board, {3: State.AVAILABLE, 2: State.LOADING, 1: State.START})


def test_a_removed_model_is_not_tried_again(slow_to_retry: VersionManager, board: StatusBoard, loader: Loader):
    loader.broken.add("/m/1")
    slow_to_retry.set_aspired("m", {1: "/m/1"})
    slow_to_retry.set_aspired("other", {7: "/other/7"})
    wait(board, {7: State.AVAILABLE}, "other")
    slow_to_retry.set_aspired("m", {})
    wait(board, {1: State.END})
    assert str(board.versions("m")[1].error) == "NOT_FOUND: no /m/1"
    assert loader.tries == ["/m/1", "/other/7"]
    loader.broken.clear()
    slow_to_retry.set_aspired("m", {1: "/m/1"})  # with all its tries
    wait(board, {1: State.AVAILABLE})


def test_a_model_that_is_removed_during_a_try_is_not_tried_again(
    manager: VersionManager, board: StatusBoard, loader: Loader
):
    loader.broken.add("/m/1")
    loader.hung["/m/1"] = threading.Event()
    manager.set_aspired("m", {1: "/m/1"})
    wait(board, {1: State.LOADING})
    manager.set_aspired("m", {})
    loader.hung["/m/1"].set()
    wait(board, {1: State.END})
    assert loader.tries == ["/m/1"]


def test_tries_go_on_while_others_are_loaded(loader: Loader, board: StatusBoard):
    loader.broken.add("/m/1")
    manager = VersionManager(loader, board, max_retries=3, retry_interval_s=0.01, patience_s=0.05)
    manager.start()
    try:
        manager.set_aspired("m", {1: "/m/1"})
        manager.set_aspired("other", {7: "/other/7"})
        wait(board, {7: State.AVAILABLE}, "other")
        wait(board, {1: State.END})
        assert sorted(loader.tries) == ["/m/1"] * 4 + ["/other/7"]
    finally:
        manager.stop(1.0)


def test_whoever_waits_for_a_removed_model_does_not_see_it_end(board: StatusBoard):
    """It is the removal that is to be told, not the error of a load that nobody wants any more."""
    board.post("m", 1, State.END, NotFoundError("no /m/1"))
    assert board.wait_until_settled(["m"], lambda: True) == {}
