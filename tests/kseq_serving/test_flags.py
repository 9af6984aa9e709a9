import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kseq_serving import flags
from kseq_serving import main as main_module
from kseq_serving.errors import InvalidArgumentError
from kseq_serving.main import main

SOCKET = "--grpc_socket_path=/tmp/kseq-not-used"


def test_defaults_are_tensorflow_model_servers():
    defaults, unknown = flags.parse([])
    assert unknown == []
    assert (defaults.port, defaults.rest_api_port, defaults.model_name) == (8500, 0, "default")
    assert (defaults.file_system_poll_wait_seconds, defaults.max_num_load_retries) == (1, 5)
    assert (defaults.load_retry_interval_micros, defaults.rest_api_timeout_in_ms) == (60_000_000, 30_000)
    assert defaults.enable_model_warmup
    assert not defaults.xla_cpu_compilation_enabled


@pytest.mark.parametrize(
    ("text", "value"), [("", True), ("=true", True), ("=1", True), ("=TRUE", True), ("=FALSE", False), ("=0", False)]
)
def test_booleans(text: str, value: bool):
    assert flags.parse([f"--enable_batching{text}"])[0].enable_batching is value


def test_the_last_of_two_counts():
    assert flags.parse(["--port=1", "--port=2"])[0].port == 2


def test_a_value_may_hold_an_equals_sign():
    assert flags.parse(["--grpc_channel_arguments=a=1,b=2"])[0].grpc_channel_arguments == "a=1,b=2"


@pytest.mark.parametrize("argument", ["--no_such_flag=1", "stray", "port=1", "-port=1", "--port"])
def test_what_is_no_flag_is_handed_back(argument: str):
    assert flags.parse([argument, "--port=7"]) == (flags.Flags(port=7), [argument])


@pytest.mark.parametrize("argument", ["--port=abc", "--port=", "--enable_batching=maybe", "--port=1.5"])
def test_a_value_of_the_wrong_type_is_refused(argument: str):
    with pytest.raises(InvalidArgumentError, match=f"{argument.split('=')[0]}="):
        flags.parse([argument])


def test_flags_without_effect_are_named():
    assert flags.parse(["--prefer_tflite_model", "--port=1"])[0].without_effect() == ["prefer_tflite_model"]


def test_usage_lists_every_flag():
    text = flags.usage("kseq-serve")
    assert text.startswith("usage: kseq-serve\nFlags:\n\t--port=8500\t")
    assert "\t--enable_model_warmup=true\t" in text
    assert "\t--num_load_threads=0\tThreads that load versions. (accepted; has no effect yet)\n" in text


def test_batching_raises_the_default_number_of_threads_alone():
    default = flags.Flags().grpc_max_threads
    for name in ("grpc_max_threads", "rest_api_num_threads"):
        assert getattr(flags.parse([])[0], name) == default < 128
        assert getattr(flags.parse(["--enable_batching"])[0], name) == 128
        assert getattr(flags.parse(["--enable_batching=false"])[0], name) == default
        assert getattr(flags.parse([f"--{name}={default}", "--enable_batching"])[0], name) == default
        help_text = next(line for line in flags.usage("kseq-serve").splitlines() if line.startswith(f"\t--{name}="))
        assert "by default 128 with --enable_batching" in help_text
    assert flags.Flags().threads(0) == 1


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--rest_api_allowed_hosts=a"], ["rest_api_allowed_hosts"]),
        (["--rest_api_allowed_hosts=a", "--enable_playground"], []),
        (["--rest_api_allowed_hosts=a", "--rest_api_enable_cors_support"], []),
        (["--enable_per_model_batching_parameters"], ["enable_per_model_batching_parameters"]),
        (["--enable_per_model_batching_parameters", "--enable_batching"], []),
    ],
)
def test_a_flag_that_needs_another_one_is_named(arguments: list[str], names: list[str]):
    lines = flags.parse(arguments)[0].without_partner()
    assert [line.split(" has no effect without ")[0] for line in lines] == [f"--{name}" for name in names]


