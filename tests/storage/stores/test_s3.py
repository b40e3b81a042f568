"""S3 when things go wrong: on a real server, behind a network that misbehaves."""

import hashlib
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from stoker.flows.services import seaweed
from stoker.storage import open_store
from stoker.storage.errors import AlreadyExists, NotFound, StorageError, StorageRefused, StorageUnavailable
from stoker.storage.stores import s3, s3_client
from stoker.storage.stores.s3 import S3Store, create_bucket
from stoker.storage.stores.s3_client import S3Connection
from tests.conftest import BUCKET
from tests.storage.faulty import Fault, Proxy, faulty

PART = 5 * 2**20
BIG = 4 * PART + 3 * 2**20 + 17  # bytes: six parts


@pytest.fixture
def network(s3_server: seaweed.Server) -> Iterator[Proxy]:
    with faulty(s3_server.ports["s3"]) as proxy:
        yield proxy


@pytest.fixture
def shaky(s3_store: S3Store, network: Proxy) -> S3Store:
    return replace(s3_store, endpoint=network.endpoint, part_size=PART)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "big.tar"
    path.write_bytes(os.urandom(BIG))
    return path


def uploads(store: S3Store) -> list[str]:
    answer = store._connection.call("uploads", lambda client: client.list_multipart_uploads(Bucket=BUCKET))
    return [one["Key"] for one in answer.get("Uploads", []) if one["Key"].startswith(store.prefix)]


def test_a_big_file_goes_up_in_parts_and_comes_back_the_same(shaky: S3Store, network: Proxy, big: Path) -> None:
    shaky.create("big.tar", big)
    assert sum("partNumber=" in request for request in network.requests) == 5
    assert shaky.size("big.tar") == BIG
    assert hashlib.sha256(shaky.read("big.tar")).digest() == hashlib.sha256(big.read_bytes()).digest()
    assert shaky.read("big.tar", start=PART - 3, size=6) == big.read_bytes()[PART - 3 : PART + 3]


def test_a_big_object_is_created_once_and_its_second_upload_is_not_begun(
    shaky: S3Store, network: Proxy, big: Path
) -> None:
    shaky.create("big.tar", big)
    network.requests.clear()
    with pytest.raises(AlreadyExists, match="never overwritten"):
        shaky.create("big.tar", big)
    assert not any(request.startswith(("PUT", "POST")) for request in network.requests)


def test_a_big_object_that_appears_during_the_upload_stays(shaky: S3Store, big: Path) -> None:
    class Late(S3Store):
        def _head(self, key: str) -> dict[str, object]:
            raise NotFound("not yet")

    store = Late(**{name: getattr(shaky, name) for name in S3Store.__dataclass_fields__})
    shaky.write("big.tar", b"first")
    with pytest.raises(AlreadyExists, match="never overwritten"):
        store.create("big.tar", big)
    assert shaky.read("big.tar") == b"first"
    assert uploads(shaky) == []


def test_a_failed_upload_is_cleared_away(shaky: S3Store, network: Proxy, big: Path) -> None:
    network.plan = [("PUT", "refuse")] * 100
    with pytest.raises(StorageUnavailable, match="busy"):
        replace(shaky, attempts=2).create("big.tar", big)
    network.plan = []
    assert uploads(shaky) == []
    with pytest.raises(NotFound):
        shaky.read("big.tar")


@pytest.mark.parametrize("fault", ["refuse", "hang up"])
def test_a_passing_fault_is_not_noticed(shaky: S3Store, network: Proxy, fault: str) -> None:
    network.plan = [("PUT", fault), ("PUT", fault), ("GET", fault), ("HEAD", fault), ("DELETE", fault)]  # type: ignore[list-item]  # both are Faults
    shaky.create("a", b"payload")
    assert shaky.read("a") == b"payload"
    assert shaky.size("a") == 7
    shaky.delete("a")
    assert network.plan == []


