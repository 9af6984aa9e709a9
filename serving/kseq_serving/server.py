"""Server process, from parsed flags to the last response."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import NoReturn

import tensorflow as tf
import uvloop

from kseq_serving import sibling_metrics
from kseq_serving.batching import batching_options
from kseq_serving.bounded_log import BoundedLog
from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, ServingError
from kseq_serving.flags import EXIT_FAILURE, FAILED, Flags
from kseq_serving.grpc_server import GrpcServer
from kseq_serving.models import model_config, op_libraries, xla
from kseq_serving.models.session_options import session_config
from kseq_serving.ports import GRPC_HOST, cannot_listen
from kseq_serving.processes import Place
from kseq_serving.protocol.protos import ModelServerConfig, MonitoringConfig
from kseq_serving.rest.api import RestApi
from kseq_serving.rest.http_server import HttpServer
from kseq_serving.rest.playground import Playground
from kseq_serving.workers import Workers

METRICS_PATH = "/monitoring/prometheus/metrics"
GRACE_S = 5.0  # for requests in progress when the server is told to stop

_log = logging.getLogger(__name__)


def run(flags: Flags, place: Place | None = None) -> NoReturn:
    """Serve until SIGTERM or SIGINT, then exit the process, since no other way ends threads that hang.

    Args:
        flags: Options of the server.
        place: Place among the processes that share the ports; None if there are no others.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(BoundedLog())
    tf.get_logger().setLevel(logging.ERROR)  # SavedModelLoader is deprecated, but nothing else loads a session
    try:
        _prepare_tensorflow(flags)
        uvloop.run(_serve(flags, place))
        code = 0
    except ServingError as error:
        print(f"{FAILED} {error}")
        code = EXIT_FAILURE
    except Exception as error:
        _log.exception("Unexpected failure")
        print(f"{FAILED} {Code.INTERNAL.name}: {error}")
        code = EXIT_FAILURE
    _exit(code)


def _exit(code: int) -> NoReturn:
    """Exit the process at once, even if a run or a load of a model hangs."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _serve(flags: Flags, place: Place | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    config = _configuration(flags)
    batching_options.from_flags(flags)  # before the session's options, whose file may be wrong as well
    core = ServerCore(flags, session_config(flags))
    try:
        await _start_core(core, config, stop)
        if not stop.is_set():
            await _answer_requests(core, flags, place, stop)
    finally:
        # The grace period is over: cancel the runs that are still in progress.
        core.stop(0.0)


async def _answer_requests(core: ServerCore, flags: Flags, place: Place | None, stop: asyncio.Event) -> None:
    """Open the ports, and close them when `stop` is set."""
    grpc_workers = Workers(flags.threads(flags.grpc_max_threads), name="grpc")
    rest_workers = Workers(flags.threads(flags.rest_api_num_threads), name="rest")
    core.metrics.watch_requests_in_flight(lambda: grpc_workers.in_flight + rest_workers.in_flight)
    exchange = await sibling_metrics.exchange(core.metrics, place) if place else None
    rpc_server = GrpcServer(core, flags, grpc_workers)
    await rpc_server.start()
    api = Playground if flags.enable_playground else RestApi
    http_server = HttpServer(
        api(core, _monitoring_path(flags)),
        rest_workers,
        grace_s=GRACE_S,
        at_once=not flags.enable_batching,  # a run waits for its batch
    )
    watch = asyncio.create_task(_watch_configuration(core, flags))
    try:
        _announce_grpc(flags)
        await _start_rest(http_server, flags)
        await stop.wait()
        _log.info("Stopping: requests in progress have %g s to end", GRACE_S)
    finally:
        watch.cancel()
        if exchange:
            exchange.close()
        await asyncio.gather(http_server.stop(), rpc_server.stop(GRACE_S))


def _configuration(flags: Flags) -> ModelServerConfig:
    """Return the configuration to start with."""
    if flags.model_config_file:
        config = model_config.read_config(flags.model_config_file)
    else:
        config = model_config.single_model(flags.model_name, model_config.absolute(flags.model_base_path))
    for name in flags.without_effect():
        _log.warning("--%s has no effect: not supported yet", name)
    return config


def _monitoring_path(flags: Flags) -> str | None:
    """Return the URL path of the metrics; None if `--monitoring_config_file` is missing or does not enable them."""
    if not flags.monitoring_config_file or not flags.rest_api_port:
        return None
    config = model_config.read_text_proto(flags.monitoring_config_file, MonitoringConfig()).prometheus_config
    return (config.path or METRICS_PATH) if config.enable else None


def _prepare_tensorflow(flags: Flags) -> None:
    if not flags.xla_cpu_compilation_enabled and not flags.xla_gpu_compilation_enabled:
        xla.disable_compilation()
    op_libraries.register()


async def _start_core(core: ServerCore, config: ModelServerConfig, stop: asyncio.Event) -> None:
    """Load the models; give up when `stop` is set."""
    starting = asyncio.create_task(asyncio.to_thread(core.start, config))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if stop.is_set():
        core.interrupt()
    await starting


async def _start_rest(http_server: HttpServer, flags: Flags) -> None:
    if not flags.rest_api_port:
        return
    try:
        await http_server.start(flags.rest_api_port, is_shared=flags.num_processes > 1)
    except OSError as error:
        raise cannot_listen("REST", f"localhost:{flags.rest_api_port}", os.strerror(error.errno or 0)) from error
    _log.info("Exporting HTTP/REST API at:localhost:%d ...", flags.rest_api_port)
    if flags.enable_playground:
        _log.info("Playground at http://localhost:%d/", flags.rest_api_port)


def _announce_grpc(flags: Flags) -> None:
    if flags.port:
        _log.info("Running gRPC ModelServer at %s:%d ...", GRPC_HOST, flags.port)
    if flags.grpc_socket_path:
        _log.info("Running gRPC ModelServer at UNIX socket %s ...", flags.grpc_socket_path)


async def _watch_configuration(core: ServerCore, flags: Flags) -> None:
    """Read `--model_config_file` periodically; a file that is refused changes nothing."""
    if not flags.model_config_file or flags.model_config_file_poll_wait_seconds <= 0:
        return
    complaint = ""
    while True:
        await asyncio.sleep(flags.model_config_file_poll_wait_seconds)
        try:
            await asyncio.to_thread(_reload_from_file, core, flags)
            complaint = ""
        except ServingError as error:
            if str(error) != complaint:
                complaint = str(error)
                _log.error("The configuration in %s is refused: %s", flags.model_config_file, complaint)
        except Exception:  # no failure to read the file may end the watch
            _log.exception("The configuration in %s could not be looked at.", flags.model_config_file)


def _reload_from_file(core: ServerCore, flags: Flags) -> None:
    # While it waited for a model that never loads, the watch would miss the edit that removes that model.
    core.reload(model_config.read_config(flags.model_config_file), wait=False)
