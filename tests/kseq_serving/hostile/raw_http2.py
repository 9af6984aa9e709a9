"""Calls of gRPC by a client of HTTP/2 that takes no answers."""

from __future__ import annotations

import contextlib
import socket
import struct

_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_INITIAL_WINDOW_SIZE = 4


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _header(name: str, value: str) -> bytes:
    """Return a header that is not compressed; both texts have less than 127 characters."""
    return b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in (name, value))


class Http2Client:
    """Connection whose window for answers has no bytes.

    Args:
        address: Address of a gRPC server.
    """

    def __init__(self, address: str):
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.settimeout(30)
        window = struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)
        self._socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, window))
        self._calls = 0

    def call(self, path: str, message: bytes = b"") -> None:
        """Send a call of one short message."""
        stream = 2 * self._calls + 1
        self._calls += 1
        names = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers"}
        names["content-type"] = "application/grpc"
        headers = b"".join(_header(name, value) for name, value in names.items())
        data = b"\0" + struct.pack(">I", len(message)) + message
        self._socket.sendall(_frame(_HEADERS, _END_HEADERS, stream, headers) + _frame(_DATA, _END_STREAM, stream, data))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def wait_closed(self) -> None:
        """Wait until the server closes the connection."""
        with contextlib.closing(self._socket):
            while self._socket.recv(1 << 16):
                pass

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed the connection."""
        self._socket.setblocking(False)
        try:
            while self._socket.recv(1 << 16):
                pass
        except BlockingIOError:
            return True
        return False
