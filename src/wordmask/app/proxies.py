"""Who asks: the client itself, or one behind a proxy. What requests say of that is believed of named proxies alone."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

from wordmask.app.settings import ServeSettings

FORWARDED_FOR = b"x-forwarded-for"
FROM_PROXIES = (b"x-forwarded-", b"x-original-", b"x-rewrite-", b"x-gradio-")
"""How headers begin by which proxies tell of a request as it came to them. gradio believes the last of any sender."""
ALSO_FROM_PROXIES = (b"forwarded", b"x-real-ip")
BELIEVED = (b"x-forwarded-host", b"x-forwarded-proto")
"""What a named proxy may say of the address that its clients use."""
CLIENTS_BITS = 64
"""Of an IPv6 address: providers give each client all addresses that begin so."""


def client_of(scope: Scope, settings: ServeSettings) -> str:
    """The address that limits per client count by: of the last sender that is no named proxy.

    An IPv6 address is cut to its network. A proxy that names nobody is taken for the client.
    """
    peer = _peer(scope)
    if not is_trusted(peer, settings):
        return _counted(peer)
    said = [value.decode("latin-1") for name, value in scope["headers"] if name == FORWARDED_FOR]
    for sender in reversed(",".join(said).split(",")):
        address = _without_port(sender.strip())
        if _parsed(address) is None:
            break
        if not is_trusted(address, settings):
            return _counted(address)
    return _counted(peer)


def as_told(scope: Scope, settings: ServeSettings) -> Scope:
    """A request without what proxies say of it, but for what a named one may say."""
    believed = BELIEVED if is_trusted(_peer(scope), settings) else ()
    headers = [(name, value) for name, value in scope["headers"] if name in believed or not _is_from_proxy(name)]
    return {**scope, "headers": headers}


def is_trusted(address: str, settings: ServeSettings) -> bool:
    parsed = _parsed(address)
    return parsed is not None and any(parsed in network for network in _networks(settings.trusted_proxies))


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


def _counted(address: str) -> str:
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((int(parsed), CLIENTS_BITS), strict=False))
    return address if parsed is None else str(parsed)


def _without_port(sender: str) -> str:
    """Of `1.2.3.4:56`, `[::1]:56` and `[::1]`; a bare IPv6 address is full of colons."""
    if sender.startswith("["):
        return sender[1:].partition("]")[0]
    return sender.partition(":")[0] if sender.count(":") == 1 else sender
