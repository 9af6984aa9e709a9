"""HTTP status of every code, as in TensorFlow Serving's REST API, and the gRPC status of the same name."""

import grpc
import pytest

from kseq_serving.errors import Code

BY_STATUS = {
    200: "OK",
    400: "INVALID_ARGUMENT FAILED_PRECONDITION OUT_OF_RANGE",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "UNKNOWN INTERNAL DATA_LOSS",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def test_every_code_has_the_status_of_tensorflow_serving():
    assert {code.name: code.http_status for code in Code} == {
        name: status for status, names in BY_STATUS.items() for name in names.split()
    }


@pytest.mark.parametrize("code", Code, ids=lambda code: code.name)
def test_codes_are_numbered_as_grpc_numbers_them(code: Code):
    assert code.grpc_status == getattr(grpc.StatusCode, code.name)
    assert code.grpc_status.value[0] == code


@pytest.mark.parametrize(
    ("status", "code"), [(400, Code.INVALID_ARGUMENT), (413, Code.RESOURCE_EXHAUSTED), (418, Code.UNKNOWN)]
)
def test_clients_read_the_likeliest_code_from_a_status(status: int, code: Code):
    assert Code.from_http_status(status) == code
