"""Every kind of damage to a version is found, and named by its object."""

import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stoker.storage.errors import StorageUnavailable
from stoker.storage.shards import records
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest, Part, Shard
from tests.storage.published import make_version, sample


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def flip(store: Store, key: str, place: int) -> None:
    payload = bytearray(store.read(key))
    payload[place] ^= 1
    store.write(key, payload)


def all_keys(manifest: Manifest) -> list[str]:
    found = [manifest.decisions.key]
    found += [key for shard in manifest.shards for key in (shard.key, shard.index)]
    return found + [key for part in manifest.parts for key in (part.tar, part.records)]


def test_an_intact_version_has_no_problem(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    manifest = make_version(store)
    steps: list[tuple[int, int]] = []
    found = verify(store, manifest, progress=lambda done, whole: steps.append((done, whole)))
    assert found.problems == ()
    assert (found.shards, found.samples) == (3, 11)
    assert found.size == sum(store.size(key) for key in all_keys(manifest)) == steps[-1][0]
    assert steps == sorted(steps)
    assert all(done <= whole for done, whole in steps)


@pytest.mark.parametrize("number", range(11))
def test_a_flipped_byte_anywhere_is_found(store: MemoryStore, number: int) -> None:
    manifest = make_version(store)
    key = all_keys(manifest)[number]
    size = store.size(key)
    for place in (0, size // 2, size - 1):
        flip(store, key, place)
        assert any(problem.startswith(f"{key}: sha256 ") for problem in verify(store, manifest).problems)
        flip(store, key, place)
    assert verify(store, manifest).problems == ()


class Altering(MemoryStore):
    """A store that gives some objects with another last byte when they are read first."""

    altered: frozenset[str] = frozenset()

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        payload = super().read(key, start=start, size=size)
        if key not in self.altered or not payload:
            return payload
        self.altered -= {key}
        return payload[:-1] + bytes([payload[-1] ^ 1])


def test_what_was_altered_on_the_way_is_read_once_more_and_is_no_problem() -> None:
    store = Altering()
    manifest = make_version(store)
    store.altered = frozenset(all_keys(manifest))
    assert verify(store, manifest).problems == ()
    assert not store.altered


@pytest.mark.parametrize("number", range(11))
def test_a_missing_object_is_found(store: MemoryStore, number: int) -> None:
    manifest = make_version(store)
    key = all_keys(manifest)[number]
    store.delete(key)
    assert f"{key}: is missing" in verify(store, manifest).problems


@pytest.mark.parametrize("number", range(11))
@pytest.mark.parametrize("cut", [0, 1, 1024])
def test_a_truncated_object_is_found(store: MemoryStore, number: int, cut: int) -> None:
    manifest = make_version(store)
    key = all_keys(manifest)[number]
    store.write(key, store.read(key)[: -cut or None] if cut else b"")
    assert any(problem.startswith(f"{key}: ") for problem in verify(store, manifest).problems)


def with_shard(manifest: Manifest, number: int, **changes: object) -> Manifest:
    shards = list(manifest.shards)
    shards[number] = replace(shards[number], **changes)  # type: ignore[arg-type]  # each test gives the right type
    return replace(manifest, shards=tuple(shards))


def with_part(manifest: Manifest, number: int, **changes: object) -> Manifest:
    parts = list(manifest.parts)
    parts[number] = replace(parts[number], **changes)  # type: ignore[arg-type]  # each test gives the right type
    return replace(manifest, parts=tuple(parts))


def rewritten(store: Store, shard: Shard, change: Callable[[list[dict[str, object]]], object]) -> dict[str, object]:
    """The shard's index with other rows, its checksum right: damage done by a writer, not by a disk."""
    rows = records.decode(store.read(shard.index)).to_pylist()
    change(rows)
    payload = records.encode(rows)
    store.write(shard.index, payload)
    return {"index_size": len(payload), "index_sha256": records.sha256(payload)}


def test_a_wrong_count_is_found(store: MemoryStore) -> None:
    manifest = make_version(store)
    wrong = {
        "holds 4 samples, but the manifest says 5": with_shard(manifest, 0, samples=5),
        "has 8 rows, 6 kept": with_part(manifest, 0, read=9),
        "read 9, but kept 6 and rejected": with_part(manifest, 0, read=9),
        "drops {'exact_duplicate': 1} and moves 1, but the manifest says {'exact_duplicate': 2} and 1": replace(
            manifest, decisions=replace(manifest.decisions, dropped={"exact_duplicate": 2})
        ),
        "counts licences of 3 samples, but its shards hold 11": replace(manifest, licences={"CC0-1.0": 3}),
        "split 'train': statistics of 0 samples, but it has 8": replace(manifest, statistics={}),
        "split 'train': statistics that cannot be read": replace(
            manifest, statistics={**manifest.statistics, "train": {"samples": 8}}
        ),
    }
    for message, one in wrong.items():
        assert any(message in problem for problem in verify(store, one).problems), message


def test_a_sample_that_is_lost_or_twice_there_is_found(store: MemoryStore) -> None:
    manifest = make_version(store)
    first = manifest.shards[0]
    lost = replace(manifest, shards=manifest.shards[1:])
    assert any("11 samples were kept, but its shards hold 7" in problem for problem in verify(store, lost).problems)
    twice = replace(manifest, shards=(first, *manifest.shards))
    found = verify(store, twice).problems
    assert f"{first.index}: sample 's-000' is in {first.key} too" in found


def test_a_sample_of_no_part_and_one_of_no_shard_are_found(store: MemoryStore) -> None:
    manifest = make_version(store)
    changes = rewritten(store, manifest.shards[0], lambda rows: rows[1].update(part="f" * 32))
    found = verify(store, with_shard(manifest, 0, **changes)).problems
    assert "digits@1: sample 's-001' of partition 'first' was kept, but is in no shard" in found
    assert f"{manifest.shards[0].key}: sample 's-001' is in no part, or was dropped" in found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1]["members"][0].update(offset=7), "row 1 says 's-001' with cls at 7"),
        (lambda rows: rows[1].update(key="other"), "row 1 says 'other' with"),
        (lambda rows: rows[1].update(members=None), "its column 'members' has no value in 1 places, expected list"),
        (lambda rows: rows.reverse(), "row 0 says 's-003'"),
        (lambda rows: rows[1].update(start=0), "do not lie end to end"),
        (lambda rows: rows[-1].update(stop=1), "do not lie end to end"),
        (lambda rows: rows[0].update(split="test"), "names other splits than 'train'"),
        (lambda rows: rows.pop(), "has 3 rows, but the manifest says 4 samples"),
        (lambda rows: [row.pop("part") for row in rows], "its column 'part' is missing, expected string"),
    ],
)
def test_an_index_that_does_not_fit_its_tar_is_found(
    store: MemoryStore, change: Callable[..., object], message: str
) -> None:
    manifest = make_version(store)
    changes = rewritten(store, manifest.shards[0], change)
    found = verify(store, with_shard(manifest, 0, **changes)).problems
    assert any(problem.startswith(f"{manifest.shards[0].index}: ") and message in problem for problem in found)


