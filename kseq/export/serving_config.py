"""Server configurations beside a model's versions, and a script that starts a server with them."""

import hashlib
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

CONTAINER_FOLDER = "/models"  # the model folder of TensorFlow Serving's image
METRICS_PATH = "/monitoring/prometheus/metrics"  # TensorFlow Serving's default
THREADS = 128  # for requests of each protocol that run or wait for a batch
WAITING_ROWS = 1024  # with more waiting rows, a server with batching refuses requests with UNAVAILABLE

BATCHING_FILE = "batching.config"

_PORTS = ("--port=8500", "--rest_api_port=8501")  # the ports that the image exposes
_NAME = re.compile(r"[\w.-]+")

_MODELS = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "{container}"  # the path of this folder in the container
    model_platform: "tensorflow"
  }}
}}
"""

_MONITORING = f"""\
prometheus_config {{
  enable: true
  path: "{METRICS_PATH}"
}}
"""

_BATCHING = """\
# A request of more than {largest} rows is refused. Without allowed_batch_sizes, a server fills up no batch: the graph
# of serving_xla does so itself, to one of its sizes ({sizes}), and serving_default runs any number of rows.
max_batch_size {{ value: {largest} }}
# Requests do not wait for others: batches form while earlier ones run.
batch_timeout_micros {{ value: 0 }}
# At most {waiting} rows wait; further requests are refused with UNAVAILABLE. A request keeps a thread while it waits,
# so no more of them wait than --grpc_max_threads and --rest_api_num_threads; tensorflow_model_server refuses further
# gRPC calls with RESOURCE_EXHAUSTED.
max_enqueued_batches {{ value: {batches} }}
{padding}
# num_batch_threads is by default the number of the machine's cores; for a container with fewer, set it here.
"""

_PADDED = """\
# Requests of different lengths share a batch; the model ignores the padding, which is beyond `lengths`.
pad_variable_length_inputs: true"""
_NOT_PADDED = """\
# Texts need no padding.
pad_variable_length_inputs: false"""

_SCRIPT = """\
# Starts kseq-serve with this model:
#   sh serve.sh [more flags; if a flag is repeated, the last one counts]
# Starts TensorFlow Serving instead:
#   SERVER=tensorflow_model_server sh serve.sh
# Enables the signature serving_xla:
#   sh serve.sh --xla_cpu_compilation_enabled=true
# The flags for a container with this folder at {container}:
{in_container}
{note}here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd) || exit
exec "${{SERVER:-kseq-serve}}" \\
  {here} "$@"
"""

_NOT_BATCHED = "# Requests are not batched: {reason}.\n"


def model_name(base: pathlib.Path) -> str:
    """Return the name under which clients request a model in the folder `base`.

    Raises:
        ValueError: If the folder's name has characters that URLs or configurations cannot contain.
    """
    name = os.path.basename(os.path.abspath(base))
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r}, the folder's name, is the name under which clients request the model, so it may only have "
            "letters, digits, '_', '-' and '.'. Export to another folder, or with serving_config=False."
        )
    return name


def serving_files(name: str, batch_sizes: Sequence[int], *, lengths: bool, one_step: bool) -> dict[str, str]:
    """Return the contents of the files beside a model's versions, by file name.

    Args:
        name: The model's name.
        batch_sizes: Increasing sizes of batches.
        lengths: Whether requests contain padded sequences and their lengths.
        one_step: Whether the model has the signature `serving_step`, whose requests contain decoding states.
    """
    reason = _why_not_batched(batch_sizes, one_step)
    container = f"{CONTAINER_FOLDER}/{name}"
    in_container = [f"--model_config_file={container}/models.config", *_flags(container, batched=not reason)]
    here = [f"--model_name={name}", '--model_base_path="$here"', *_flags('"$here"', batched=not reason)]
    script = _SCRIPT.format(
        container=container,
        in_container="\n".join(f"#   {flag}" for flag in [*_PORTS, *in_container]),
        note=reason and _NOT_BATCHED.format(reason=reason),
        here=" \\\n  ".join([*_PORTS, *here]),
    )
    models = _MODELS.format(name=name, container=container)
    written = {"models.config": models, "monitoring.config": _MONITORING, "serve.sh": script}
    return written if reason else {**written, BATCHING_FILE: _batching(batch_sizes, lengths=lengths)}


def write_serving_files(base: pathlib.Path, files: Mapping[str, str], scratch: pathlib.Path) -> None:
    """Write files into the folder `base`, each by an atomic rename, but keep files that somebody has edited.

    The first line of each file is a checksum of the other lines, so an edit is noticed. If `files` has no batching
    parameters, those of an earlier export are deleted, so that no server can be started with them.

    Args:
        base: The model's folder, where servers only look at folders whose name is a number.
        files: Contents by file name.
        scratch: A folder on the same file system.
    """
    for name, text in files.items():
        if not _edited(base / name):
            (scratch / name).write_bytes(_signed(text.encode()))
            (scratch / name).replace(base / name)
    if BATCHING_FILE not in files and not _edited(base / BATCHING_FILE):
        (base / BATCHING_FILE).unlink(missing_ok=True)


def _why_not_batched(batch_sizes: Sequence[int], one_step: bool) -> str:
    if one_step:
        return "the states in requests to serving_step must not be padded"
    return "the largest batch size is 1" if batch_sizes[-1] == 1 else ""


def _flags(folder: str, *, batched: bool) -> list[str]:
    batching = [
        "--enable_batching=true",
        f"--batching_parameters_file={folder}/{BATCHING_FILE}",
        # A request keeps its thread while it waits for its batch. Above its number of threads, by default four for each
        # core, tensorflow_model_server refuses gRPC calls with RESOURCE_EXHAUSTED.
        f"--grpc_max_threads={THREADS}",
        f"--rest_api_num_threads={THREADS}",
    ]
    return [*(batching if batched else ()), f"--monitoring_config_file={folder}/monitoring.config"]


def _batching(batch_sizes: Sequence[int], *, lengths: bool) -> str:
    largest = batch_sizes[-1]
    batches = max(1, WAITING_ROWS // largest)
    return _BATCHING.format(
        largest=largest,
        sizes=", ".join(map(str, batch_sizes)),
        waiting=batches * largest,
        batches=batches,
        padding=_PADDED if lengths else _NOT_PADDED,
    )


def _signed(text: bytes) -> bytes:
    checksum = hashlib.sha256(text).hexdigest()[:12]
    return f"# Written by kseq ({checksum}), and again by each export, until it is edited.\n".encode() + text


def _edited(path: pathlib.Path) -> bool:
    if not path.is_file():
        return path.exists()
    text = path.read_bytes()
    return text != _signed(text.partition(b"\n")[2])
