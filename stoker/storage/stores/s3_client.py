"""Connections to S3 servers: one boto3 client per process and server, bounded retries, errors as StorageError.

Retries are bounded by their number, and for readers with patience by the time since the first failure.
"""

import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from stoker.storage.errors import StorageRefused, StorageUnavailable
from stoker.storage.stores.s3_get import (
    CONNECT_TIMEOUT_S,
    LOOPBACK,
    POOL_CONNECTIONS,
    GetsObjects,
    ObjectGetter,
    can_get,
    is_aws,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
_log = logging.getLogger(__name__)

ATTEMPTS = 6
PATIENCE_S = 300.0  # that streams and trainings wait for a store, unless another time is set
_FIRST_WAIT_S, _MAX_WAIT_S = 0.2, 5.0
TIMEOUT_S = 60.0  # without a byte from the server: of uploads, and of who waits with patience
# The same for all requests that bring or ask little: another one is sooner answered than a stalled one. The last one is
# given more, so that also a slow server is heard, and one that never answers is told after a minute.
_STALLED_S, _LAST_S, _SHORT_TRIES = 5.0, 30.0, 4
_FIRST_REPORT_S, _REPORT_INTERVAL_S = 5.0, 30.0  # of an outage

_clients: dict[tuple["S3Connection", float], Any] = {}  # by timeout; Any: S3Client, whose module is for type checkers
_getters: dict[tuple["S3Connection", float], ObjectGetter] = {}  # by timeout
_sessions: dict["S3Connection", Any] = {}  # the second client of a session takes 9 ms, that of another one 150 ms
_reported: dict["S3Connection", float] = {}  # when an outage was last reported that has not ended
_lock = threading.Lock()


@dataclass(frozen=True)
class S3Connection:
    """A server and its credentials; without keys, boto3 looks for them in its usual places."""

    endpoint: str | None = None  # the server's URL; None: AWS, or what boto3's own configuration says
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    region: str | None = None

    @property
    def server(self) -> str:
        """The server's address, for messages."""
        clients = (client for (connection, _), client in list(_clients.items()) if connection == self)
        return self.endpoint or next((str(client.meta.endpoint_url) for client in clients), "AWS")

    @property
    def is_aws(self) -> bool:
        """Whether the server is AWS. Others differ from its documentation, for example in the order of listings."""
        return is_aws(self.endpoint or self.client().meta.endpoint_url)  # else an environment or profile names it

    def call(
        self,
        where: str,
        request: "Callable[[Any], T]",  # Any: boto3's client, or what asks by URL
        *,
        attempts: int = ATTEMPTS,
        patience_s: float = 0.0,
        timeout_s: float | None = None,
        bucket: str | None = None,
    ) -> T:
        """The result of a request, which is repeated while the server is busy or out of reach. Raises StorageError.

        ``where`` is the object or bucket that messages name; see Retries for ``attempts`` and ``patience_s``, and for
        ``timeout_s`` if it is None. With a ``bucket`` it is asked by ``getter``.
        """
        retries = Retries(self, attempts, patience_s)

        def ask() -> "T":
            longest_s = timeout_s or retries.timeout_s
            return _readable(request, self.client(longest_s) if bucket is None else self.getter(bucket, longest_s))

        return self._repeat(where, ask, retries)

    def once(self, where: str, request: "Callable[[], T]") -> T:
        """The result of a request that needs no client, or chooses one. Raises StorageError."""
        return self._repeat(where, request, Retries(self, attempts=1))

    def _repeat(self, where: str, request: "Callable[[], T]", retries: "Retries") -> T:
        from botocore.exceptions import BotoCoreError, ClientError

        from stoker.storage.stores.s3_faults import translate

        while True:
            try:
                result = request()
            except (BotoCoreError, ClientError, OSError) as error:
                translated = translate(error, where, self.server)
                if not isinstance(translated, StorageUnavailable):
                    raise translated from error
                retries.wait(translated, error)
            else:
                retries.succeeded()
                return result

    def check_credentials(self, where: str) -> None:
        """Raise StorageRefused if no credentials are found. Sends no request to the store; ``where`` is its URL."""
        from botocore.exceptions import BotoCoreError

        from stoker.storage.stores.s3_faults import translate

        try:
            credentials = _session(self).get_credentials()
        except BotoCoreError as error:
            raise translate(error, where, self.server) from error
        if credentials is None:
            raise StorageRefused(
                f"{where}: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
            )

    def client(self, timeout_s: float = _STALLED_S) -> "S3Client":
        """The client that all threads share; ``timeout_s``: after which a request without a byte fails."""
        with _lock:
            if (self, timeout_s) not in _clients:
                _clients[self, timeout_s] = _connect(self, timeout_s)
            client: S3Client = _clients[self, timeout_s]
        return client

    def getter(self, bucket: str, timeout_s: float = TIMEOUT_S) -> GetsObjects:
        """What reads and lists a bucket: boto3's client only where no lighter one can. All threads share it."""
        if self.endpoint is None or not can_get(self.endpoint, bucket):
            return self.client(timeout_s)
        with _lock:
            getter = _getters.get((self, timeout_s))
            if getter is None:
                session = _shared_session(self)
                getter = ObjectGetter.open(self.endpoint, _region(self, session), session, timeout_s)
                _getters[self, timeout_s] = getter
        return getter


@dataclass
class Retries:
    """The failures in a row of one request or read, and the waits between its attempts.

    There are at least ``attempts`` attempts, and further ones until ``patience_s`` seconds have passed since the first
    failure. While it waits it logs a line every half a minute for each server.
    """

    connection: S3Connection
    attempts: int
    patience_s: float = 0.0
    failures: int = 0
    _since: float = 0.0

    @property
    def timeout_s(self) -> float:
        """Seconds without a byte after which the next attempt is to fail."""
        least = _STALLED_S if self.failures + 1 < self.attempts else _LAST_S
        if self.failures < _SHORT_TRIES:
            return least
        left = self._since + self.patience_s - time.monotonic()
        return max((longer for longer in (_LAST_S, TIMEOUT_S) if longer <= left), default=least)

    def wait(self, error: StorageUnavailable, cause: BaseException | None = None) -> None:
        """Count a failure, and sleep before the next attempt. Raises the error if there is to be none."""
        now = time.monotonic()
        if not self.failures:
            self._since = now
        self.failures += 1
        waited = now - self._since
        if self.failures >= self.attempts and waited >= self.patience_s:
            raise error from cause
        if waited >= _FIRST_REPORT_S:
            self._report(error, waited, now)
        time.sleep(wait_s(self.failures))

    def succeeded(self) -> None:
        """The request was answered, or the read went on."""
        if self.failures:
            self.failures = 0
            with _lock:
                reported = _reported.pop(self.connection, None)
            if reported is not None:
                _log.warning("%s answers again, after %.0f s", self.connection.server, time.monotonic() - self._since)

    def _report(self, error: StorageUnavailable, waited: float, now: float) -> None:
        with _lock:
            if now - _reported.get(self.connection, -math.inf) < _REPORT_INTERVAL_S:
                return
            _reported[self.connection] = now
        most = f"up to {self.patience_s:.0f} s" if self.patience_s else f"{self.failures} times of {self.attempts}"
        _log.warning("%s (tried for %.0f s by now, %s)", error, waited, most)


def _readable(request: "Callable[[Any], T]", client: Any) -> T:  # Any: boto3's client, or what asks by URL
    """The result of a request. Raises BadAnswer, EndlessRedirect for answers that botocore cannot read."""
    from botocore.parsers import ResponseParserError

    from stoker.storage.stores.s3_faults import BadAnswer, EndlessRedirect

    try:
        return request(client)
    except (ResponseParserError, ValueError, OverflowError) as error:  # a date or a number that is none
        raise BadAnswer(str(error)) from error
    except RecursionError as error:  # botocore asks the server where the bucket is, and is sent on again
        raise EndlessRedirect from error


def default_credentials() -> tuple[str, str, str] | None:
    """How boto3 finds credentials in this process's environment, their access key and secret key; None without any.

    The first is boto3's word: "env", "shared-credentials-file", "iam-role", ... Raises StorageRefused.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = _session(S3Connection()).get_credentials()
        if found is None:
            return None
        keys = found.get_frozen_credentials()
    except (BotoCoreError, ClientError) as error:  # ClientError: STS refuses the role
        raise StorageRefused(f"credentials of S3: {error}") from error
    return str(found.method), str(keys.access_key), str(keys.secret_key)


def wait_s(attempt: int) -> float:
    """Seconds before the next attempt: exponential backoff with jitter."""
    longest: float = min(_MAX_WAIT_S, _FIRST_WAIT_S * 2 ** min(attempt - 1, 16))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  # no secret


def _connect(
    connection: S3Connection, timeout_s: float
) -> Any:  # Any: S3Client, whose module is for type checkers alone
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    options: dict[str, Any] = {}  # Any: keywords of botocore
    if connection.endpoint is not None:
        options["s3"] = {"addressing_style": "path"}  # bucket.127.0.0.1 is no host
        if urlsplit(connection.endpoint).hostname in LOOPBACK:
            options["proxies"] = {}
    config = Config(
        retries={"total_max_attempts": 1},  # retries are ours: a create-only write must know that it was tried before
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=timeout_s,
        max_pool_connections=POOL_CONNECTIONS,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="stoker",
        **options,
    )
    try:
        session = _shared_session(connection)
        return session.client(
            "s3", endpoint_url=connection.endpoint, config=config, region_name=_region(connection, session)
        )
    except (ValueError, BotoCoreError) as error:
        raise StorageRefused(f"{connection.server}: {error}; check the endpoint and the keys") from error


def _shared_session(connection: S3Connection) -> Any:  # Any: boto3 has no types of its own
    """The session of a connection's clients; to be called with the lock."""
    return _sessions.get(connection) or _sessions.setdefault(connection, _session(connection))


def _region(connection: S3Connection, session: Any) -> str:  # Any: boto3's session
    return str(connection.region or session.region_name or "us-east-1")


def _session(connection: S3Connection) -> Any:  # Any: boto3 has no types of its own
    import boto3  # slow to import: only for S3
    import botocore.session

    core = None
    if connection.access_key is not None:  # a profile of the environment, which may be gone, has no say then
        core = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    return boto3.session.Session(
        botocore_session=core,
        aws_access_key_id=connection.access_key,
        aws_secret_access_key=connection.secret_key,
        region_name=connection.region,
    )


def _forget_clients() -> None:
    """After a fork, in the child: the parent's sockets, and a lock that its threads may hold, cannot be used."""
    global _lock
    _clients.clear()
    _getters.clear()
    _sessions.clear()
    _reported.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_clients)