def test_an_index_that_is_no_parquet_is_found(store: MemoryStore) -> None:
    manifest = make_version(store)
    store.write(manifest.shards[0].index, b"PAR1 but not really PAR1")
    changes = {"index_size": 24, "index_sha256": records.sha256(b"PAR1 but not really PAR1")}
    found = verify(store, with_shard(manifest, 0, **changes)).problems
    assert any(problem.startswith(f"{manifest.shards[0].index}: not Parquet records") for problem in found)


def test_a_record_that_is_not_the_samples_own_is_found(store: MemoryStore) -> None:
    manifest = make_version(store)
    shard = manifest.shards[0]
    payload = (
        store.read(shard.key).replace(b'"key":"s-001"', b'"key":"s-0XX"').replace(b'{"group":"g2"', b'["group":"g2"')
    )
    store.write(shard.key, payload)
    found = verify(store, with_shard(manifest, 0, sha256=records.sha256(payload))).problems
    assert [problem for problem in found if "'s-001' has no record of its own" in problem]
    assert [problem for problem in found if "'s-002' has no record of its own" in problem]


def test_raw_records_that_do_not_fit_their_tar_are_found(store: MemoryStore) -> None:
    manifest = make_version(store)
    part: Part = manifest.parts[0]
    rows = records.decode(store.read(part.records)).to_pylist()
    rows[0]["members"][0]["offset"] += 512
    payload = records.encode(rows)
    store.write(part.records, payload)
    found = verify(store, with_part(manifest, 0, records_sha256=records.sha256(payload))).problems
    told = f"{part.records}: does not say where the samples of {part.tar} lie: row 0 says "
    assert any(problem.startswith(told) for problem in found)


def test_another_tar_in_a_shards_place_is_found(store: MemoryStore) -> None:
    manifest = make_version(store)
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        info = tarfile.TarInfo("x.txt")
        tar.addfile(info)
    store.write(manifest.shards[0].key, sink.getvalue())
    found = verify(store, manifest).problems
    assert any(problem.startswith(f"{manifest.shards[0].key}: has 10240 bytes, but") for problem in found)
    assert not any(manifest.shards[0].index in problem for problem in found)  # which is as it was


def test_a_store_that_cannot_be_reached_is_an_error_not_a_finding(store: MemoryStore) -> None:
    class Down(MemoryStore):
        def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
            raise StorageUnavailable("down")

    manifest = make_version(store)
    with pytest.raises(StorageUnavailable):
        verify(Down(), manifest)


def test_the_samples_of_these_tests_differ() -> None:
    assert sample(1) != sample(2)
