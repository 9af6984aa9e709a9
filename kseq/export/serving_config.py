"""What servers are started with, beside a model's versions: configurations, and a script that says the flags."""

import hashlib
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

CONTAINER_FOLDER = "/models"  # where TensorFlow Serving's image looks for models
METRICS_PATH = "/monitoring/prometheus/metrics"  # TensorFlow Serving's default
WAITING_ROWS = 1024  # beyond that a server with batching refuses requests with UNAVAILABLE

BATCHING_FILE = "batching.config"

_PORTS = ("--port=8500", "--rest_api_port=8501")  # those that the image exposes
_NAME = re.compile(r"[\w.-]+")

_MODELS = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "{container}"  # where the server finds this folder: the place it has in a container
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
# The sizes are those that serving_xla is compiled for. A batch is filled up to the next one: where only serving_default
# is asked, leave allowed_batch_sizes out. A request of more than {largest} rows is refused.
max_batch_size {{ value: {largest} }}
{allowed}
# Nobody waits for company: batches form while others run.
batch_timeout_micros {{ value: 0 }}
# At most {waiting} rows wait; who comes then gets UNAVAILABLE.
max_enqueued_batches {{ value: {batches} }}
{padding}
# num_batch_threads is by default the number of cores; in a container with fewer, give that number here.
"""

_PADDED = """\
# Requests of unlike lengths share a batch: what is filled up stands beyond `lengths`, where the model does not look.
pad_variable_length_inputs: true"""
_NOT_PADDED = """\
# Texts have no length to pad.
pad_variable_length_inputs: false"""

_SCRIPT = """\
# Starts kseq-serve with this model:
#   sh serve.sh [more flags; of a flag given twice the last one counts]
# TensorFlow Serving in its place:
#   SERVER=tensorflow_model_server sh serve.sh
# To answer with the signature serving_xla too:
#   sh serve.sh --xla_cpu_compilation_enabled=true
# The flags in a container that has this folder at {container}:
{in_container}
{note}here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd) || exit
exec "${{SERVER:-kseq-serve}}" \\
  {here} "$@"
"""

_NOT_BATCHED = "# Requests are not batched: {reason}.\n"


def model_name(base: pathlib.Path) -> str:
    """Return the name that a model in the folder `base` is asked by.

    Raises:
        ValueError: If URLs or configurations cannot hold the folder's name as it is.
    """
    name = os.path.basename(os.path.abspath(base))
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r}, the folder's name, is what clients ask for the model by: it must be letters, digits, '_', '-' "
            "and '.' only. Export to another folder, or with serving_config=False."
        )
    return name


def serving_files(name: str, batch_sizes: Sequence[int], *, lengths: bool, one_step: bool) -> dict[str, str]:
    """Return what is written beside the versions of a model: the files' texts by their names.

    Args:
        name: The model's name.
        batch_sizes: Increasing sizes of batches.
        lengths: Whether requests hold sequences of unlike lengths, and say them.
        one_step: Whether requests may hold states of decoding.
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
    files = {"models.config": models, "monitoring.config": _MONITORING, "serve.sh": script}
    return files if reason else {**files, BATCHING_FILE: _batching(batch_sizes, lengths=lengths)}


def write_serving_files(base: pathlib.Path, files: Mapping[str, str], scratch: pathlib.Path) -> None:
    """Put files into the folder `base`, each at once, but leave those alone that somebody has edited.

    The first line of each says the checksum of the others: who edits a file need not know of it. Parameters of batching
    that an earlier export has written go where there are none now: a server that names them must not start.

    Args:
        base: The model's folder. Servers look there for folders whose name is a number, and at nothing else.
        files: Texts by name.
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
        return "the states that serving_step takes must not be padded"
    return "the largest batch size is 1" if batch_sizes[-1] == 1 else ""


def _flags(folder: str, *, batched: bool) -> list[str]:
    batching = ["--enable_batching=true", f"--batching_parameters_file={folder}/{BATCHING_FILE}"] if batched else []
    return [*batching, f"--monitoring_config_file={folder}/monitoring.config"]


def _batching(batch_sizes: Sequence[int], *, lengths: bool) -> str:
    largest = batch_sizes[-1]
    batches = max(1, WAITING_ROWS // largest)
    return _BATCHING.format(
        largest=largest,
        allowed="\n".join(f"allowed_batch_sizes: {size}" for size in batch_sizes),
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
