"""Two processes on this machine train one model together, by `examples/several_machines.py`."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROOT = pathlib.Path(__file__).parents[2]
SIZES = ("--words=160", "--units=8", "--batch_size=16", "--epochs=3", "--save_every=4")
ENDS_WITHIN_S = 60  # after another process was killed


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def started(folder: pathlib.Path, count: int, *more: str) -> Iterator[list[subprocess.Popen]]:
    """Start the processes of a training; those that still run at the end are killed."""
    hosts = ["--hosts", *(f"localhost:{port}" for port in free_ports(count))] if count > 1 else []
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'serving'}",
        "PYTHONUNBUFFERED": "1",
    }
    options = (*SIZES, *more)
    program = [sys.executable, "examples/several_machines.py", *hosts, f"--state={folder}", *options]
    processes = []
    try:
        for index in range(count):
            with (folder / f"output-{index}").open("a") as output:
                processes.append(
                    subprocess.Popen(
                        [*program, f"--index={index}"],
                        cwd=ROOT,
                        env=environment,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def losses(folder: pathlib.Path, count: int, *more: str) -> list[np.ndarray]:
    """Return the losses of the epochs as each of the processes has them."""
    folder.mkdir(exist_ok=True)
    with started(folder, count, *more) as processes:
        for index, process in enumerate(processes):
            assert process.wait(300) == 0, (folder / f"output-{index}").read_text()[-4000:]
    texts = [(folder / f"output-{index}").read_text() for index in range(count)]
    return [np.array(re.findall(r"^loss of each epoch: (.*)$", text, re.M)[-1].split(), "float64") for text in texts]


def test_two_processes_have_the_losses_of_one_and_go_on_after_a_kill(tmp_path: pathlib.Path):
    (alone,) = losses(tmp_path / "one", 1)
    of_both = losses(tmp_path / "two", 2)
    assert len(alone) == 3
    assert alone[2] < alone[0]
    for each in of_both:
        np.testing.assert_allclose(each, alone, atol=1e-5)

    folder = tmp_path / "killed"
    folder.mkdir()
    with started(folder, 2, "--epochs=1000") as processes:
        deadline = time.monotonic() + 300
        while not (folder / "training_state.npz").exists():
            assert time.monotonic() < deadline, (folder / "output-0").read_text()[-4000:]
            assert processes[0].poll() is None, (folder / "output-0").read_text()[-4000:]
            time.sleep(0.05)
        processes[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        code = processes[0].wait(ENDS_WITHIN_S)
        waited = time.monotonic() - killed
    print(f"The other process ended {waited:.1f} s after the kill, with {code}")
    assert code != 0
    output = (folder / "output-0").read_text()
    assert re.search("(?i)peer|heartbeat|unavailable|connection", output), output[-4000:]
    assert (folder / "training_state.npz").exists()
    for each in losses(folder, 2):
        np.testing.assert_allclose(each, alone[-len(each) :], atol=1e-5)