def test_a_create_whose_answer_was_lost_finds_its_own_object(shaky: S3Store, network: Proxy) -> None:
    network.plan = [("PUT", "lose answer")]
    shaky.create("a", b"mine")
    assert network.plan == []
    assert shaky.read("a") == b"mine"


def test_a_create_whose_answers_were_all_lost_is_done_if_its_own_object_is_there(
    shaky: S3Store, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "_MAX_WAIT_S", 0.01)
    network.plan = [("PUT", "lose answer")] * s3_client.ATTEMPTS
    shaky.create("a", b"mine")
    assert network.plan == []
    network.plan = [("PUT", "lose answer")] * s3_client.ATTEMPTS
    with pytest.raises(StorageUnavailable):
        shaky.create("a", b"yours")
    assert shaky.read("a") == b"mine"
    network.plan = [("PUT", "hang up")] * s3_client.ATTEMPTS
    with pytest.raises(StorageUnavailable):
        shaky.create("b", b"never came")
    assert [stored.key for stored in shaky.list()] == ["a"]


def test_a_big_create_whose_answer_was_lost_finds_its_own_object(shaky: S3Store, network: Proxy, big: Path) -> None:
    network.plan = [("POST", "hang up"), ("POST", "lose answer")]  # the first begins the upload, the second ends it
    shaky.create("big.tar", big)
    network.plan = [("POST", "hang up"), ("POST", "lose answer")]
    shaky.write("other.tar", big)
    assert network.plan == []
    assert shaky.size("big.tar") == shaky.size("other.tar") == BIG


@pytest.mark.parametrize("payload", [b"theirs", b"mine"])
def test_a_lost_answer_does_not_claim_another_writers_object(
    shaky: S3Store, s3_store: S3Store, network: Proxy, payload: bytes
) -> None:
    s3_store.create("a", payload)
    network.plan = [("PUT", "lose answer")]
    with pytest.raises(AlreadyExists):
        shaky.create("a", b"mine")
    assert network.plan == []
    assert shaky.read("a") == payload


def test_a_cut_stream_goes_on_where_it_was_cut(shaky: S3Store, network: Proxy, big: Path) -> None:
    shaky.write("big.tar", big)
    network.requests.clear()
    network.plan = [("GET", "cut body")] * 3
    assert shaky.read("big.tar", start=100) == big.read_bytes()[100:]
    assert sum(request.startswith("GET") for request in network.requests) == 4


def test_an_object_replaced_during_a_read_is_read_anew(shaky: S3Store, s3_store: S3Store, network: Proxy) -> None:
    size = 12 * 2**20
    shaky.write("a", b"1" * size)
    network.plan = [("GET", "cut body")]

    class Replaced(S3Store):
        def _try_read(self, key, request):  # type: ignore[no-untyped-def]  # as its parent's
            try:
                return super()._try_read(key, request)
            except StorageUnavailable:
                s3_store.write("a", b"2" * size)
                raise

    store = Replaced(**{name: getattr(shaky, name) for name in S3Store.__dataclass_fields__})
    assert store.read("a") == b"2" * size


def test_what_is_altered_on_the_way_is_not_stored(shaky: S3Store, network: Proxy) -> None:
    network.always = "alter body"
    with pytest.raises(StorageError):
        replace(shaky, attempts=2).write("a", b"payload")
    network.always = None
    with pytest.raises(NotFound):
        shaky.read("a")


