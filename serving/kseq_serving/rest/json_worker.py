"""Process that parses large JSON bodies; it imports neither TensorFlow nor a server.

It reads requests from its standard input and writes answers to its standard output. Each is a pickled header, and blobs
of bytes; both ends are this package's own. It ends with its input.
"""

from __future__ import annotations

import os
import pickle
import resource
import struct
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from kseq_serving.errors import Code, ServingError
from kseq_serving.rest import json_request

PREDICT, DOCUMENT = "predict", "document"  # what is asked for: the inputs of a signature, or the document itself
MAX_MEMORY_BYTES = 6 << 30
_PIECE = 1000  # rows of a document that are pickled together
_LENGTH = struct.Struct("<Q")
_DEFAULT_SIGNATURE = "serving_default"


def write(stream: BinaryIO, *blobs: bytes | bytearray | memoryview) -> None:
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


def _write_arrays(stream: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    for array in arrays.values():
        if array.dtype == object:
            values = array.ravel().tolist()
            write(stream, np.array([len(value) for value in values], np.int64).tobytes(), b"".join(values))
        else:
            write(stream, np.ascontiguousarray(array).tobytes())


def _predict(body: bytes, signatures: Mapping[str, Mapping[str, int]], answers: BinaryIO) -> None:
    document = json_request.parse(body)
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
    write(answers, pickle.dumps(header))
    _write_arrays(answers, arrays)


def _document(body: bytes, answers: BinaryIO) -> None:
    document = json_request.parse(body)
    rows = document.get("examples")
    pieces = [rows[start : start + _PIECE] for start in range(0, len(rows), _PIECE)] if isinstance(rows, list) else []
    if pieces:
        document["examples"] = []
    write(answers, pickle.dumps({"document": document, "pieces": len(pieces)}))
    for piece in pieces:
        write(answers, pickle.dumps(piece))


def main() -> None:
    """Answer requests until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print does not belong among the answers
    while True:
        try:
            kind, signatures = pickle.loads(read(requests))
            body = read(requests)
        except EOFError:
            return
        try:
            if kind == PREDICT:
                _predict(body, signatures, answers)
            else:
                _document(body, answers)
        except ServingError as error:
            write(answers, pickle.dumps({"refused": (int(error.code), error.message)}))
        except MemoryError:
            text = f"The JSON body needs more than {MAX_MEMORY_BYTES} bytes of memory."
            write(answers, pickle.dumps({"refused": (int(Code.RESOURCE_EXHAUSTED), text)}))


if __name__ == "__main__":
    main()
