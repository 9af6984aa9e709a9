"""Check of Host and Origin headers, which keeps web pages of strangers away from the REST API.

A page may give its own host name the address 127.0.0.1 (DNS rebinding). The browser then lets it call this server, with
the page's name as Host. A page under any name may also send requests whose answers it cannot read; their Origin tells.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from kseq_serving.errors import Code, ServingError
from kseq_serving.flags import Flags

FLAG = "--rest_api_allowed_hosts"
_MAX_SHOWN = 256


class Hosts:
    """Names under which the REST API may be called.

    Args:
        allowed: Names besides those of the loopback interface.
        any_origin: Whether pages of all sites may call it.
    """

    def __init__(self, allowed: Iterable[str], *, any_origin: bool):
        self._allowed = frozenset(map(_name, allowed))
        self._any_origin = any_origin

    def refusal(self, hosts: Iterable[str], origin: str) -> ServingError | None:
        """Return the error for a request with these headers; None if it may be answered.

        Args:
            hosts: All hosts that the request names.
            origin: Its Origin header; empty without one.
        """
        foreign = next((host for host in hosts if not self._is_own(host)), None)
        if foreign is not None:
            return _refused(f"the host {foreign[:_MAX_SHOWN]!r}")
        if origin and not self._any_origin and not self._is_own(origin.partition("://")[2]):
            return _refused(f"pages of {origin[:_MAX_SHOWN]!r}")
        return None

    def _is_own(self, host: str) -> bool:
        name = _name(host)
        if name in self._allowed or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False


def from_flags(flags: Flags) -> Hosts | None:
    """Return the names under which the REST API may be called; None if it answers to any."""
    if not flags.enable_playground and not flags.rest_api_enable_cors_support:
        return None
    allowed = filter(None, (name.strip() for name in flags.rest_api_allowed_hosts.split(",")))
    return Hosts(allowed, any_origin=flags.rest_api_enable_cors_support)


def _name(host: str) -> str:
    """Return the name in a Host header, without the port, in lower case."""
    if host.startswith("["):  # an IPv6 address
        address, bracket, _port = host[1:].partition("]")
        return address.lower() if bracket else ""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower().removesuffix(".")


def _refused(what: str) -> ServingError:
    return ServingError(Code.PERMISSION_DENIED, f"This server does not answer {what}. Allow it by {FLAG}=NAME,NAME.")