def test_a_server_that_stays_busy_is_given_up_in_bounded_time(shaky: S3Store, network: Proxy) -> None:
    network.always = "refuse"
    shaky = replace(shaky, attempts=3)
    started = time.monotonic()
    for call in (lambda: shaky.read("a"), lambda: shaky.write("a", b""), lambda: list(shaky.list())):
        network.requests.clear()
        with pytest.raises(StorageUnavailable, match=rf"{network.endpoint} is busy \(SlowDown\); try again later"):
            call()
        assert len(network.requests) == 3
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("fault", ["say html", "say nothing", "misdate", "forget more"])
def test_an_answer_that_is_no_listing_is_never_taken_for_an_empty_store(
    shaky: S3Store, network: Proxy, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "_MAX_WAIT_S", 0.01)
    keys = [f"a/{number}/b" for number in range(5)]
    for key in keys:
        shaky.write(key, b"x")
    asked = {"MaxKeys": 2} if fault == "forget more" else {}
    calls: list[Callable[[], Iterator[object]]]
    calls = [lambda: shaky._listed("a/", asked), lambda: shaky._common_prefixes("a/")]
    for call in calls if fault in ("say html", "say nothing") else calls[:1]:
        network.always = fault
        with pytest.raises(StorageUnavailable, match=r"answers as no S3 server does \(.*\); try again, and check"):
            list(call())
        network.always, network.plan = None, [("GET", fault)]
        assert len(list(call())) == 5, "one such answer is asked for again"


def test_a_server_that_redirects_all_is_refused_in_one_line(shaky: S3Store, network: Proxy) -> None:
    network.always = "redirect"
    for call in (lambda: list(shaky.list()), lambda: shaky.size("a"), lambda: shaky.read("a"), shaky.probe):
        with pytest.raises(StorageRefused, match=r"redirects every request|is not where this bucket is") as told:
            call()
        assert "\n" not in str(told.value)


def test_without_patience_requests_and_reads_are_tried_six_times(
    shaky: S3Store, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "_MAX_WAIT_S", 0.01)
    network.always = "refuse"
    for call in (lambda: shaky.read("a"), lambda: list(shaky.iter_bytes("a")), lambda: shaky.create("a", b"")):
        network.requests.clear()
        with pytest.raises(StorageUnavailable):
            call()
        assert len(network.requests) == s3_client.ATTEMPTS == 6


@pytest.mark.parametrize("patience_s", [None, 15.0])
def test_a_server_that_never_answers_is_told_in_bounded_time_with_a_line_meanwhile(
    shaky: S3Store,
    network: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    patience_s: float | None,
) -> None:
    monkeypatch.setattr(s3_client, "_MAX_WAIT_S", 0.01)
    network.always = "stall"
    scale = 0.04  # of all times
    for name in ("_STALLED_S", "_LAST_S", "TIMEOUT_S", "_FIRST_REPORT_S"):
        monkeypatch.setattr(s3_client, name, getattr(s3_client, name) * scale)
    monkeypatch.setattr(s3, "_LOOK_S", s3._LOOK_S * scale)
    store = replace(shaky, patience_s=patience_s and patience_s * scale)
    for call in (lambda: list(store.list()), lambda: store.read("a"), lambda: store.size("a"), store.probe):
        caplog.clear()
        s3_client._reported.clear()
        started = time.monotonic()
        with pytest.raises(StorageUnavailable, match="Read timeout"):
            call()
        assert time.monotonic() - started < 200 * scale, "six times a minute is 360"
        assert len(caplog.messages) == 1
        assert "s by now" in caplog.messages[0]


def test_the_longer_a_request_fails_the_longer_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "wait_s", lambda attempt: 0.0)

    def timeouts(attempts: int, patience_s: float) -> list[float]:
        retries, found = s3_client.Retries(S3Connection("http://a"), attempts, patience_s), list[float]()
        for _ in range(attempts - 1):
            found.append(retries.timeout_s)
            retries.wait(StorageUnavailable("busy"))
        return [*found, retries.timeout_s]

    assert timeouts(6, 0.0) == [5, 5, 5, 5, 5, 30]
    assert timeouts(6, 15.0) == [5, 5, 5, 5, 5, 30]
    assert timeouts(6, 50.0) == [5, 5, 5, 5, 30, 30]
    assert timeouts(6, 300.0) == [5, 5, 5, 5, 60, 60]
    assert timeouts(1, 0.0) == [30]


