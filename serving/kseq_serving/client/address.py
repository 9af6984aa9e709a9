"""Address of a server, in one form for both protocols, and TLS options."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import urllib.parse

from kseq_serving.client.kinds import check_text

_FORMS = "grpc://HOST:PORT, grpcs://HOST:PORT, unix:/PATH (gRPC), http://HOST[:PORT] or https://HOST[:PORT]"


@dataclasses.dataclass(frozen=True)
class TlsOptions:
    """Certificates of `grpcs` and `https` connections; each file is PEM.

    Attributes:
        ca_file: Authorities that may have signed the server's certificate; None for those that the system trusts.
        certificate_file: Certificate of the client with its chain, for servers that verify clients.
        key_file: Key of that certificate, not encrypted.
        server_name: Name in the server's certificate; None if it is the host of the address.

    Raises:
        ValueError: If only one of `certificate_file` and `key_file` is set.
        FileNotFoundError: If a file does not exist.
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
    """Parsed address of a server.

    Attributes:
        text: The address before parsing.
        is_rest: Whether the protocol is REST; else it is gRPC.
        is_secure: Whether the connection uses TLS.
        target: For gRPC `host:port` or `unix:/path`; for REST the URL that paths are appended to.
    """

    text: str
    is_rest: bool
    is_secure: bool
    target: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address.

        Raises:
            ValueError: If the address has no known form.
            TypeError: If it is not a str.
        """
        check_text("The address", text)
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
