"""Errors of both protocols: one code with its HTTP status and its gRPC status."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    import tensorflow as tf  # slow to import, and errors in the command line are reported without it


class Code(enum.IntEnum):
    """Canonical status codes, numbered as in gRPC and TensorFlow."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def http_status(self) -> int:
        """HTTP status of REST responses with this code."""
        return _HTTP_STATUS.get(self, 500)

    @property
    def grpc_status(self) -> grpc.StatusCode:
        """Status of the same name in gRPC."""
        return grpc.StatusCode[self.name]

    @classmethod
    def from_http_status(cls, status: int) -> Code:
        """Return the most likely code of a REST response, since several codes share one HTTP status."""
        return _FROM_HTTP_STATUS.get(status, cls.UNKNOWN)


_HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}
_FROM_HTTP_STATUS = {status: code for code, status in reversed(_HTTP_STATUS.items())} | {
    413: Code.RESOURCE_EXHAUSTED,  # the body is too large
    500: Code.INTERNAL,
    502: Code.UNAVAILABLE,  # the server behind a gateway does not answer
}


class ServingError(Exception):
    """Error that is sent to the client; `str()` gives `CODE: message`.

    Args:
        code: Status code, which tells the client how to react.
        message: Text for the client.
    """

    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @classmethod
    def from_tensorflow(cls, error: tf.errors.OpError) -> ServingError:
        """Return the error that TensorFlow's runtime reported, unchanged."""
        return cls(Code(error.error_code), error.message)


class InvalidArgumentError(ServingError):
    """Error for a request that is wrong whatever the server's state."""

    def __init__(self, message: str):
        super().__init__(Code.INVALID_ARGUMENT, message)


class NotFoundError(ServingError):
    """Error for a model, version or file that does not exist."""

    def __init__(self, message: str):
        super().__init__(Code.NOT_FOUND, message)


class FailedPreconditionError(ServingError):
    """Error for a valid request that does not fit the models that are served now."""

    def __init__(self, message: str):
        super().__init__(Code.FAILED_PRECONDITION, message)


class UnimplementedError(ServingError):
    """Error for a request of the protocol that this server does not support."""

    def __init__(self, message: str):
        super().__init__(Code.UNIMPLEMENTED, message)
