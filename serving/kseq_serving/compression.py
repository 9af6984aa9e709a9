"""Decompression of requests, which stops when too much comes out."""

from __future__ import annotations

import zlib
from collections.abc import Callable

_GZIP = zlib.MAX_WBITS | 16  # zlib's value for data with a gzip header
_ZLIB = zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"
_PIECE_BYTES = 1 << 18

Take = Callable[[int], None]
"""Function that is called with the size of each piece that comes out; it raises an error to refuse the data."""


def gunzip(data: bytes, take: Take) -> bytes | None:
    """Return data in gzip's format decompressed; None if it is broken."""
    return _decompress(data, take, _GZIP)


def grpc_message(data: bytes, take: Take) -> bytes:
    """Return a message of gRPC decompressed, if it is compressed.

    The library passes messages on as they came. The first byte of gzip's format is no beginning of a protocol buffer;
    that of zlib's may be one, but then what follows is no whole zlib stream with its checksum.
    """
    if data.startswith(_GZIP_MAGIC):
        return data if (plain := gunzip(data, take)) is None else plain
    if len(data) > 1 and data[0] & 0xF == 8 and (data[0] << 8 | data[1]) % 31 == 0:
        return data if (plain := _decompress(data, take, _ZLIB)) is None else plain
    return data


def _decompress(data: bytes, take: Take, form: int) -> bytes | None:
    stream = zlib.decompressobj(form)
    plain = bytearray()
    # In slices, because zlib copies the rest of its input with each piece of its output.
    for start in range(0, len(data), _PIECE_BYTES):
        left = data[start : start + _PIECE_BYTES]
        while left and not stream.eof:
            try:
                piece = stream.decompress(left, _PIECE_BYTES)
            except zlib.error:
                return None
            left = stream.unconsumed_tail
            take(len(piece))
            plain += piece
    return bytes(plain) if stream.eof else None
