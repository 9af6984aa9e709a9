"""Error of a call, with the server's text, its address, and advice."""

from __future__ import annotations

from kseq_serving.errors import Code, ServingError

_ADVICE = {
    Code.DEADLINE_EXCEEDED: "Give the call a longer timeout_s, or a smaller request.",
    Code.FAILED_PRECONDITION: "metadata(model) tells the signatures with their inputs and outputs.",
    Code.INVALID_ARGUMENT: "metadata(model) tells the signatures with their inputs and outputs.",
    Code.NOT_FOUND: "status(model) tells which versions are served.",
    Code.RESOURCE_EXHAUSTED: (
        "The server has too much to do (ask later, or let RetryPolicy try more often), or the message is larger than "
        "the client's max_message_bytes or the server's limit."
    ),
    Code.UNAVAILABLE: "Is it the server's address, and the right scheme? wait_until_ready(model) waits for a server.",
}


_TOO_LARGE = 413  # HTTP status


class CallError(ServingError):
    """Error of a call that was refused or not answered.

    Args:
        code: gRPC status code; over REST, the code that the HTTP status most likely stands for.
        message: Text of the server, unchanged; text of the transport, if no server answered.
        address: Address of the server.
        http_status: Status of a REST answer; None over gRPC and without an answer.

    Attributes:
        attempts: Number of attempts that the client made.
    """

    def __init__(self, code: Code, message: str, address: str, http_status: int | None = None):
        super().__init__(code, message)
        self.address = address
        self.http_status = http_status
        self.attempts = 1

    @property
    def is_about_size(self) -> bool:
        """Whether a message was too large, so that another attempt would fail too."""
        too_large = self.http_status == _TOO_LARGE or "larger than" in self.message
        return self.code is Code.RESOURCE_EXHAUSTED and too_large

    def __str__(self) -> str:
        told = [self.address]
        if self.http_status:
            told.append(f"HTTP {self.http_status}")
        if self.attempts > 1:
            told.append(f"{self.attempts} attempts")
        return f"{super().__str__()} ({', '.join(told)}) {_ADVICE.get(self.code, '')}".rstrip()
