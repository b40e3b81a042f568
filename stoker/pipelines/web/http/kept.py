"""``KeptConnections``: idle connections of one host, and when one of them may carry another request.

HTTP/1.1 has nothing that ties a response to its request. A response that a server sends unasked would be taken for that
of the next URL on the same connection, and each later one for that of the URL after it. So:

- a connection is kept only after a response without any doubt (``Response.is_orderly``) from a server that is fast;
- it is used again only after a rest of ``REST_S`` in which nothing was sent on it;
- its response counts only if the server then stays silent for as long as it took for its slowest response, at least
  ``MIN_WAIT_S``: the real response would come in that time, and both are thrown away;
- a host that passed this ``RESTS`` times need not rest, nor be waited for, where requests follow each other faster (a
  rate of 0, for servers of one's own); a look at what has arrived remains, before the request and after the response;
- a host that once sent something unasked never gets a second request on a connection.
"""

import threading
import time

from stoker.pipelines.web.http.wire import Connection

MAX_IDLE_S = 15.0  # servers close idle connections; older ones are not used again
REST_S = 0.2
RESTS = 8
MIN_WAIT_S = 0.01
MAX_WAIT_S = 0.25  # connections to a slower server are not kept: a new one costs less than the wait


class KeptConnections:
    """The idle connections of one host, by origin: a host may serve http and https. For all threads."""

    def __init__(self, connections: int) -> None:
        self._lock = threading.Lock()
        self._most = connections  # of one origin
        self._idle: dict[str, list[Connection]] = {}
        self._rests = 0
        self._trusted = True  # until it sends something unasked

    def take(self, origin: str) -> Connection | None:
        """A connection that may carry another request, if there is one."""
        while True:
            with self._lock:
                idle = self._idle.get(origin)
                if not idle:
                    return None
                rested = time.monotonic() - idle[0].answered_at >= REST_S
                if not rested and self._rests < RESTS:
                    return None
                connection = idle.pop(0)
                connection.rested = rested
            heard = connection.listen(0)
            if heard is None and time.monotonic() - connection.answered_at <= MAX_IDLE_S:
                return connection
            connection.close()
            if heard:
                self.distrust()

    def keep(self, origin: str, connection: Connection) -> None:
        """Keep the connection after an orderly response, or close it."""
        connection.answered_at = time.monotonic()
        with self._lock:
            self._rests += connection.rested
            idle = self._idle.setdefault(origin, [])
            keep = self._trusted and len(idle) < self._most and connection.slowest_s <= MAX_WAIT_S
            if keep:
                idle.append(connection)
        if not keep:
            connection.close()

    def distrust(self) -> None:
        """Close all connections, and keep none from now on: the server sent something unasked."""
        self._trusted = False
        self.close()

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            connections = [connection for idle in self._idle.values() for connection in idle]
            self._idle.clear()
        for connection in connections:
            connection.close()


def stays_silent(connection: Connection) -> bool:
    """Whether the server sends nothing behind a response on a kept connection."""
    wait_s = min(max(connection.slowest_s, MIN_WAIT_S), MAX_WAIT_S) if connection.rested else 0.0
    return not connection.listen(wait_s)
