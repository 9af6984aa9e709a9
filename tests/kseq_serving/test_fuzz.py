"""Whatever a client sends is answered, and what is malformed is the client's error: no 5xx, no exception, no hang.

The inputs are valid requests with bytes changed, cut out, repeated and swapped, by a seeded generator.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError

from kseq_serving import inference, model_config, predict, protos
from kseq_serving.core import ServerCore
from kseq_serving.errors import Code, ServingError
from kseq_serving.flags import Flags
from kseq_serving.protos import ConfigProto
from kseq_serving.rest import Call, RestApi

INPUTS = 4000
BODIES = [
    b'{"instances": [1.0, 2.5e3, -3]}',
    b'{"signature_name": "pair", "instances": [{"a": 1, "b": 2}, {"b": 3, "a": 4}]}',
    b'{"signature_name": "upper", "inputs": {"text": ["\\u00e9", {"b64": "YWJj"}]}}',
    b'{"inputs": [[[1], [2]], [[3], [NaN]]]}',
    b'{"signature_name": "echo", "examples": [{"x": [1, 2], "y": "a"}], "context": {"z": true}}',
]
PATHS = [
    "/v1/models/toy:predict",
    "/v1/models/toy/versions/1:predict",
    "/v1/models/toy/labels/x:classify",
    "/v1/models/toy:regress",
    "/v1/models/toy/metadata",
    "/v1/models/%74oy",
]
PIECES = (b'"', b"{", b"}", b"[", b"]", b",", b"\\", b"\xff", b"\0", b"9" * 40, b"1e999", b"null", b":", b"/", b"%")


@pytest.fixture(scope="module")
def core(models: Path) -> Iterator[ServerCore]:
    core = ServerCore(Flags(max_num_load_retries=0), ConfigProto())
    core.start(model_config.single_model("toy", str(models / "toy")))
    yield core
    core.stop(1.0)


def mutate(data: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(data))
        end = min(len(data), start + chance.randint(0, 8))
        middle = chance.choice(
            (b"", data[start:end] * chance.randint(2, 40), chance.choice(PIECES), bytes([chance.randrange(256)]))
        )
        data = data[:start] + middle + data[end:]
    return data


def test_rest_bodies(core: ServerCore):
    api, chance, statuses = RestApi(core), random.Random(1), set()
    for _ in range(INPUTS):
        body = mutate(chance.choice(BODIES), chance)
        path = chance.choice(PATHS[:4])
        status = api.answer(Call("POST", path, body)).status
        assert status < 500, (path, body)
        statuses.add(status)
    assert statuses == {200, 400}


def test_rest_paths(core: ServerCore):
    api, chance = RestApi(core), random.Random(2)
    for _ in range(INPUTS):
        path = mutate(chance.choice(PATHS).encode(), chance).decode("latin-1")
        method = chance.choice(("GET", "POST", "DELETE"))
        assert api.answer(Call(method, path, BODIES[0])).status in (200, 400, 404), (method, path)


def test_no_path_reaches_the_file_system(core: ServerCore):
    for name in ("..", "../toy", "..%2ftoy", "%2e%2e", "/etc/passwd", "toy/../toy"):
        assert RestApi(core).answer(Call("GET", f"/v1/models/{name}")).status in (400, 404)


def requests() -> list[tuple[Any, Any]]:
    plain = protos.PredictRequest()
    plain.model_spec.name = "toy"
    plain.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))
    text = protos.PredictRequest()
    text.model_spec.name, text.model_spec.signature_name = "toy", "upper"
    text.inputs["text"].CopyFrom(tf.make_tensor_proto(["a", "b"]))
    filled = protos.PredictRequest()
    filled.model_spec.name = "toy"
    filled.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    filled.inputs["x"].tensor_shape.dim[0].size = 1000
    examples = protos.ClassificationRequest()
    examples.model_spec.name, examples.model_spec.signature_name = "toy", "echo"
    examples.input.example_list.examples.add().features.feature["x"].float_list.value.append(1.0)
    return [
        (predict.predict, plain),
        (predict.predict, text),
        (predict.predict, filled),
        (inference.classify, examples),
    ]


def test_messages(core: ServerCore):
    chance, codes = random.Random(3), set()
    for _ in range(INPUTS):
        answer, message = chance.choice(requests())
        data = mutate(message.SerializeToString(), chance)
        try:
            request = type(message).FromString(data)
        except DecodeError:
            continue
        try:
            answer(core, request, timeout_s=10.0).SerializeToString()
            codes.add(Code.OK)
        except ServingError as error:
            codes.add(error.code)
    assert codes <= {Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION}
    assert Code.OK in codes
