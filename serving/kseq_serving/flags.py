"""Command-line flags, with the names, defaults and syntax of tensorflow_model_server's."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Sequence
from typing import Any

from kseq_serving.errors import InvalidArgumentError, UnimplementedError

EXIT_FAILURE = 255  # tensorflow_model_server exits with -1
FAILED = "Failed to start server. Error:"

HELP = frozenset(("--help", "-help", "-h"))

_THREADS = 4 * len(os.sched_getaffinity(0))
_THREADS_WITH_BATCHING = 128
_MAX_PORT = 65535
_LIKENESS = 0.8  # of a mistyped flag to the flag that was meant, from 0 to 1


def _flag(default: bool | int | float | str, text: str, *, supported: bool = True) -> Any:
    return dataclasses.field(default=default, metadata={"help": text, "supported": supported})


@dataclasses.dataclass(frozen=True)
class Flags:
    """Options of the server; each field is the flag of the same name.

    A flag with `supported=False` in its metadata is accepted, so that existing start scripts work, but only logs a
    warning that it has no effect.
    """

    port: int = _flag(8500, "TCP port of the gRPC API; 0 switches it off, if there is a --grpc_socket_path.")
    grpc_socket_path: str = _flag("", "Path of a UNIX socket for the gRPC API.")
    rest_api_port: int = _flag(0, "TCP port of the REST API on localhost; 0 switches it off.")
    rest_api_num_threads: int = _flag(
        _THREADS, f"Threads that answer REST requests; by default {_THREADS_WITH_BATCHING} with --enable_batching."
    )
    rest_api_timeout_in_ms: int = _flag(30000, "Longest run of a model for one REST request, in milliseconds.")
    rest_api_enable_cors_support: bool = _flag(False, "Send CORS headers with every REST answer.")
    rest_api_allowed_hosts: str = _flag(
        "",
        "Comma-separated host names, besides those of this machine's loopback, that the REST API answers to while "
        "--enable_playground or --rest_api_enable_cors_support is on.",
    )
    enable_batching: bool = _flag(False, "Run several requests as one batch.")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "Let a new label point at a version that is not available yet."
    )
    batching_parameters_file: str = _flag("", "Text file of BatchingParameters.")
    enable_per_model_batching_parameters: bool = _flag(
        False, "Read batching_params.pbtxt from the model's folder, with --enable_batching."
    )
    model_config_file: str = _flag("", "Text file of a ModelServerConfig; overrides --model_name.")
    model_config_file_poll_wait_seconds: int = _flag(
        0, "Seconds between two reads of --model_config_file; 0 reads it once."
    )
    model_name: str = _flag("default", "Name of the one model at --model_base_path.")
    model_base_path: str = _flag("", "Path of the folder that holds the model's version folders.")
    num_load_threads: int = _flag(0, "Threads that load versions.", supported=False)
    num_unload_threads: int = _flag(0, "Threads that unload versions.", supported=False)
    max_num_load_retries: int = _flag(5, "Number of times that a failed load is tried again.")
    load_retry_interval_micros: int = _flag(60_000_000, "Microseconds between two tries to load a version.")
    file_system_poll_wait_seconds: int = _flag(
        1, "Seconds between two polls for new version folders; 0 polls once, a negative number never."
    )
    flush_filesystem_caches: bool = _flag(True, "Drop file caches after loading.", supported=False)
    tensorflow_session_parallelism: int = _flag(0, "Threads inside and between ops; 0 lets TensorFlow choose.")
    tensorflow_session_config_file: str = _flag("", "Text file of a TensorFlow ConfigProto.")
    tensorflow_intra_op_parallelism: int = _flag(0, "Threads inside an op.")
    tensorflow_inter_op_parallelism: int = _flag(0, "Threads between ops.")
    use_alts_credentials: bool = _flag(False, "Google ALTS for gRPC; this server refuses to start with it.")
    ssl_config_file: str = _flag("", "Text file of an SSLConfig for gRPC.")
    platform_config_file: str = _flag("", "Text file of a PlatformConfigMap.", supported=False)
    per_process_gpu_memory_fraction: float = _flag(0.0, "Fraction of the GPU's memory to allocate at the start.")
    saved_model_tags: str = _flag("serve", "Comma-separated tags of the graph to load.")
    grpc_channel_arguments: str = _flag("", "Comma-separated key=value arguments of the gRPC server.")
    grpc_max_threads: int = _flag(
        _THREADS, f"Threads that answer gRPC requests; by default {_THREADS_WITH_BATCHING} with --enable_batching."
    )
    enable_model_warmup: bool = _flag(True, "Replay the model's warm-up records before it is available.")
    num_request_iterations_for_warmup: int = _flag(
        0, "Number of times that each warm-up record is replayed; 0 means once."
    )
    version: bool = _flag(False, "Print the version and exit.")
    monitoring_config_file: str = _flag("", "Text file of a MonitoringConfig.")
    remove_unused_fields_from_bundle_metagraph: bool = _flag(True, "Accepted; this server has nothing to choose.")
    prefer_tflite_model: bool = _flag(False, "Load model.tflite instead.", supported=False)
    num_tflite_pools: int = _flag(0, "Pools of TensorFlow Lite interpreters.", supported=False)
    num_tflite_interpreters_per_pool: int = _flag(1, "Interpreters in a pool.", supported=False)
    enable_signature_method_name_check: bool = _flag(False, "Refuse signatures of other methods.")
    xla_cpu_compilation_enabled: bool = _flag(False, "Let models use XLA on the CPU.")
    xla_gpu_compilation_enabled: bool = _flag(False, "Let models use XLA on the CPU and the GPU.")
    enable_profiler: bool = _flag(True, "Serve TensorFlow's profiler.", supported=False)
    thread_pool_factory_config_file: str = _flag("", "Text file of a ThreadPoolConfig.", supported=False)
    mixed_precision: str = _flag("", "Rewrite models to this precision.", supported=False)
    skip_initialize_tpu: bool = _flag(False, "Do not initialise TPUs.", supported=False)
    enable_grpc_healthcheck_service: bool = _flag(False, "Serve grpc.health.v1.Health.")
    enable_serialization_as_tensor_content: bool = _flag(
        False, "Answer gRPC Predict with tensor_content instead of typed values."
    )
    num_processes: int = _flag(
        1, "Processes that share the ports, each with its own copy of the models, to answer with more than one core."
    )
    enable_playground: bool = _flag(False, "Serve a page to try the models in a browser, at / of the REST port.")

    def threads(self, asked: int) -> int:
        """Return the number of threads that answer the requests of a protocol, at least 1.

        Args:
            asked: Value of the protocol's flag.
        """
        return max(1, asked)

    def without_effect(self) -> list[str]:
        """Return the names of the flags that were set but are not supported."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if not field.metadata["supported"] and getattr(self, field.name) != field.default
        ]

    def without_partner(self) -> list[str]:
        """Return one line for each flag that was set but has no effect without another one."""
        lines = []
        if self.rest_api_allowed_hosts and not (self.enable_playground or self.rest_api_enable_cors_support):
            lines.append(
                "--rest_api_allowed_hosts has no effect without --enable_playground or --rest_api_enable_cors_support"
            )
        if self.enable_per_model_batching_parameters and not self.enable_batching:
            lines.append("--enable_per_model_batching_parameters has no effect without --enable_batching")
        return lines


