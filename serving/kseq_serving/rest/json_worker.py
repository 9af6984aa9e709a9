"""Process that parses large JSON bodies and converts what they hold; it imports neither TensorFlow nor a server.

It reads requests from its standard input and writes answers to its standard output. Each is a pickled header, and blobs
of bytes; both ends are this package's own. A header is small and not nested, because the server holds Python's lock
while it unpickles one. The process ends with its input.
"""

from __future__ import annotations

import gc
import os
import pickle
import resource
import struct
import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from kseq_serving import bounded_log
from kseq_serving.errors import Code, ServingError
from kseq_serving.rest import json_examples, json_request

PREDICT, EXAMPLES = "predict", "examples"  # what a body holds
MAX_MEMORY_BYTES = 6 << 30
_LENGTH = struct.Struct("<Q")
_DEFAULT_SIGNATURE = "serving_default"

_Blob = bytes | memoryview


def write(stream: BinaryIO, *blobs: _Blob) -> None:
    """Write blobs of bytes, each behind its length."""
    for blob in blobs:
        stream.write(_LENGTH.pack(len(blob)))
        stream.write(blob)
    stream.flush()


def read(stream: BinaryIO) -> bytes:
    """Read one blob of bytes.

    Raises:
        EOFError: If the stream ends.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return _exactly(stream, length)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def read_arrays(stream: BinaryIO, forms: list[tuple[str, str, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    """Read arrays whose names, dtypes and shapes are given."""
    arrays = {}
    for name, dtype, shape in forms:
        if dtype == "O":
            lengths, joined = np.frombuffer(read(stream), np.int64), read(stream)
            ends = np.cumsum(lengths).tolist()
            array = np.empty(len(ends), object)
            array[:] = [joined[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
        else:
            array = np.frombuffer(read(stream), np.dtype(dtype))
        arrays[name] = array.reshape(shape)
    return arrays


def answer(kind: str, signatures: Mapping[str, Mapping[str, int]], body: bytes) -> Sequence[_Blob]:
    """Return the blobs of an answer: a pickled header without nested values, and flat bytes; never raise.

    Args:
        kind: What the body holds.
        signatures: Dtypes of the inputs of each signature, by the names of both.
        body: The body.
    """
    try:
        document = json_request.parse(body)
        return _predict(document, signatures) if kind == PREDICT else _examples(document)
    except ServingError as error:
        return _refusal(error.code, error.message)
    except MemoryError:
        text = f"The JSON body needs more than {MAX_MEMORY_BYTES} bytes of memory."
        return _refusal(Code.RESOURCE_EXHAUSTED, text)
    except RecursionError:
        return _refusal(Code.INVALID_ARGUMENT, "The JSON body is nested too deep.")
    except Exception as error:  # no body may end the process
        text = f"{type(error).__name__}: {error}"[: bounded_log.MAX_CHARACTERS]
        return _refusal(Code.INTERNAL, text, bounded_log.summary(error))


def _refusal(code: Code, text: str, failure: str = "") -> Sequence[_Blob]:
    return [pickle.dumps({"refused": (int(code), text), "failure": failure})]


def _predict(document: Mapping[str, Any], signatures: Mapping[str, Mapping[str, int]]) -> Sequence[_Blob]:
    name = json_request.signature_name(document)
    header: dict[str, Any] = {"signature_name": name, "in_rows": json_request.is_in_rows(document), "error": None}
    infos = signatures.get(name or _DEFAULT_SIGNATURE)
    arrays: dict[str, np.ndarray] = {}
    if infos is not None:
        try:
            inputs = {alias: SimpleNamespace(dtype=dtype) for alias, dtype in infos.items()}
            arrays = json_request.read_inputs(document, inputs)
        except ServingError as error:
            header["error"] = int(error.code), error.message
    header["arrays"] = [
        (alias, array.dtype.str[-1:] if array.dtype == object else array.dtype.str, array.shape)
        for alias, array in arrays.items()
    ]
    return [pickle.dumps(header), *(blob for array in arrays.values() for blob in _blobs(array))]


def _blobs(array: np.ndarray) -> list[_Blob]:
    flat = array.ravel()
    if array.dtype == object:
        values = flat.tolist()
        return [np.array([len(value) for value in values], np.int64).tobytes(), b"".join(values)]
    return [flat.view(np.uint8).data]


def _examples(document: Mapping[str, Any]) -> Sequence[_Blob]:
    name = json_request.signature_name(document)
    pieces = json_examples.read(document)
    return [pickle.dumps({"signature_name": name, "pieces": len(pieces)}), *pieces]


def main() -> None:
    """Answer requests until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print does not belong among the answers
    gc.disable()  # documents have no cycles, and to look for them takes four times as long as to parse
    while True:
        try:
            kind, signatures = pickle.loads(read(requests))
            body = read(requests)
        except EOFError:
            return
        write(answers, *answer(kind, signatures, body))


if __name__ == "__main__":
    main()
