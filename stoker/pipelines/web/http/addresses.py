"""Where a host name leads, and whether we may go there.

The guard is at the moment of connecting: a name is resolved once, its addresses are checked, and the socket is opened
to one of those very addresses. A name that answers differently the second time (DNS rebinding) gains nothing.
"""

import ipaddress
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout

KEPT_S = 300.0  # an answer is used again for so long
FORGOTTEN_S = 10.0  # and a failure
MAX_NAMES = 4096
RESOLVERS = 8  # look-ups at a time; getaddrinfo blocks and cannot be given a time limit
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")


class PrivateAddress(OSError):
    """A host's only addresses are in networks that a stranger's link must not lead us into."""


class NoSuchHost(OSError):
    """The name cannot be resolved."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet, also when it hides an IPv4 address inside an IPv6 one.

    >>> [is_public(one) for one in ("93.184.216.34", "127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1")]
    [True, False, False, False, False]
    >>> [is_public(one) for one in ("2606:4700::1", "::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "fd00::1", "ff02::1")]
    [True, False, False, False, False, False]
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped
        if inner is None and parsed in _NAT64:
            inner = ipaddress.IPv4Address(parsed.packed[12:])
        if inner is None and parsed in _6TO4:
            inner = ipaddress.IPv4Address(parsed.packed[2:6])
        if inner is not None:
            return is_public(str(inner))
        if parsed.teredo is not None or parsed.is_site_local or int(parsed) < 2**32:  # ::a.b.c.d, IPv4-compatible
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


class Addresses:
    """A bounded cache of DNS answers; one look-up of a name at a time, whoever asks."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, Future[Sequence[str]]]] = OrderedDict()
        self._pool = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="stoker-dns")

    def of(self, host: str, *, timeout_s: float) -> Sequence[str]:
        """The addresses of a host that may be connected to, in the resolver's order; at least one.

        Raises PrivateAddress, NoSuchHost, TimeoutError.
        """
        bare = host.strip("[]")
        try:
            found = self._look_up(bare).result(timeout_s)
        except FutureTimeout:
            raise TimeoutError(f"{bare}: no DNS answer in {timeout_s:.0f} s") from None
        allowed = [one for one in found if self._allow_private or is_public(one)]
        if not allowed:
            raise PrivateAddress(f"{bare} is {found[0]}, not on the open internet")
        return allowed

    def connect(self, host: str, port: int, *, timeout_s: float) -> socket.socket:
        """A connected socket to an address that was checked. Raises OSError, TimeoutError as ``of`` does."""
        ends = time.monotonic() + timeout_s
        failure: OSError = NoSuchHost(host)
        addresses = self.of(host, timeout_s=timeout_s)
        for place, address in enumerate(addresses):
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{host}: not connected in {timeout_s:.0f} s")
            try:
                # A share of the time each: one dead address (no route for IPv6, often) must not use it all.
                return socket.create_connection((address, port), timeout=left / (len(addresses) - place))
            except OSError as error:
                failure = error
        raise failure

    def close(self) -> None:
        """Let go of the resolver threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look_up(self, host: str) -> "Future[Sequence[str]]":
        now = time.monotonic()
        with self._lock:
            known = self._known.get(host)
            if known is not None and (now < known[0] or not known[1].done()):
                self._known.move_to_end(host)
                return known[1]
            answer = self._pool.submit(_resolved, host)
            self._known[host] = (now + KEPT_S, answer)
            self._known.move_to_end(host)
            if len(self._known) > MAX_NAMES:
                self._known.popitem(last=False)
        answer.add_done_callback(lambda done: self._shorten(host, done))
        return answer

    def _shorten(self, host: str, answer: "Future[Sequence[str]]") -> None:
        if answer.cancelled() or answer.exception() is not None:
            with self._lock:
                if host in self._known and self._known[host][1] is answer:
                    self._known[host] = (time.monotonic() + FORGOTTEN_S, answer)


def _resolved(host: str) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NoSuchHost(f"{host}: {getattr(error, 'strerror', None) or 'cannot be resolved'}") from None
    return list(dict.fromkeys(str(one[4][0]) for one in found))