def parse(arguments: Sequence[str]) -> tuple[Flags, list[str]]:
    """Parse `--name=value` arguments; the last of equal flags counts.

    A request keeps its thread while it waits for its batch, so batches cannot be larger than the number of threads.
    With batching, the default number of threads is therefore raised.

    Args:
        arguments: Command line without the program's name.

    Returns:
        The flags, and the arguments that are not flags of this server.

    Raises:
        InvalidArgumentError: If a flag's value does not fit its type.
    """
    types = {field.name: type(field.default) for field in dataclasses.fields(Flags)}
    values: dict[str, Any] = {}
    unknown: list[str] = []
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in types or (not equals and types[name] is not bool):
            unknown.append(argument)
        else:
            values[name] = _value(name, types[name], text if equals else "true")
    if values.get("enable_batching"):
        values = {"grpc_max_threads": _THREADS_WITH_BATCHING, "rest_api_num_threads": _THREADS_WITH_BATCHING, **values}
    return Flags(**values), unknown


def nearest(argument: str) -> str | None:
    """Return the flag that an unknown argument was probably meant to be; None if no flag is like it."""
    name = argument.partition("=")[0].lstrip("-").lower().replace("-", "_")
    names = [field.name for field in dataclasses.fields(Flags)]
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=_LIKENESS)), None)