def test_with_patience_a_write_is_tried_until_the_server_is_back_and_is_its_writers_own(
    shaky: S3Store, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "_MAX_WAIT_S", 0.01)
    patient = shaky.with_patience()
    network.plan = [("PUT", "lose answer"), *[("PUT", "refuse")] * 30]  # type: ignore[list-item]  # both are Faults
    patient.create("a", b"mine")
    assert network.plan == []
    assert patient.read("a") == b"mine"
    assert patient.with_patience(5) == patient, "what was set stays"
    assert replace(shaky, attempts=2).with_patience().patience_s is None


def test_a_server_that_ignores_if_none_match_is_refused(shaky: S3Store, network: Proxy) -> None:
    network.always = "say 200"
    with pytest.raises(StorageRefused, match=r"ignores create-only writes .*; use a server that honours them"):
        shaky.probe()


def test_a_server_that_ignores_ranges_is_refused(shaky: S3Store, network: Proxy) -> None:
    network.always = "say 200"
    with pytest.raises(StorageRefused, match="ignores byte ranges"):
        shaky.read("a", start=5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"access_key": "nobody"}, "InvalidAccessKeyId.*: the access key is not known there"),
        ({"secret_key": "wrong"}, "SignatureDoesNotMatch.*: the secret key is wrong"),
        ({"bucket": "no-such-bucket"}, "has no such bucket; create it or correct the name"),
        ({"bucket": "No_Such?Bucket"}, "no-such|Invalid bucket name"),
        ({"endpoint": "no URL"}, "check the endpoint"),
    ],
)
def test_a_wrong_setting_is_told_at_once_in_one_line(
    s3_server: seaweed.Server, s3_store: S3Store, wrong: dict[str, str], message: str
) -> None:
    if "bucket" in wrong:  # that there is no such bucket is told to who may see all
        s3_store = _as_administrator(s3_store, s3_server)
    store = replace(s3_store, **wrong)  # type: ignore[arg-type]  # every field here is a text
    for call in (store.probe, lambda: store.read("a"), lambda: store.write("a", b""), lambda: list(store.list())):
        started = time.monotonic()
        with pytest.raises(StorageRefused, match=message) as told:
            call()
        assert time.monotonic() - started < 10  # six tries with pauses would take longer
        assert "\n" not in str(told.value)
        assert s3_store.secret_key is not None
        assert s3_store.secret_key not in str(told.value)


def _as_administrator(store: S3Store, server: seaweed.Server) -> S3Store:
    access_key, secret_key = server.administrator
    return replace(store, access_key=access_key, secret_key=secret_key)


def test_a_missing_bucket_is_told_from_a_missing_object(s3_server: seaweed.Server, s3_store: S3Store) -> None:
    with pytest.raises(NotFound, match="no such object"):
        s3_store.size("a")
    with pytest.raises(StorageRefused, match="no such bucket"):
        replace(_as_administrator(s3_store, s3_server), bucket="no-such-bucket").size("a")


def test_a_server_that_is_down_is_unavailable_and_named() -> None:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))  # bound but not listening: nobody else gets the port
        endpoint = f"http://127.0.0.1:{door.getsockname()[1]}"
        store = open_store("s3://corpora", endpoint=endpoint, access_key="a", secret_key="b")
        started = time.monotonic()
        with pytest.raises(StorageUnavailable, match=f"no answer from {endpoint}; is the server running"):
            store.probe()
        assert time.monotonic() - started < 15


def _read_in_child(store: S3Store, answer: Connection) -> None:
    answer.send_bytes(store.read("a"))


def test_a_forked_process_does_not_use_its_parents_connections(s3_store: S3Store) -> None:
    s3_store.write("a", b"x" * 100_000)
    fork = multiprocessing.get_context("fork")
    ends = [fork.Pipe(duplex=False) for _ in range(3)]
    children = [fork.Process(target=_read_in_child, args=(s3_store, write)) for _, write in ends]
    for child in children:
        child.start()
    for _ in range(20):
        assert s3_store.read("a") == b"x" * 100_000
    for (read, write), child in zip(ends, children, strict=True):
        assert read.poll(20)
        assert read.recv_bytes() == b"x" * 100_000
        child.join()
        read.close()
        write.close()


