"""What a network does to a stream: nothing is lost, nothing comes twice, and what cannot be mended is named."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.flows.services import seaweed
from stoker.storage.errors import StorageRefused, StorageUnavailable
from stoker.storage.shards.sample import Sample
from stoker.storage.stores import s3_client, s3_reading
from stoker.storage.stores.s3 import S3Store
from stoker.storage.versions.manifest import Manifest
from stoker.training.stream.stream import ShardStream
from tests.storage.faulty import Fault, Proxy, faulty
from tests.training import corpora

# Three megabytes a shard: several pieces, so that a cut comes in the middle.
SAMPLES = tuple(Sample(f"n{number:02d}", {"bin": bytes([number]) * 150_000}) for number in range(40))


@pytest.fixture
def network(s3_server: seaweed.Server) -> Iterator[Proxy]:
    with faulty(int(s3_server.endpoint.rpartition(":")[2])) as proxy:
        yield proxy


@pytest.fixture
def shaky(s3_store: S3Store, network: Proxy) -> S3Store:
    return replace(s3_store, endpoint=network.endpoint)


@pytest.fixture
def version(s3_store: S3Store, tmp_path: Path) -> Manifest:
    return corpora.version(s3_store, tmp_path, {"train": SAMPLES}, per_shard=20)


def keys(stream: ShardStream) -> list[str]:
    found = []
    for batch in stream:
        for sample in batch:
            assert sample.fields["bin"] == bytes([int(sample.key[1:])]) * 150_000
            found.append(sample.key)
    return found


@pytest.mark.parametrize("fault", ["refuse", "throttle", "hang up", "cut body", "reset", "drip", "lose answer"])
def test_no_sample_is_lost_or_doubled_by_a_passing_fault(
    shaky: S3Store, network: Proxy, version: Manifest, tmp_path: Path, fault: Fault
) -> None:
    stream = ShardStream(shaky, version, batch_size=7, cache=tmp_path / "cache")
    expected = stream.order(0).locate(0, 40)
    network.plan = [("GET", fault) for _ in range(4)]  # two shards and their indexes
    found = keys(stream)
    assert not network.plan, "the fault never came"
    names = [sample.key for sample in SAMPLES]
    rows = zip(expected[0].tolist(), expected[1].tolist(), strict=True)
    assert found == [names[20 * shard + row] for shard, row in rows]
    stream.close()


def test_a_server_that_stays_busy_ends_the_stream_by_name_and_the_state_goes_on(
    shaky: S3Store, network: Proxy, version: Manifest, tmp_path: Path
) -> None:
    expected = keys(ShardStream(shaky, version, batch_size=5, window=1, cache=tmp_path / "whole"))
    stream = ShardStream(replace(shaky, attempts=2), version, batch_size=5, window=1, cache=tmp_path / "cache")
    batches = iter(stream)
    found = [sample.key for _ in range(2) for sample in next(batches)]
    network.always = "refuse"
    (tmp_path / "cache").rename(tmp_path / "gone")
    fresh = ShardStream(replace(shaky, attempts=2), version, batch_size=5, window=1, cache=tmp_path / "cache")
    fresh.load_state_dict(stream.state_dict())
    with pytest.raises(StorageUnavailable, match=r"small/tombstones/|train-0000\d\.(tar|parquet)"):
        keys(fresh)
    fresh.close()  # or a request that is still on its way would be told of in the next loop
    network.always = None
    fresh.load_state_dict(stream.state_dict())
    assert found + keys(fresh) == expected


@pytest.mark.parametrize("fault", ["refuse", "hang up"])
def test_a_stream_waits_for_a_store_that_stays_away_and_says_so(
    shaky: S3Store,
    network: Proxy,
    version: Manifest,
    tmp_path: Path,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(s3_client, "_MAX_WAIT_S", 0.01)
    monkeypatch.setattr(s3_client, "_FIRST_REPORT_S", 0.1)
    stream = ShardStream(shaky, version, batch_size=5, window=1, cache=tmp_path / "cache")
    network.plan = [("GET", fault)] * 150  # twenty are too many for the default number of attempts
    assert sorted(keys(stream)) == [sample.key for sample in SAMPLES]
    stream.close()
    assert not network.plan
    lines = [record.getMessage() for record in caplog.records if record.name == s3_client.__name__]
    assert len(lines) <= 4, "one line while the server is away, and not one for each thread and request"
    assert "s by now, up to 300 s)" in lines[0]
    assert network.endpoint in lines[0]
    assert f"{network.endpoint} answers again, after" in lines[-1]


@pytest.mark.parametrize("fault", ["stall", "stall body"])
def test_a_connection_that_stalls_is_given_up_for_another(
    shaky: S3Store,
    network: Proxy,
    version: Manifest,
    tmp_path: Path,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_client, "_STALLED_S", 0.3)
    stream = ShardStream(shaky, version, batch_size=5, cache=tmp_path / "cache")
    network.plan = [("GET", fault)] * 6
    started = time.monotonic()
    assert sorted(keys(stream)) == [sample.key for sample in SAMPLES]
    assert time.monotonic() - started < s3_client.TIMEOUT_S
    stream.close()


def test_a_connection_that_trickles_is_given_up_for_another_and_within_the_patience(
    shaky: S3Store, network: Proxy, version: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte comes within the timeout, and a shard would take hours."""
    monkeypatch.setattr(s3_reading, "_WINDOW_S", 0.3)
    monkeypatch.setattr(s3_client, "_MAX_WAIT_S", 0.01)
    stream = ShardStream(shaky, version, batch_size=5, cache=tmp_path / "cache")
    network.plan = [("GET", "trickle")] * 6
    assert sorted(keys(stream)) == [sample.key for sample in SAMPLES]
    assert not network.plan
    stream.close()
    network.always = "trickle"
    other = ShardStream(replace(shaky, patience_s=1), version, batch_size=5, cache=tmp_path / "other")
    with pytest.raises(StorageUnavailable, match=r"the connection gives \d+ bytes a second; given up for another"):
        keys(other)
    other.close()


def test_a_patience_that_was_set_is_the_bound(
    shaky: S3Store, network: Proxy, version: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "_MAX_WAIT_S", 0.01)
    network.always = "refuse"
    for patience_s in (0, 0.5):
        stream = ShardStream(replace(shaky, patience_s=patience_s), version, cache=tmp_path / "cache")
        with pytest.raises(StorageUnavailable, match="is busy"):
            keys(stream)
        stream.close()


def test_keys_that_expire_are_told_and_new_ones_go_on(
    shaky: S3Store, network: Proxy, version: Manifest, tmp_path: Path
) -> None:
    stream = ShardStream(shaky, version, batch_size=7, cache=tmp_path / "cache")
    network.always = "expire"
    with pytest.raises(StorageRefused, match="the credentials have expired; get new ones"):
        keys(stream)
    stream.close()
    network.always = None
    assert sorted(keys(stream)) == [sample.key for sample in SAMPLES]
