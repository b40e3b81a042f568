"""How S3 servers are reached: one client a process for each, bounded retries, errors in our words."""

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from stoker.storage.errors import StorageRefused, StorageUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")
ATTEMPTS = 6
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 5.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")

_clients: dict["Access", Any] = {}  # Any: S3Client, whose module is for type checkers alone
_lock = threading.Lock()


@dataclass(frozen=True)
class Access:
    """A server and the keys to it; without keys, boto3's own chain finds them."""

    endpoint: str | None = None  # None: AWS
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    region: str | None = None

    @property
    def server(self) -> str:
        """Its address, which boto3 may have from the environment."""
        found = _clients.get(self)
        return self.endpoint or (found.meta.endpoint_url if found else "AWS")

    @property
    def is_aws(self) -> bool:
        """Whether it is Amazon's own, which keeps to its documentation."""
        host = urlsplit(self._client().meta.endpoint_url).hostname or ""
        return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))

    def ask(self, where: str, ask: "Callable[[S3Client], T]", *, attempts: int = ATTEMPTS) -> T:
        """What the server answers about ``where``. Raises StorageError; busy servers are asked again first."""
        from botocore.exceptions import BotoCoreError, ClientError

        from stoker.storage.stores.s3_faults import translate

        attempt = 1
        while True:
            try:
                return ask(self._client())
            except (BotoCoreError, ClientError, OSError) as error:
                told = translate(error, where, self.server)
                if attempt >= attempts or not isinstance(told, StorageUnavailable):
                    raise told from error
                time.sleep(wait_s(attempt))
                attempt += 1

    def _client(self) -> "S3Client":
        with _lock:
            if self not in _clients:
                _clients[self] = _connect(self)
            client: S3Client = _clients[self]
        return client


def wait_s(attempt: int) -> float:
    """Seconds before the next try: doubling, with jitter so that many clients do not come back at once."""
    longest: float = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  # no secret


def _connect(access: Access) -> Any:  # Any: S3Client, whose module is for type checkers alone
    import boto3  # slow to load: only who uses S3 pays for it
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    options: dict[str, Any] = {}  # Any: keywords of botocore
    if access.endpoint is not None:
        options["s3"] = {"addressing_style": "path"}  # bucket.127.0.0.1 is no host
        if urlsplit(access.endpoint).hostname in _LOOPBACK:
            options["proxies"] = {}
    config = Config(
        retries={"total_max_attempts": 1},  # we count: a create-only write must know that it was tried before
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=64,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="stoker",
        **options,
    )
    try:
        session = boto3.session.Session(
            aws_access_key_id=access.access_key,
            aws_secret_access_key=access.secret_key,
            region_name=access.region,
        )
        region = access.region or session.region_name or "us-east-1"
        return session.client("s3", endpoint_url=access.endpoint, config=config, region_name=region)
    except (ValueError, BotoCoreError) as error:
        raise StorageRefused(f"{access.server}: {error}; check the endpoint and the keys") from error


def _forget_clients() -> None:
    """After a fork: the parent's sockets, and a lock that one of its threads may hold, are no good here."""
    global _lock
    _clients.clear()
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_clients)
