"""Whether a server can be reached at all, known within seconds. What comes after it may rightly try for minutes."""

import queue
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any

CONNECT_SECONDS = 2.5
"""The system asks a server that is silent a second time after 1 s (RFC 6298), so this is two tries."""
DEFAULT_PORTS = {"http": 80, "https": 443}


def unreachable(urls: Iterable[str]) -> dict[str, str]:
    """Return those of the addresses whose server takes no connection, each with the reason. All are tried at once.

    Behind a proxy it is the proxy that is tried. Nothing is asked of a server: one that is slow or fails is reachable.
    """
    hops = {url: hop for url in urls if (hop := _first_hop(url)) is not None}
    troubles: dict[tuple[str, int], str | None] = {hop: _silent(hop[0]) for hop in hops.values()}

    def look(hop: tuple[str, int]) -> None:
        troubles[hop] = _trouble(*hop)

    # Threads that nobody waits for: to find the address of a name may take as long as the resolver likes.
    seekers = [threading.Thread(target=look, args=(hop,), daemon=True) for hop in set(hops.values())]
    for seeker in seekers:
        seeker.start()
    deadline = time.monotonic() + CONNECT_SECONDS
    for seeker in seekers:
        seeker.join(max(0.0, deadline - time.monotonic()))
    return {url: trouble for url, hop in hops.items() if (trouble := troubles[hop]) is not None}


def _first_hop(url: str) -> tuple[str, int] | None:
    """Return the host and port that a connection goes to: the server's, or the proxy's; None where nobody can tell."""
    address = urllib.parse.urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if proxy and address.hostname and not urllib.request.proxy_bypass(address.hostname):
        address = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        port = address.port or DEFAULT_PORTS.get(address.scheme)
    except ValueError:
        return None
    return (address.hostname, port) if address.hostname and port else None


def _trouble(host: str, port: int) -> str | None:
    """Why no connection can be made, or None. All addresses of a host are tried at once, as one kind of them may lead
    nowhere.
    """
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # UnicodeError: a name that is none
        return f"the host {host} is not found"
    ends: queue.Queue[OSError | None] = queue.Queue()

    def connect(family: int, kind: int, protocol: int, place: Any) -> None:
        try:
            with socket.socket(family, kind, protocol) as own:
                own.settimeout(CONNECT_SECONDS)
                own.connect(place)
        except OSError as error:
            ends.put(error)
        else:
            ends.put(None)

    for family, kind, protocol, _, place in places:
        threading.Thread(target=connect, args=(family, kind, protocol, place), daemon=True).start()
    end: OSError | None = OSError("it has no address")
    for _ in places:
        if (end := ends.get()) is None:
            return None
    return _silent(host) if isinstance(end, TimeoutError) else f"{host}, port {port}: {_plain(end)}"


def _silent(host: str) -> str:
    return f"{host} does not answer within {CONNECT_SECONDS:g} seconds"


def _plain(error: OSError | None) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