def test_a_flag_that_needs_another_one_is_said_once_at_the_start(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(main_module.ports, "check_free", refuse)
    arguments = ["--model_base_path=/models/m", "--enable_per_model_batching_parameters"]
    assert main(arguments) == flags.EXIT_FAILURE
    assert capsys.readouterr().err == (
        "Warning: --enable_per_model_batching_parameters has no effect without --enable_batching\n"
    )


def refuse(_flags: flags.Flags) -> None:
    raise InvalidArgumentError("ends the start here")


def test_alts_is_refused_before_anything_is_loaded(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "kseq_serving.server", None)  # an import of it, and of TensorFlow, would fail
    assert main(["--model_base_path=/models/m", "--use_alts_credentials", "--port=0", SOCKET]) == flags.EXIT_FAILURE
    assert capsys.readouterr() == (
        "Failed to start server. Error: UNIMPLEMENTED: ALTS credentials are not supported: gRPC's Python library has "
        "none for servers.\n",
        "",
    )
    (line,) = (line for line in flags.usage("kseq-serve").splitlines() if "--use_alts_credentials" in line)
    assert "refuses to start with it" in line
    assert "accepted" not in line


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ("--model_nam=m", "unknown argument: --model_nam=m; did you mean --model_name?"),
        ("--rest-api-port=1", "unknown argument: --rest-api-port=1; did you mean --rest_api_port?"),
        ("-port=1", "unknown argument: -port=1; did you mean --port?"),
        ("--port", "unknown argument: --port needs its value after an equals sign (--port=VALUE)"),
        ("--port=x", '--port="x" is not a value of type int'),
    ],
)
def test_a_typo_is_answered_in_one_line(capsys: pytest.CaptureFixture, argument: str, answer: str):
    assert main(["--model_base_path=/models/m", argument]) == flags.EXIT_FAILURE
    assert capsys.readouterr() == ("", f"{answer} (--help lists all flags)\n")


def test_a_value_after_a_space_is_one_mistake(capsys: pytest.CaptureFixture):
    assert main(["--model_base_path", "/models/m"]) == flags.EXIT_FAILURE
    assert capsys.readouterr().err.splitlines() == [
        "unknown argument: --model_base_path needs its value after an equals sign (--model_base_path=VALUE) "
        "(--help lists all flags)"
    ]


def test_a_flag_of_another_server_is_ignored_as_there(capsys: pytest.CaptureFixture):
    assert main(["--no_such_flag=1", "--port=0"]) == flags.EXIT_FAILURE
    printed = capsys.readouterr()
    assert printed.err == "unknown argument: --no_such_flag=1 is ignored (--help lists all flags)\n"
    assert printed.out.startswith("Failed to start server. Error: INVALID_ARGUMENT: At least one of ")


@pytest.mark.parametrize("argument", ["--help", "-h"])
def test_help_lists_the_flags(capsys: pytest.CaptureFixture, argument: str):
    assert main(["--port=1", argument]) == flags.EXIT_FAILURE
    assert capsys.readouterr().out == flags.usage("kseq-serve")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port=0", "--rest_api_port=8501"], "REST alone is not served."),
        (["--port=-1"], "--port=-1 is no TCP port: the ports are 1 to 65535."),
        (["--rest_api_port=70000"], "--rest_api_port=70000 is no TCP port: the ports are 1 to 65535."),
        (["--port=8501", "--rest_api_port=8501"], "are one port, but gRPC and REST need two."),
        (["--num_processes=0"], "--num_processes=0 must be at least 1."),
        (["--num_processes=2", "--grpc_socket_path=/tmp/s"], "leave one of the flags out."),
        (["--enable_playground"], "set --rest_api_port too."),
        (["--use_alts_credentials", "--ssl_config_file=f"], "or ssl_config_file must be empty."),
        (["--model_base_path="], "server_options.model_config_file are empty!"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(capsys: pytest.CaptureFixture, arguments: list[str], reason: str):
    assert main(["--model_base_path=/models/m", *arguments]) == flags.EXIT_FAILURE
    printed = capsys.readouterr()
    assert printed.out.startswith("Failed to start server. Error: INVALID_ARGUMENT: ")
    assert printed.out.endswith(f"{reason}\n")
    assert printed.err == ""


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("flag", "start"), [("port", "gRPC cannot listen at 0.0.0.0"), ("rest_api_port", "REST cannot listen at localhost")]
)
def test_a_port_in_use_is_said_before_anything_is_loaded(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, taken: int, flag: str, start: str
):
    monkeypatch.setitem(sys.modules, "kseq_serving.server", None)  # an import of it, and of TensorFlow, would fail
    other = {"port": 0, "rest_api_port": 0} | {flag: taken}
    arguments = [f"--{name}={port}" for name, port in other.items()]
    socket_path = [SOCKET] if flag == "rest_api_port" else []
    assert main(["--model_base_path=/models/m", *arguments, *socket_path]) == flags.EXIT_FAILURE
    assert capsys.readouterr() == (
        f"Failed to start server. Error: UNAVAILABLE: {start}:{taken}: Address already in use\n",
        "",
    )


def test_a_socket_that_cannot_be_used_is_said(capsys: pytest.CaptureFixture, tmp_path: Path):
    file = tmp_path / "file"
    file.touch()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "taken"))
        other.listen()
        for path, reason in [
            (tmp_path / "taken", "Address already in use"),
            (tmp_path / "no" / "folder", "there is no such folder"),
            (file, "it is another file"),
        ]:
            assert main(["--model_base_path=/m", "--port=0", f"--grpc_socket_path={path}"]) == flags.EXIT_FAILURE
            assert capsys.readouterr().out.endswith(f"gRPC cannot listen at unix:{path}: {reason}\n")
