"""What many tests need: a real S3 server."""

import secrets
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from stoker.flows.services import seaweed
from stoker.storage.errors import StorageUnavailable
from stoker.storage.stores.s3 import S3Store

BUCKET = "stoker-tests"
# On a machine that other work may hold up for minutes:
HANGS_S = 600.0  # after which a process is taken to hang
PATIENCE = 5  # times as long as on a quiet machine tests wait for what should come at once

settings.register_profile("stoker", deadline=None)  # of an example: a busy machine misses any
settings.load_profile("stoker")

# A shell has what it starts in the background ignore interrupts, and what that starts too; some tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, whichever worker takes them: in the end all workers have work."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[seaweed.Server]:
    """SeaweedFS on free loopback ports, with an empty bucket BUCKET; each worker of xdist has its own."""
    for attempt in range(3):
        server = seaweed.start(
            tmp_path_factory.mktemp("seaweed"),
            access_key="tests",
            secret_key=secrets.token_urlsafe(24),
            bucket=BUCKET,
        )
        try:
            server.wait_ready()
            break
        except StorageUnavailable:  # a port was taken between being chosen and being bound
            server.stop(now=True)
            if attempt == 2:
                raise
    try:
        server.create_bucket()
        yield server
    finally:
        server.stop(now=True)


@pytest.fixture
def s3_store(s3_server: seaweed.Server) -> S3Store:
    """A prefix of its own on the real server."""
    return S3Store(
        bucket=BUCKET,
        prefix=f"test-{secrets.token_hex(6)}",
        endpoint=s3_server.endpoint,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
    )
