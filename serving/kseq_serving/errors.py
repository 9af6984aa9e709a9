"""Errors that both protocols can answer with: one code, its HTTP status and its gRPC status."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    import tensorflow as tf  # slow to import, and a wrong command line is told without it


class Code(enum.IntEnum):
    """The canonical status codes, numbered as gRPC and TensorFlow number them."""

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
        """The HTTP status that the REST API answers with."""
        return _HTTP_STATUS.get(self, 500)

    @property
    def grpc_status(self) -> grpc.StatusCode:
        """The gRPC status of the same name."""
        return grpc.StatusCode[self.name]

    @classmethod
    def from_http_status(cls, status: int) -> Code:
        """The code that a REST answer of this status most likely stands for: the statuses are fewer."""
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
    413: Code.RESOURCE_EXHAUSTED,  # a body that is too large
    500: Code.INTERNAL,
    502: Code.UNAVAILABLE,  # a gateway whose server does not answer
}


class ServingError(Exception):
    """An answer other than OK; ``str()`` gives ``CODE: message``.

    Args:
        code: what went wrong, in terms a client can act on.
        message: the text the client gets.
    """

    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @classmethod
    def from_tensorflow(cls, error: tf.errors.OpError) -> ServingError:
        """The error that TensorFlow's runtime reported, unchanged."""
        return cls(Code(error.error_code), error.message)


class InvalidArgumentError(ServingError):
    """The request is wrong whatever the server's state."""

    def __init__(self, message: str):
        super().__init__(Code.INVALID_ARGUMENT, message)


class NotFoundError(ServingError):
    """No such model, version or file."""

    def __init__(self, message: str):
        super().__init__(Code.NOT_FOUND, message)


class FailedPreconditionError(ServingError):
    """The request is right, but not for the models that are served now."""

    def __init__(self, message: str):
        super().__init__(Code.FAILED_PRECONDITION, message)


class UnimplementedError(ServingError):
    """The protocol knows the request, this server does not."""

    def __init__(self, message: str):
        super().__init__(Code.UNIMPLEMENTED, message)
