"""Where a server is and how to speak to it: one form of address for both protocols."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import urllib.parse

_FORMS = "grpc://HOST:PORT, grpcs://HOST:PORT, unix:/PATH (gRPC), http://HOST[:PORT] or https://HOST[:PORT]"


@dataclasses.dataclass(frozen=True)
class TlsOptions:
    """What ``grpcs`` and ``https`` connections prove and demand; each file is PEM.

    Attributes:
        ca_file: the authorities that may have signed the server's certificate; None for those the system trusts.
        certificate_file: the client's own certificate with its chain, for servers that verify clients.
        key_file: the key of that certificate, not encrypted.
        server_name: the name that the server's certificate must bear, where it is not the address's host.
    """

    ca_file: str | os.PathLike[str] | None = None
    certificate_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError(
                f"A client's certificate goes with its key, got certificate_file={self.certificate_file!r}, "
                f"key_file={self.key_file!r}. Give both, or neither."
            )
        for file in (self.ca_file, self.certificate_file, self.key_file):
            if file is not None and not pathlib.Path(file).is_file():
                raise FileNotFoundError(f"There is no PEM file {os.fspath(file)!r}.")


@dataclasses.dataclass(frozen=True)
class Address:
    """A server's address, taken apart.

    Attributes:
        text: the address as it was given.
        is_rest: REST over HTTP; else gRPC.
        is_secure: whether TLS is spoken.
        target: ``host:port`` or ``unix:/path`` for gRPC, the URL that paths are appended to for REST.
    """

    text: str
    is_rest: bool
    is_secure: bool
    target: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Takes an address apart.

        Raises:
            ValueError: it has none of the forms that a client knows.
        """
        scheme, _, rest = text.partition(":")
        if scheme == "unix" and rest.startswith("/"):
            return cls(text, is_rest=False, is_secure=False, target=f"unix:/{rest.lstrip('/')}")
        url = urllib.parse.urlsplit(text)
        is_rest = scheme in ("http", "https")
        if (
            scheme not in ("grpc", "grpcs", "http", "https")
            or not url.hostname
            or url.query
            or url.fragment
            or "@" in url.netloc
            or (not is_rest and (_port(url) is None or url.path.strip("/")))
        ):
            raise ValueError(f"An address is {_FORMS}; got {text!r}.")
        target = f"{scheme}://{url.netloc}{url.path.rstrip('/')}" if is_rest else url.netloc
        return cls(text, is_rest, is_secure=scheme in ("grpcs", "https"), target=target)


def _port(url: urllib.parse.SplitResult) -> int | None:
    try:
        return url.port
    except ValueError:
        return None
