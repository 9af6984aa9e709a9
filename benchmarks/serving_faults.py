"""Load and fault tests of kseq-serve: the number of failed requests, and the growth of the memory.

Clients, half over REST and half over gRPC, send requests without a pause. `tests/kseq_serving/test_faults.py` runs the
same for seconds.

usage, from the repository's root: python -m benchmarks.serving_faults [--seconds 60] [--requests 100000]
       [versions] [broken] [reload] [stop] [memory] [overload] [hostile] [isolation] [isolation_padded]
"""

import argparse
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import tensorflow as tf

from tests.kseq_serving import faults, toy_models
from tests.kseq_serving import isolation as clients_apart
from tests.kseq_serving.clients import ServerProcess, publish
from tests.kseq_serving.faults import Load
from tests.kseq_serving.hostile import clients as hostile_clients
from tests.kseq_serving.test_server import predict_request

VERSIONS = 10
CLIENTS = 8
SAMPLES = 10
SLOW_N = 200  # of the toy model's slow signature: about half a second
SMALL_BATCHES = """
max_batch_size { value: 4 }
max_enqueued_batches { value: 4 }
num_batch_threads { value: 2 }
"""


class Setting:
    """Server of the models `m` and `toy`, whose folders and configuration file the scenarios change."""

    def __init__(self, folder: Path, seconds: float, requests: int, *flags: str):
        self.seconds, self.requests = seconds, requests
        self.base, self.config, self.saved = folder / "m", folder / "models.config", folder / "saved"
        self.toy = folder / "toy"
        self.base.mkdir()
        toy_models.save_toy(self.toy / "1")
        toy_models.save_shapes(folder / "shapes" / "1")
        self.versions = faults.save_versions(self.saved, range(1, VERSIONS + 2))
        publish(self.versions[0], self.base / "1")
        self.models = {"m": self.base, "toy": self.toy, "shapes": folder / "shapes"}
        faults.write_config(self.config, self.models)
        monitoring = folder / "monitoring.config"
        monitoring.write_text(faults.METRICS)
        self.server = ServerProcess(
            folder / "log",
            f"--model_config_file={self.config}",
            "--max_num_load_retries=0",
            f"--monitoring_config_file={monitoring}",
            *flags,
        )


@contextlib.contextmanager
def setting(given: argparse.Namespace, *flags: str) -> Iterator[Setting]:
    with tempfile.TemporaryDirectory() as folder:
        made = Setting(Path(folder), given.seconds, given.requests, *flags)
        try:
            made.server.wait_ready()
            yield made
        finally:
            made.server.stop()


def under_load(made: Setting, happening: Callable[[], object]) -> str:
    """Call `happening` repeatedly under load until the time is over, and return a summary of the responses."""
    with Load(made.server, CLIENTS) as load:
        load.wait_for(20)
        started, rounds = time.monotonic(), 0
        while time.monotonic() < started + made.seconds:
            happening()
            rounds += 1
        load.wait_for(20)
    seconds = time.monotonic() - started
    return (
        f"{load.answers.total()} requests in {seconds:.0f} s, {sum(load.failed.values())} failed {load.failed or ''}, "
        f"{rounds} rounds"
    )


def versions(given: argparse.Namespace) -> str:
    with setting(given) as made:
        left = list(made.versions[1:])

        def happening() -> None:
            if left:
                faults.replace_versions(made.server, made.base, [left.pop(0)])
            time.sleep(0.7 * made.seconds / VERSIONS)

        report = under_load(made, happening)
        return f"{VERSIONS - len(left)} new versions, of which each replaces the one before: {report}"


def broken(given: argparse.Namespace) -> str:
    with setting(given) as made:
        numbers = iter(range(100, 10_000, 3))
        report = under_load(
            made, lambda: faults.break_versions(made.server, made.base, made.versions[1], next(numbers))
        )
        return f"broken versions, 3 a round: {report}"


def reload(given: argparse.Namespace) -> str:
    with setting(given, "--model_config_file_poll_wait_seconds=1") as made:
        by_file = under_load(made, lambda: faults.reload_by_file(made.server, made.config, made.models, made.toy))
    with setting(given) as made:
        by_request = under_load(made, lambda: faults.reload_by_request(made.server, made.models, made.toy))
    return f"configuration reloaded by file: {by_file}\nand by request: {by_request}"


