"""Objects are read by their URL, without boto3's client, and with the errors that it would raise."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from stoker.flows.services import seaweed
from stoker.flows.services.certificates import make_certificates
from stoker.storage.errors import NotFound, StorageRefused, StorageUnavailable
from stoker.storage.stores import s3_client
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.s3_get import can_get
from stoker.storage.stores.s3_reading import ResumableRead
from stoker.training.stream.stream import ShardStream
from tests.training import corpora


@pytest.mark.parametrize("key", ["a/b c/ü+%41&=~.tar", "quote'(1)!*,;:@$", "日本/語"])
def test_an_object_is_read_by_its_url_and_no_client_is_made(s3_store: S3Store, key: str) -> None:
    s3_store.write(key, b"0123456789")
    store = replace(s3_store, region="eu-west-3")  # a connection that no other test has
    before = set(s3_client._clients)
    assert store.read(key) == b"0123456789"
    assert store.read(key, start=3, size=4) == b"3456"
    assert store.read(key, start=10) == b""
    assert b"".join(store.iter_bytes(key, start=8)) == b"89"
    assert [stored.key for stored in store.list(key.rpartition("/")[0])] == [key]
    assert set(s3_client._clients) == before


def test_a_listing_by_url_says_what_the_client_says(s3_store: S3Store) -> None:
    for number in range(7):
        s3_store.write(f"folder {number % 3}/ü+%41&=~ {number}", bytes(number))
    clients = s3_store._connection
    asked: dict[str, Any] = {"Bucket": s3_store.bucket, "Prefix": f"{s3_store.prefix}/folder", "MaxKeys": 2}
    others: list[dict[str, Any]] = [
        {},
        {"StartAfter": f"{s3_store.prefix}/folder 1/ü+"},
        {"Delimiter": "/", "Prefix": f"{s3_store.prefix}/"},
    ]
    for more in others:
        pages = [
            lister.list_objects_v2(**asked | more) for lister in (clients.client(), clients.getter(s3_store.bucket))
        ]
        while pages[0]["IsTruncated"]:
            expected, page = pages
            assert page["IsTruncated"]
            assert page.get("CommonPrefixes", []) == expected.get("CommonPrefixes", [])
            for entry, other in zip(expected.get("Contents", []), page.get("Contents", []), strict=True):
                assert other == {name: entry[name] for name in ("Key", "Size", "ETag", "LastModified")}
            token = {"ContinuationToken": expected["NextContinuationToken"]}
            pages = [
                lister.list_objects_v2(**asked | more | token)
                for lister in (clients.client(), clients.getter(s3_store.bucket))
            ]
        assert not pages[1]["IsTruncated"]


def test_a_version_is_opened_and_streamed_without_a_client(s3_store: S3Store, tmp_path: Path) -> None:
    manifest = corpora.version(s3_store, tmp_path, {"train": corpora.digits()[:64]})
    before = set(s3_client._clients)
    store = replace(s3_store, region="eu-west-3")  # a connection that no other test has
    with closing(ShardStream(store, manifest.reference, batch_size=16, cache=tmp_path / "cache")) as stream:
        assert len(list(stream)) == 4
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


class Relay:
    """Passes bytes between whoever connects and a server, and keeps those that came from the former."""

    def __init__(self, to: str, *, context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(to)
        assert parts.hostname
        assert parts.port
        self._to = parts.hostname, parts.port
        self._context = context
        self.heads: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                Thread(target=self._serve, args=(self._listening.accept()[0],), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), plain, socket.create_connection(self._to) as server:
            client = self._context.wrap_socket(plain, server_side=True) if self._context else plain
            with client:
                Thread(target=self._pass, args=(server, client), daemon=True).start()
                self._pass(client, server, told=True)

    def _pass(self, one: socket.socket, other: socket.socket, *, told: bool = False) -> None:
        with suppress(OSError):
            while payload := one.recv(65_536):
                if told:
                    self.heads.append(payload)
                other.sendall(payload)
            other.shutdown(socket.SHUT_WR)


def through(s3_store: S3Store, endpoint: str) -> S3Store:
    return S3Store(
        s3_store.bucket,
        prefix=s3_store.prefix,
        endpoint=endpoint,
        access_key=s3_store.access_key,
        secret_key=s3_store.secret_key,
        attempts=1,
    )


@pytest.fixture
def encrypted(s3_server: seaweed.Server, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The server behind TLS: its address, and the certificate of the authority that signed its own."""
    certificates = make_certificates(tmp_path, "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.certificate, certificates.key)
    with closing(Relay(s3_server.endpoint, context=context)) as relay:
        yield f"https://127.0.0.1:{relay.port}", certificates.authority


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_an_encrypted_server_is_read_with_the_users_certificates(
    s3_store: S3Store, encrypted: tuple[str, Path], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.write("a/b c", b"payload" * 1000)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, str(encrypted[1]))
    store = through(s3_store, encrypted[0])
    assert store.read("a/b c") == b"payload" * 1000
    assert store.read("a/b c", start=7, size=7) == b"payload"


def test_a_server_whose_certificate_nobody_signed_is_refused(
    s3_store: S3Store, encrypted: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    with pytest.raises((StorageRefused, StorageUnavailable), match=r"(?i)certificate") as told:
        through(s3_store, encrypted[0]).read("a")
    assert "\n" not in str(told.value)


def test_a_proxy_is_asked_for_other_machines(
    s3_store: S3Store, s3_server: seaweed.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.write("a", b"payload")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with closing(Relay(s3_server.endpoint)) as relay:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{relay.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{relay.port}")
        far = through(s3_store, "http://far.example:1234")
        with suppress(StorageRefused, StorageUnavailable):  # this one does not understand whole addresses in requests
            assert far.read("a") == b"payload"
        assert relay.heads[0].startswith(b"GET http://far.example:1234/")
        assert s3_store.read("a") == b"payload"  # of this machine: not through it
        assert len(relay.heads) == 1
