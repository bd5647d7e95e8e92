"""Fetch what a public URL leads to: bounded in size and in time, and never from a private address.

A name is resolved once for each visit, all of its addresses are looked at, and the connection goes to the very address
that was looked at: neither a redirect nor a name that changes its mind leads inside (CWE-918). Proxies are not used.
"""

from __future__ import annotations

import io
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotFound
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import msgspec

from .exceptions import MultimodalError

MAX_REDIRECTS = 5
MAX_ADDRESSES = 4
"""Of one host, that are tried in turn; each has an equal part of the time."""
MAX_SECONDS = 30.0
"""From the first look at a name to the last byte, however slowly they come."""

_PORTS = {"http": 80, "https": 443}
_MOVED = frozenset({301, 302, 303, 307, 308})
_FOUND = 200
_HEADERS = {"User-Agent": "instructor", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet's, after the IANA's registries of special addresses.

    An IPv4 address inside an IPv6 one (RFC 4291, RFC 6052) counts as itself; relays and tunnels do not count.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64 or ip.ipv4_mapped:
            ip = ipaddress.IPv4Address(ip.packed[-4:])
        elif ip not in _UNICAST:
            return False
    return ip.is_global and not ip.is_multicast and not any(ip in each for each in _INSIDE)


_UNICAST, _NAT64 = ipaddress.ip_network("2000::/3"), ipaddress.ip_network("64:ff9b::/96")
# Relays (6to4, Teredo), what older Pythons take for public, and what is no private address but leads inside on Azure.
_INSIDE = [*map(ipaddress.ip_network, ("2002::/16", "2001::/32", "3fff::/20", "192.0.0.0/24", "168.63.129.16/32"))]


def fetch(url: str, limit: int, **world: Any) -> bytes:
    """The at most `limit` bytes at an http or https URL, after at most five redirects; `world` as in `Trip`.

    Raises:
        MultimodalError: there are none, more, or fewer than announced; it took too long; or an address on the way is
            not allowed.
    """
    trip = Trip(limit, **world)
    for _ in range(MAX_REDIRECTS + 1):
        found = trip.visit(url)
        if isinstance(found, bytes):
            return found
        url = found
    raise MultimodalError(f"{_shown(url)} was not reached after {MAX_REDIRECTS} redirects. Pass the URL itself.")


class Trip(msgspec.Struct):
    """From the first URL to the content, in so many `seconds`: what holds all the way."""

    limit: int
    seconds: float = MAX_SECONDS
    clock: Callable[[], float] = time.monotonic
    resolve: Callable[..., Any] = socket.getaddrinfo
    allowed: Callable[[str], bool] = is_public
    deadline: float = 0

    def __post_init__(self) -> None:
        self.deadline = self.clock() + self.seconds

    def left(self) -> float:
        """The seconds that are left."""
        left = self.deadline - self.clock()
        if left <= 0:
            raise TimeoutError("it took too long")
        return left

    def visit(self, url: str) -> bytes | str:
        """What is at a URL, or the URL where that has gone."""
        where = _checked(url)
        try:
            with closing(self._reach(where)) as sock:
                talk = HTTPConnection(where.hostname or "", where.port or _PORTS[where.scheme])
                talk.default_port, talk.sock = _PORTS[where.scheme], _Timed(sock, self.left)
                target = f"{where.path or '/'}?{where.query}".removesuffix("?")
                talk.request("GET", quote(target, safe="/%:;=@&?+$,!~*'()[]"), headers=_HEADERS)
                with talk.getresponse() as response:
                    return self._read(response, url)
        except MultimodalError:
            raise
        except (OSError, HTTPException, NotFound, ValueError) as problem:  # the last: a name or an address is malformed
            why = str(problem) or "it took too long"
            raise MultimodalError(f"{_shown(url)} cannot be fetched: {why}. Pass the bytes instead.") from problem

    def _reach(self, where: SplitResult) -> socket.socket:
        """A connection to the first address of a host that answers, if all of them are public."""
        port = where.port or _PORTS[where.scheme]
        pool = ThreadPoolExecutor(1)  # the system's resolver knows no deadline
        try:
            found = pool.submit(self.resolve, where.hostname, port, type=socket.SOCK_STREAM).result(self.left())
        finally:
            pool.shutdown(wait=False)
        if not all(self.allowed(place[0]) for *_, place in found):
            raise MultimodalError(f"{where.hostname!r} is not a public host. Pass the bytes instead.")
        sock = self._connected(port, *(place[0] for *_, place in found[:MAX_ADDRESSES]))
        if where.scheme == "http":
            return sock
        sock.settimeout(self.left())
        return ssl.create_default_context().wrap_socket(sock, server_hostname=where.hostname)

    def _connected(self, port: int, address: str, *others: str) -> socket.socket:
        try:
            return socket.create_connection((address, port), self.left() / (1 + len(others)))
        except OSError:
            if not others:
                raise
        return self._connected(port, *others)

    def _read(self, response: HTTPResponse, url: str) -> bytes | str:
        gone = response.getheader("Location")
        if response.status in _MOVED and gone:
            return urljoin(url, gone)
        if response.status != _FOUND:
            raise MultimodalError(f"{_shown(url)} answered {response.status} {response.reason}.")
        if response.getheader("Content-Encoding", "identity") != "identity":  # its size would say nothing
            raise MultimodalError(f"{_shown(url)} comes compressed, which was not asked for. Pass the bytes instead.")
        announced = response.length or 0
        if announced > self.limit or len(body := response.read(self.limit + 1)) > self.limit:
            raise MultimodalError(f"{_shown(url)} has more than {self.limit} bytes, which is the limit.")
        if len(body) < announced:
            raise MultimodalError(f"{_shown(url)} broke off after {len(body)} of {announced} bytes. Try again.")
        return body


class _Timed(io.RawIOBase):
    """A socket whose every wait ends at one deadline: as much of one as `http.client` needs."""

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock, self._left = sock, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._left())
        return self._sock.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._left())
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Nothing: `http.client` closes it before it reads, and who opened the socket closes that."""


def _checked(url: str) -> SplitResult:
    try:
        where = urlsplit(url)
        known = where.scheme in _PORTS and where.hostname and where.port != 0
    except ValueError:
        known = False
    if not known:
        raise MultimodalError(f"{_shown(url)} is no URL that can be fetched. Use http:// or https:// and a host.")
    if "@" in where.netloc:
        raise MultimodalError(f"The URL for {where.hostname!r} holds credentials. Pass the bytes instead.")
    return where


def _shown(url: str) -> str:
    """A URL as an error may show it: without what may be secret."""
    return repr(url.partition("#")[0].partition("?")[0].rpartition("@")[2][:100])