def test_a_bucket_is_made_once(s3_server: seaweed.Server) -> None:
    access_key, secret_key = s3_server.administrator
    keys = {"access_key": access_key, "secret_key": secret_key}
    for _ in range(2):
        create_bucket("made-once", endpoint=s3_server.endpoint, **keys)
    open_store("s3://made-once", endpoint=s3_server.endpoint, access_key=access_key, secret_key=secret_key).probe()
    with pytest.raises(StorageRefused, match=r"Invalid bucket name|InvalidBucketName"):
        create_bucket("No", endpoint=s3_server.endpoint, **keys)


def test_no_credentials_anywhere_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = open_store("s3://corpora", endpoint="http://127.0.0.1:1")
    with pytest.raises(StorageRefused, match=r"no usable credentials .*; set the access key and the secret key"):
        store.read("a")


def test_an_endpoint_of_boto3s_own_environment_is_used_and_named(
    s3_server: seaweed.Server, s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    store = replace(s3_store, endpoint=None, region="eu-west-2")  # another client than the other tests'
    for key in ("a/b", "a-b"):
        store.write(key, b"x")
    assert [stored.key for stored in store.list()] == ["a-b", "a/b"]
    assert not store._connection.is_aws
    with pytest.raises(StorageRefused, match=f"{s3_server.endpoint} has no such bucket"):
        replace(_as_administrator(store, s3_server), bucket="no-such-bucket").read("a")


def test_amazons_own_servers_are_known_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    assert S3Store("bucket", access_key="a", secret_key="b")._connection.is_aws
    assert S3Store("bucket", access_key="a", secret_key="b", region="cn-north-1")._connection.is_aws
    assert not S3Store("bucket", endpoint="https://s3.example.org", access_key="a", secret_key="b")._connection.is_aws


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    store = replace(s3_store, region="eu-west-1")  # another client than the other tests'
    store.write("a", b"x")
    assert store.read("a") == b"x"


def test_a_profile_of_the_environment_has_no_say_where_keys_are_given(
    s3_store: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "gone")
    s3_store.write("profile/a", b"1")
    made_now = replace(s3_store, region="eu-central-1")  # another client than the other tests'
    assert made_now.read("profile/a") == b"1"
    unkeyed = replace(made_now, access_key=None, secret_key=None)
    with pytest.raises(StorageRefused, match=r"profile \(gone\)"):
        unkeyed.read("profile/a")


@pytest.mark.parametrize("most", [1, 2, 1000])
def test_old_versions_of_objects_are_told_and_removed(
    s3_server: seaweed.Server, s3_store: S3Store, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Also where a listing's page ends between what was deleted and its versions."""
    page = s3._page_of_versions
    monkeypatch.setattr(s3, "_page_of_versions", lambda asked, client: page(asked | {"MaxKeys": most}, client))
    assert not s3_store.keeps_versions()
    administrator = _as_administrator(s3_store, s3_server)
    bucket = f"{administrator.bucket}-kept-{most}"
    client = administrator._connection.client()
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    kept = replace(administrator, bucket=bucket)
    for payload in (b"first", b"second"):
        kept.write("digits/a", payload)
    kept.write("digits/b", b"gone")
    kept.delete("digits/b")
    kept.write("other/c", b"1")
    kept.write("other/c", b"2")
    assert kept.keeps_versions()
    kept.delete_old_versions("digits/")
    listed = client.list_object_versions(Bucket=bucket)
    left = [one["Key"] for one in (*listed.get("Versions", ()), *listed.get("DeleteMarkers", ()))]
    assert sorted(left) == [f"{kept.prefix}/digits/a".lstrip("/"), *[f"{kept.prefix}/other/c".lstrip("/")] * 2]
    assert kept.read("digits/a") == b"second"
