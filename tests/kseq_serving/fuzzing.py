"""Inputs that hypothesis makes, nearly right ones among them, and a run over many of them with bounded memory."""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from kseq_serving.protocol import protos

CHUNK = 1000  # hypothesis remembers the inputs of one run, so a long one is made of many
SIGNATURES = ["", "serving_default", "upper", "pair", "divide", "echo", "nope", "é\0"]
MODELS = ["toy", "", "t\u00f6y", "toy/versions/1", "../toy"]


def run(strategy: st.SearchStrategy[Any], check: Callable[[Any], None], inputs: int) -> None:
    """Call `check` with `inputs` values of a strategy; which ones, depends on nothing but the chunk's number."""
    for chunk in range(math.ceil(inputs / CHUNK)):
        each = given(strategy)(check)
        options = settings(
            max_examples=min(CHUNK, inputs - CHUNK * chunk),
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        seed(chunk)(options(each))()


class Complaints(logging.Handler):
    """Log records of failures, which no input may cause; loading of models may log errors before."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record.getMessage())


def resident_mib(pid: int | str = "self") -> tuple[float, float]:
    """Return the resident memory of a process now and at its peak, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(sizes["VmRSS"]) / 1024, int(sizes["VmHWM"]) / 1024


def returned_to_the_system() -> tuple[float, float]:
    """Return the resident memory in MiB, before and after the allocator gives back what is free.

    The difference was kept by the allocator; what grows afterwards is in use.
    """
    gc.collect()
    before = resident_mib()[0]
    ctypes.CDLL(None).malloc_trim(0)
    return before, resident_mib()[0]


@st.composite
def damaged(draw: st.DrawFn, strategy: st.SearchStrategy[bytes]) -> bytes:
    """Return bytes of a strategy, of which half are cut, or have a few others put into them."""
    data = draw(strategy)
    if draw(st.booleans()):
        return data
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.binary(max_size=6)) + data[place + draw(st.integers(0, 8)) :]
    return data


# JSON bodies

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(),
    st.sampled_from([2**31, -(2**63), 2**64, 10**400]),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["\ud800", "\0", "NaN", "1e5"]),
    st.builds(lambda text: {"b64": text}, st.one_of(st.just("YWJj"), st.text(max_size=5), st.integers(0, 3))),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["a", "b", "x", "text", "b64", ""]), inner, max_size=3),
    ),
    max_leaves=8,
)
ROWS = st.one_of(
    VALUES,
    st.lists(st.floats(width=32), max_size=4),
    st.lists(st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.integers(0, 9)}), min_size=1, max_size=3),
    st.lists(st.text(max_size=4), max_size=3),
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "instances": ROWS,
        "inputs": st.one_of(ROWS, st.fixed_dictionaries({"a": ROWS, "b": ROWS})),
        "signature_name": st.one_of(st.sampled_from(SIGNATURES), VALUES),
        "examples": ROWS,
        "context": VALUES,
        "page": VALUES,
    },
)


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


JSON_BODIES = damaged(st.builds(as_json, st.one_of(BODIES, BODIES, VALUES)))

# gRPC messages

DIMS = st.one_of(st.integers(0, 3), st.sampled_from([-1, -2, 2**31, 2**40, 2**62, 2**63 - 1]))


@st.composite
def tensors(draw: st.DrawFn) -> protos.TensorProto:
    """Return a tensor whose dtype, shape and values may contradict each other."""
    tensor = protos.TensorProto(dtype=draw(st.one_of(st.sampled_from([1, 3, 7, 9]), st.integers(-1, 130))))
    for size in draw(st.lists(DIMS, max_size=draw(st.sampled_from([1, 2, 70])))):
        tensor.tensor_shape.dim.add(size=size)
    if draw(st.integers(0, 9)) == 0:
        tensor.tensor_shape.unknown_rank = True
    values = st.integers(-3, 3)
    tensor.float_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
    for name in ("int_val", "int64_val", "double_val", "half_val", "uint32_val", "uint64_val", "scomplex_val"):
        if draw(st.integers(0, 5)) == 0:
            numbers = draw(st.lists(values if "u" not in name else st.integers(0, 3), max_size=3))
            getattr(tensor, name).extend(numbers)
    tensor.bool_val.extend(draw(st.lists(st.booleans(), max_size=1)))
    tensor.string_val.extend(draw(st.lists(st.binary(max_size=4), max_size=3)))
    if draw(st.integers(0, 3)) == 0:
        tensor.tensor_content = draw(st.binary(max_size=24))
    return tensor


@st.composite
def specs(draw: st.DrawFn) -> protos.ModelSpec:
    spec = protos.ModelSpec(name=draw(st.sampled_from(MODELS[:1] * 6 + MODELS)))
    spec.signature_name = draw(st.sampled_from(SIGNATURES))
    if draw(st.integers(0, 5)) == 0:
        spec.version.value = draw(st.sampled_from([0, 1, -1, 2**62]))
    elif draw(st.integers(0, 5)) == 0:
        spec.version_label = draw(st.text(max_size=3))
    return spec


@st.composite
def predict_messages(draw: st.DrawFn) -> bytes:
    request = protos.PredictRequest()
    if draw(st.integers(0, 9)):
        request.model_spec.CopyFrom(draw(specs()))
    for name in draw(st.lists(st.sampled_from(["x", "text", "a", "b", ""]), max_size=2)):
        request.inputs[name].CopyFrom(draw(tensors()))
    if draw(st.integers(0, 5)) == 0:
        request.output_filter.extend(draw(st.lists(st.sampled_from(["y", "sum", "upper", "no"]), max_size=3)))
    return request.SerializeToString()


