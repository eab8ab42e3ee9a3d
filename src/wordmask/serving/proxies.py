"""Who asks: the client itself, or one behind a proxy. What requests say of that is believed of named proxies alone."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

from wordmask.serving.settings import RequestError, ServeSettings

FORWARDED_FOR = b"x-forwarded-for"
FROM_PROXIES = (b"x-forwarded-", b"x-original-", b"x-rewrite-", b"x-gradio-")
"""How headers begin by which proxies tell of a request as it came to them. gradio believes the last of any sender."""
ALSO_FROM_PROXIES = (b"forwarded", b"x-real-ip")
HOST = re.compile(rb"([\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\])(:\d{1,5})?")
CLIENTS_BITS = 64
"""Of an IPv6 address: providers give each client all addresses that begin so."""


def client_of(scope: Scope, settings: ServeSettings) -> str:
    """Return the address that limits per client count by, of a request before `as_told` or after; an IPv6 one is cut to
    its network.
    """
    address = sender_of(scope, settings)
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((int(parsed), CLIENTS_BITS), strict=False))
    return address if parsed is None else str(parsed)


def as_told(scope: Scope, settings: ServeSettings) -> Scope:
    """Return a request as it came to the first named proxy; what others say of it is dropped."""
    told = dict(scope)
    headers = [(name, value) for name, value in scope["headers"] if not _is_from_proxy(name)]
    if is_trusted(_peer(scope), settings):
        told["client"] = (sender_of(scope, settings), 0)
        said = dict(scope["headers"])
        scheme = said.get(b"x-forwarded-proto", b"").partition(b",")[0].strip()
        # The last: proxies that add to what the client said have theirs there.
        host = said.get(b"x-forwarded-host", b"").rpartition(b",")[2].strip()
        if scheme in (b"http", b"https"):
            told["scheme"] = scheme.decode()
        if host:
            headers = [(name, value) for name, value in headers if name != b"host"] + [(b"host", host)]
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or not all(HOST.fullmatch(host) for host in hosts):
        raise RequestError(400, "host", "the header Host is no name of a host")
    return told | {"headers": headers}


def is_trusted(address: str, settings: ServeSettings) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in _networks(settings.trusted_proxies))


def sender_of(scope: Scope, settings: ServeSettings) -> str:
    """Return the address of the last that is no named proxy. A proxy that names nobody is taken for the client."""
    peer = _peer(scope)
    if not is_trusted(peer, settings):
        return peer
    said = [value.decode("latin-1") for name, value in scope["headers"] if name == FORWARDED_FOR]
    for sender in reversed(",".join(said).split(",")):
        address = _without_port(sender.strip())
        if _parsed(address) is None:
            break
        if not is_trusted(address, settings):
            return address
    return peer


def _peer(scope: Scope) -> str:
    """Who holds the other end of the connection; nothing of a Unix socket."""
    return str(scope["client"][0]) if scope.get("client") else ""


def _is_from_proxy(header: bytes) -> bool:
    return header.startswith(FROM_PROXIES) or header in ALSO_FROM_PROXIES


@lru_cache(maxsize=8)
def _networks(trusted: tuple[str, ...]) -> list[IPv4Network | IPv6Network]:
    return [ip_network(network, strict=False) for network in trusted]


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _without_port(sender: str) -> str:
    """Of `1.2.3.4:56`, `[::1]:56` and `[::1]`; a bare IPv6 address is full of colons."""
    if sender.startswith("["):
        return sender[1:].partition("]")[0]
    return sender.partition(":")[0] if sender.count(":") == 1 else sender
