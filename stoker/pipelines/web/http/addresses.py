"""Resolve host names and connect to allowed addresses only (protection against SSRF and DNS rebinding).

Allowed are public addresses and what ``AllowedPrivate`` says.

The check is made at the moment of connecting: a name is resolved once, its addresses are checked, and the socket is
opened to one of those same addresses. A name that resolves differently the second time gains nothing.
"""

import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

from stoker.pipelines.web.http.allowed import AllowedPrivate
from stoker.pipelines.web.http.special_addresses import is_metadata, parse_address

CACHE_S = 300.0  # how long the addresses of a name are cached
FAILURE_CACHE_S = 10.0  # how long a failure is
MAX_NAMES = 4096
LOOKUP_THREADS = 8  # look-ups at a time; getaddrinfo blocks and cannot be given a time limit


class PrivateAddress(OSError):
    """All addresses of the host are in private networks, where links of strangers must not lead."""


class NoSuchHost(OSError):
    """The name cannot be resolved."""


class Resolver:
    """DNS look-ups with a bounded cache, for all threads; a name is looked up once even if many ask at a time."""

    def __init__(self, allowed: AllowedPrivate) -> None:
        self._allowed = allowed
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, tuple[float, Future[Sequence[str]]]] = OrderedDict()
        self._pool = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="stoker-dns")

    def resolve(self, host: str, *, timeout_s: float) -> Sequence[str]:
        """The addresses of a host that may be connected to, in the resolver's order; at least one.

        Raises PrivateAddress, NoSuchHost, TimeoutError.
        """
        bare = host.strip("[]")
        try:
            addresses = self._look_up(bare).result(timeout_s)
        except FutureTimeout:
            raise TimeoutError(f"{bare}: no DNS answer in {timeout_s:.0f} s") from None
        allowed = [address for address in addresses if self._allowed.permits(bare, address)]
        if not allowed:
            raise PrivateAddress(_describe_private(bare, addresses[0]))
        return allowed

    def connect(self, host: str, port: int, *, timeout_s: float) -> socket.socket:
        """A connected socket to an address that was checked. Raises OSError, TimeoutError as ``resolve`` does."""
        deadline = time.monotonic() + timeout_s
        failure: OSError = NoSuchHost(host)
        addresses = self.resolve(host, timeout_s=timeout_s)
        for index, address in enumerate(addresses):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError(f"{host}: not connected in {timeout_s:.0f} s")
            try:
                # Each address gets a share of the time: one without a route (IPv6, often) must not use it all.
                return socket.create_connection((address, port), timeout=remaining / (len(addresses) - index))
            except OSError as error:
                failure = error
        raise failure

    def close(self) -> None:
        """End the look-up threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, host: str) -> "Future[Sequence[str]]":
        now = time.monotonic()
        with self._lock:
            cached = self._cache.get(host)
            if cached is not None and (now < cached[0] or not cached[1].done()):
                self._cache.move_to_end(host)
                return cached[1]
            lookup = self._pool.submit(_getaddrinfo, host)
            self._cache[host] = (now + CACHE_S, lookup)
            self._cache.move_to_end(host)
            if len(self._cache) > MAX_NAMES:
                self._cache.popitem(last=False)
        lookup.add_done_callback(lambda done: self._expire_failure(host, done))
        return lookup

    def _expire_failure(self, host: str, lookup: "Future[Sequence[str]]") -> None:
        if lookup.cancelled() or lookup.exception() is not None:
            with self._lock:
                if host in self._cache and self._cache[host][1] is lookup:
                    self._cache[host] = (time.monotonic() + FAILURE_CACHE_S, lookup)


def _describe_private(host: str, address: str) -> str:
    """Why a host is not fetched from, and the setting that allows it; for metadata services no remedy.

    >>> _describe_private("nas.example", "10.0.0.5")
    'nas.example is 10.0.0.5, no public address; if it is your own: STOKER_ALLOW_PRIVATE=nas.example'
    >>> _describe_private("127.0.0.1", "127.0.0.1")
    '127.0.0.1 is no public address; if it is your own: STOKER_ALLOW_PRIVATE=127.0.0.1'
    >>> _describe_private("nas.example", "169.254.169.254")
    'nas.example is 169.254.169.254, no public address but that of a metadata service'
    """
    text = f"{host} is no public address" if host == address else f"{host} is {address}, no public address"
    parsed = parse_address(address)
    if parsed is not None and is_metadata(parsed):
        return f"{text} but that of a metadata service"
    return f"{text}; if it is your own: STOKER_ALLOW_PRIVATE={host}"


def _getaddrinfo(host: str) -> Sequence[str]:
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoSuchHost(f"{host}: {getattr(error, 'strerror', None) or 'cannot be resolved'}") from None
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in entries))