@st.composite
def examples(draw: st.DrawFn) -> protos.Input:
    made = protos.Input()
    listed = made.example_list if draw(st.booleans()) else made.example_list_with_context
    for _ in range(draw(st.integers(0, 3))):
        features = listed.examples.add().features
        for name in draw(st.lists(st.sampled_from(["x", "y"]), max_size=2)):
            features.feature[name].float_list.value.extend(draw(st.lists(st.floats(width=32), max_size=2)))
    return made


@st.composite
def example_messages(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(["ClassificationRequest", "RegressionRequest", "MultiInferenceRequest"]))
    request = getattr(protos, kind)()
    request.input.CopyFrom(draw(examples()))
    if kind != "MultiInferenceRequest":
        request.model_spec.CopyFrom(draw(specs()))
        return request.SerializeToString()
    for _ in range(draw(st.integers(0, 2))):
        method = draw(st.sampled_from(["tensorflow/serving/regress", "tensorflow/serving/classify", "", "no"]))
        request.tasks.add(model_spec=draw(specs()), method_name=method)
    return request.SerializeToString()


@st.composite
def metadata_messages(draw: st.DrawFn) -> bytes:
    fields = draw(st.lists(st.sampled_from(["signature_def", "", "no"]), max_size=2))
    return protos.GetModelMetadataRequest(model_spec=draw(specs()), metadata_field=fields).SerializeToString()


MESSAGES = damaged(
    st.one_of(predict_messages(), predict_messages(), example_messages(), metadata_messages(), st.binary(max_size=40))
)

# Configuration files

NAMES = """
model_config_list config name base_path model_platform model_type version_labels key value model_version_policy
specific versions latest num_versions all logging_config max_batch_size batch_timeout_micros allowed_batch_sizes
num_batch_threads pad_variable_length_inputs enable_large_batch_splitting max_execution_batch_size
max_enqueued_batches prometheus_config enable path server_key client_verify gpu_options
intra_op_parallelism_threads TENSORFLOW
"""
WORDS = [
    *NAMES.split(),
    *("{", "}", "{", "}", ":", "[", "]", ",", ";", "<", ">", "#", "\n", "'", '"', "\\", "\0", "\ufeff", "inf", "nan"),
    *("true", "false", "1", "-1", "0", "4", "99999999999999999999", "1e400", "0x1F", '"m"', '"/m"', "'tensorflow'"),
]
MODEL_TEXT = st.builds(
    lambda name, path, platform, more: f"config {{ name: {name} base_path: {path} {platform} {more} }}",
    st.sampled_from(['"m"', '"n"', '""', "7"]),
    st.sampled_from(['"/m"', '"m"', '"\\377"', "1"]),
    st.sampled_from(['model_platform: "tensorflow"', "model_type: TENSORFLOW", 'model_platform: "x"', ""]),
    st.sampled_from(
        ["", "version_labels { key: 'a' value: 1 }", "logging_config {}", "model_version_policy { all {} }"]
    ),
)
CONFIG_FILES = damaged(
    st.one_of(
        st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join),
        st.lists(MODEL_TEXT, max_size=3).map(lambda models: f"model_config_list {{ {' '.join(models)} }}"),
        st.builds(
            "max_batch_size {{ value: {} }} batch_timeout_micros {{ value: {} }} allowed_batch_sizes: {}".format,
            st.integers(-1, 9),
            st.integers(-1, 9),
            st.integers(-1, 9),
        ),
        st.text(max_size=30),
    ).map(lambda text: text.encode("utf-8", "surrogatepass"))
)

# Bytes of HTTP

LINES = st.sampled_from(["\r\n"] * 12 + ["\n", "\r", "", "\r\n\r\n", "\r\n ", "\0"])
TARGETS = st.one_of(
    st.sampled_from(
        ["/v1/models/toy:predict", "/v1/models/toy", "/v1/models/toy/metadata", "/", "*", "http://x/v1/models/toy", ""]
    ),
    st.text(st.characters(max_codepoint=255), max_size=12),
)
HEADERS = st.sampled_from(
    [
        "Host: x",
        "Connection: close",
        "Connection: keep-alive",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Content-Encoding: gzip",
        "Content-Length: 21",
        "Content-Length: 5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 99999999999999999999",
        "Content-Length : 21",
        "Expect: 100-continue",
        "Upgrade: h2c",
        "Upgrade: websocket",
        "Origin: null",
        "X: " + "y" * 5000,
        "\u00e9: \u00ff",
        ": x",
        "x",
    ]
)
BODY = '{"instances": [1.0]}\n'  # 21 bytes
CONTENT = st.sampled_from([BODY, f"15\r\n{BODY}\r\n0\r\n\r\n", "5\r\nab", "zz\r\n", "", "GET / HTTP/1.1"])


@st.composite
def http_requests(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(["POST"] * 4 + ["GET", "HEAD", "OPTIONS", "get", "PRI", "CONNECT", "", "P\0ST"]))
    version = draw(st.sampled_from(["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/2.0", "HTTP/9.9", "http/1.1", ""]))
    text = f"{method} {draw(TARGETS)} {version}{draw(LINES)}"
    for header in draw(st.lists(HEADERS, max_size=4)):
        text += header + draw(LINES)
    return (text + draw(LINES) + draw(CONTENT)).encode("latin-1", "replace")


HTTP_BYTES = damaged(http_requests())