def complaint(argument: str) -> str:
    """Return one line about an argument that is no flag, with the flag that was probably meant."""
    flag = nearest(argument)
    if flag is None:
        return f"unknown argument: {argument} is ignored"
    name, equals, _ = argument.partition("=")
    if name == f"--{flag}" and not equals:
        return f"unknown argument: {argument} needs its value after an equals sign (--{flag}=VALUE)"
    return f"unknown argument: {argument}; did you mean --{flag}?"


def _value(name: str, kind: type, text: str) -> bool | int | float | str:
    if kind is bool:
        if text.lower() in ("true", "1"):
            return True
        if text.lower() in ("false", "0"):
            return False
    elif kind is str:
        return text
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    raise InvalidArgumentError(f'--{name}="{text}" is not a value of type {kind.__name__}')


def check(flags: Flags) -> None:
    """Refuse flags that contradict each other, without reading the files that they name.

    Raises:
        InvalidArgumentError: If two flags contradict each other, or a required one is missing.
        UnimplementedError: If a flag asks for encryption that the server does not have.
    """
    if not flags.port and not flags.grpc_socket_path:
        raise InvalidArgumentError(
            "At least one of server_options.grpc_port or server_options.grpc_socket_path must be set. Their flags are "
            "--port and --grpc_socket_path; REST alone is not served."
        )
    for name in ("port", "rest_api_port"):
        if not 0 <= getattr(flags, name) <= _MAX_PORT:
            raise InvalidArgumentError(
                f"--{name}={getattr(flags, name)} is no TCP port: the ports are 1 to {_MAX_PORT}."
            )
    if flags.port and flags.port == flags.rest_api_port:
        raise InvalidArgumentError(
            f"--port={flags.port} and --rest_api_port={flags.rest_api_port} are one port, but gRPC and REST need two."
        )
    if flags.use_alts_credentials and flags.ssl_config_file:
        raise InvalidArgumentError("Either use_alts_credentials must be false or ssl_config_file must be empty.")
    if flags.use_alts_credentials:
        # Never serve without encryption if it was asked for.
        raise UnimplementedError("ALTS credentials are not supported: gRPC's Python library has none for servers.")
    if flags.num_processes < 1:
        raise InvalidArgumentError(f"--num_processes={flags.num_processes} must be at least 1.")
    if flags.num_processes > 1 and flags.grpc_socket_path:
        raise InvalidArgumentError(
            f"--num_processes={flags.num_processes} processes can share TCP ports, but not the UNIX socket of "
            "--grpc_socket_path: leave one of the flags out."
        )
    if flags.enable_playground and not flags.rest_api_port:
        raise InvalidArgumentError("--enable_playground serves a page at the REST port: set --rest_api_port too.")
    if not flags.model_base_path and not flags.model_config_file:
        raise InvalidArgumentError(
            "Both server_options.model_base_path and server_options.model_config_file are empty!"
        )


def usage(program: str) -> str:
    """Return the help text, one line per flag."""
    lines = [f"usage: {program}", "Flags:"]
    for field in dataclasses.fields(Flags):
        default = str(field.default).lower() if isinstance(field.default, bool) else repr(field.default)
        note = "" if field.metadata["supported"] else " (accepted; has no effect yet)"
        lines.append(f"\t--{field.name}={default}\t{field.metadata['help']}{note}")
    return "\n".join(lines) + "\n"