def stop(given: argparse.Namespace) -> str:
    with setting(given) as made, ThreadPoolExecutor(4) as pool, Load(made.server, CLIENTS) as load:
        load.wait_for(1000)
        slow = predict_request("toy", {"n": [SLOW_N]}, "slow")
        held = [pool.submit(made.server.predict, slow) for _ in range(4)]
        time.sleep(0.3)
        made.server.process.send_signal(signal.SIGTERM)
        answered = sum(list(call.result().outputs["n"].int_val) == [SLOW_N] for call in held)
        code = made.server.process.wait(20)
        time.sleep(0.5)
    refused = {f"{protocol} {status}": count for (protocol, status, _), count in load.failed.items()}
    return f"SIGTERM: {answered} of 4 slow requests in progress answered, exit code {code}; after it {refused}"


def memory(given: argparse.Namespace) -> str:
    print(f"memory: {'requests':>9} {'RSS MiB':>9} {'peak MiB':>9} {'failed':>7}")
    with setting(given) as made, Load(made.server, CLIENTS) as load:
        for sample in range(SAMPLES + 1):
            load.wait_for(max(1, sample * given.requests // SAMPLES - load.answers.total()))
            rss, peak = faults.memory_mib(made.server)
            failed = sum(load.failed.values())
            print(f"        {load.answers.total():9} {rss:9.1f} {peak:9.1f} {failed:7}", flush=True)
    by_protocol = {name: sum(n for answer, n in load.answers.items() if answer[0] == name) for name in ("REST", "gRPC")}
    return f"        of them {by_protocol}"


def overload(given: argparse.Namespace) -> str:
    one_thread = ("--grpc_max_threads=1", "--rest_api_num_threads=1")
    with setting(given, *one_thread) as made:
        narrow = f"overload, one thread, 300 at once: {flood(made)}"
    with tempfile.NamedTemporaryFile("w", suffix=".config") as batching:
        batching.write(SMALL_BATCHES)
        batching.flush()
        with setting(given, "--enable_batching=true", f"--batching_parameters_file={batching.name}") as made:
            return f"{narrow}\noverload, batches of 4, 4 of them in the queue, 300 at once: {flood(made)}"


def flood(made: Setting) -> str:
    request = predict_request("toy", {"n": [10]}, "slow")
    body = b'{"signature_name": "slow", "instances": [10]}'
    over_grpc = faults.flood_grpc(made.server, request, 300)
    over_rest = faults.flood_rest(made.server, "/v1/models/toy:predict", body, 300)
    started = time.perf_counter()
    made.server.predict(request)
    seconds = time.perf_counter() - started
    return f"gRPC {dict(over_grpc)}, REST {dict(over_rest)}; the next one is answered after {seconds:.3f} s"


def hostile(given: argparse.Namespace) -> str:
    """Return what clients wait at most during each attack (REST, REST with 200 kB, gRPC), and how the memory grows."""
    print(f"hostile: {'attack':48} {'REST s':>8} {'large s':>8} {'gRPC s':>8} {'failed':>7} {'peak MiB':>9}")
    for name, attack in hostile_clients.ATTACKS.items():
        with setting(given) as made:
            report = hostile_clients.beside(made.server, attack)
            print(f"         {name:48} {report}", flush=True)
    return ""


def isolation(given: argparse.Namespace, *, padded: bool = False) -> str:
    """Return how many requests of 12 good clients failed, or got another's answer, beside 6 bad ones in batches."""
    with tempfile.NamedTemporaryFile("w", suffix=".config") as batching:
        batching.write(clients_apart.BATCHING.format(padded=str(padded).lower()))
        batching.flush()
        with setting(given, "--enable_batching=true", f"--batching_parameters_file={batching.name}") as made:
            report = clients_apart.run(made.server, made.seconds, padded=padded)
            return f"isolation, {'' if padded else 'not '}padded, {made.seconds:.0f} s: {report}"


def isolation_padded(given: argparse.Namespace) -> str:
    return isolation(given, padded=True)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (versions, broken, reload, stop, memory, overload, hostile, isolation, isolation_padded)
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="all without one")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument("--requests", type=int, default=100_000, help="whose memory is watched")
    given = parser.parse_args()
    if unknown := set(given.scenarios) - SCENARIOS.keys():
        parser.error(f"no scenario: {' '.join(unknown)}; there are {' '.join(SCENARIOS)}")
    print(f"CPU, {len(os.sched_getaffinity(0))} cores, tensorflow {tf.__version__}, grpcio {grpc.__version__}")
    for name in given.scenarios or SCENARIOS:
        print(SCENARIOS[name](given), flush=True)


if __name__ == "__main__":
    main()
