"""Objects are read by their URL, without boto3's client, and with the errors that it would raise."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from stoker.storage.errors import NotFound, StorageRefused
from stoker.storage.stores import s3_client
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.s3_get import can_get
from stoker.storage.stores.s3_reading import ResumableRead


@pytest.mark.parametrize("key", ["a/b c/ü+%41&=~.tar", "quote'(1)!*,;:@$", "日本/語"])
def test_an_object_is_read_by_its_url_and_no_client_is_made(s3_store: S3Store, key: str) -> None:
    s3_store.write(key, b"0123456789")
    store = replace(s3_store, region="eu-west-3")  # a connection that no other test has
    before = set(s3_client._clients)
    assert store.read(key) == b"0123456789"
    assert store.read(key, start=3, size=4) == b"3456"
    assert store.read(key, start=10) == b""
    assert b"".join(store.iter_bytes(key, start=8)) == b"89"
    assert set(s3_client._clients) == before


def test_what_the_server_refuses_is_told_as_by_boto3(s3_store: S3Store) -> None:
    with pytest.raises(NotFound, match="no such object"):
        s3_store.read("absent")
    with pytest.raises(StorageRefused, match="the secret key is wrong"):
        replace(s3_store, secret_key="wrong").read("absent")
    with pytest.raises(StorageRefused, match="the access key is not known there"):
        replace(s3_store, access_key="nobody").read("absent")


@pytest.mark.parametrize(
    ("endpoint", "bucket", "can"),
    [
        ("http://127.0.0.1:8333", "corpora", True),
        ("https://minio.example.org/", "my.corpora", True),
        ("https://minio.example.org/s3", "corpora", True),
        (None, "corpora", False),
        ("https://s3.eu-west-1.amazonaws.com", "corpora", False),
        ("https://minio.example.org", "arn:aws:s3:eu-west-1:1:accesspoint/a", False),
        ("https://minio.example.org", "../corpora", False),
        ("https://minio.example.org?x", "corpora", False),
        ("http://127.0.0.1:port", "corpora", False),
        ("minio.example.org", "corpora", False),
    ],
)
def test_other_servers_than_aws_are_asked_without_the_client(endpoint: str | None, bucket: str, can: bool) -> None:
    assert can_get(endpoint, bucket) is can


class Bare(BaseHTTPRequestHandler):
    """Answers without an entity tag."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"abc")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        pass


@pytest.fixture
def bare_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Bare) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("by_client", [False, True])
def test_a_server_that_gives_no_entity_tag_is_read(by_client: bool, bare_server: str) -> None:
    store = S3Store("bucket", endpoint=bare_server, access_key="a", secret_key="b")
    connection = store._connection
    progress = ResumableRead(0, None)
    body = progress.open(
        connection.client() if by_client else connection.getter("bucket", 5.0), {"Bucket": "bucket", "Key": "a"}
    )
    assert progress.next_chunk(body) == b"abc"
    assert progress.etag is None
