"""Who asks, where a proxy stands in front of us: the client's own address and scheme.

`X-Forwarded-For` is read from the right, where each proxy adds whom it has heard: what stands left
of the first one that is not ours, anybody can have written.
"""

import ipaddress
from functools import lru_cache

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.core import settings

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ForwardedClient:
    """Put the client's own address and scheme in the place of a trusted proxy's."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope["client"][0] if scope["type"] == "http" and scope.get("client") else ""
        if is_trusted(peer):
            headers = Headers(scope=scope)
            said = ",".join(headers.getlist("x-forwarded-for")).split(",")
            scope["client"] = (_client(peer, said), 0)
            scheme = headers.get("x-forwarded-proto", "").rpartition(",")[2].strip().lower()
            if scheme in ("http", "https"):
                scope["scheme"] = scheme
        await self.app(scope, receive, send)


def address_of(request: Request) -> str:
    """Return the address of whoever asks."""
    return request.client.host if request.client else ""


def is_trusted(address: str) -> bool:
    """Say whether an address is one of our own proxies'."""
    parsed = _parsed(address)
    return parsed is not None and any(parsed in each for each in _networks())


def is_exposed(request: Request) -> bool:
    """Say whether others on the way can read what is sent: plain http, and not on this machine."""
    if request.url.scheme == "https" or settings.get().secure_cookies:
        return False
    name = request.url.hostname or ""
    return not (_is_loopback(address_of(request)) and (name == "localhost" or _is_loopback(name)))


def _client(peer: str, said: list[str]) -> str:
    nearest = peer
    for each in reversed(said):
        address = _without_port(each.strip())
        parsed = _parsed(address)
        if parsed is None:
            break  # nothing that a proxy writes: what stands before it counts as little
        nearest = str(parsed)
        if not is_trusted(nearest):
            break
    return nearest


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address


def _is_loopback(address: str) -> bool:
    parsed = _parsed(address.strip("[]"))
    return parsed is not None and parsed.is_loopback


def _parsed(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _networks() -> list[_Network]:
    return _read(tuple(settings.get().trusted_proxies))


@lru_cache(maxsize=4)
def _read(networks: tuple[str, ...]) -> list[_Network]:
    return [ipaddress.ip_network(each) for each in networks]
