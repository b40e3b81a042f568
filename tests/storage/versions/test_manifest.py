"""Manifests and the catalog: what is published stays, and what is wrong with one is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.storage.errors import AlreadyExists, CorruptShard, NotFound, StorageRefused
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog, layout
from stoker.storage.versions import manifest as manifest_module
from stoker.storage.versions.manifest import SCHEMA, SplitTotals, load_manifest, publish
from stoker.storage.versions.sealed import seal
from tests.storage.published import CORPUS, make_version, old_json

GOLDEN = Path(__file__).parent / "golden"
KEY = layout.version(CORPUS, 1)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_a_manifests_json_is_this_but_for_what_parquet_writers_decide(store: MemoryStore) -> None:
    """Parquet names its writer's version in the file, so those checksums and sizes change with pyarrow."""
    make_version(store, 2)
    found = json.loads(store.read(layout.version(CORPUS, 2)))
    for one in (found["decisions"], *found["lists"].values()):
        one |= {"key": "depends on pyarrow", "sha256": "depends on pyarrow", "size": 0}
    found["checksum"] = "depends on pyarrow"
    assert found == json.loads((GOLDEN / "manifest-3.json").read_bytes())


@pytest.mark.parametrize("name", ["manifest.json", "manifest-indexed.json"])
def test_the_manifests_of_earlier_releases_are_read_for_ever(store: MemoryStore, name: str) -> None:
    content = json.loads((GOLDEN / name).read_bytes())
    for shard in content["shards"]:
        shard["index_size"] = 1
    sha256 = "0" * 64
    content["decisions"] |= {"key": layout.decisions(content["corpus"], sha256), "sha256": sha256}
    for part in content["parts"]:
        part |= {"records": layout.raw_records(content["corpus"], part["digest"], sha256), "records_sha256": sha256}
    key = layout.version(content["corpus"], content["version"])
    store.write(key, json.dumps(content).encode())
    found = load_manifest(store, content["corpus"])
    assert found.schema == content["schema"]
    assert list(found.lists) == []
    if name == "manifest.json":
        assert found.splits == {"train": SplitTotals(8, 2, 26624), "validation": SplitTotals(3, 1, 10240)}
        assert (found.read, found.kept, found.samples) == (16, 11, 11)


def test_the_same_version_in_the_json_of_earlier_releases_is_the_same(store: MemoryStore) -> None:
    manifest = make_version(store)
    store.write(KEY, json.dumps(old_json(manifest)).encode())
    assert replace(load_manifest(store, CORPUS), content=manifest.content) == manifest
    assert verify(store, load_manifest(store, CORPUS)).problems == ()


def test_what_is_published_is_loaded(store: MemoryStore) -> None:
    manifest = make_version(store)
    assert load_manifest(store, CORPUS) == manifest
    assert load_manifest(store, CORPUS, 1) == manifest
    assert load_manifest(store, "digits@1") == manifest


def test_everything_is_accounted_for(store: MemoryStore) -> None:
    manifest = make_version(store)
    assert manifest.read == 16
    assert manifest.kept == manifest.samples == 11
    assert manifest.rejected == {"exact_duplicate": 1, "gone": 2, "too_small": 2}
    assert manifest.read == manifest.kept + sum(manifest.rejected.values())
    assert list(manifest.splits) == ["train", "validation"]


def test_splits_are_in_the_order_of_the_shards(store: MemoryStore) -> None:
    manifest = make_version(store)
    publish(store, replace(manifest, version=2, shards=manifest.shards[::-1]))
    assert list(load_manifest(store, CORPUS).splits) == ["validation", "train"]


def test_a_published_version_is_never_overwritten(store: MemoryStore) -> None:
    manifest = make_version(store)
    before = store.read(layout.version(CORPUS, 1))
    with pytest.raises(AlreadyExists, match="digits@1 is published and is never overwritten"):
        publish(store, manifest)
    assert store.read(layout.version(CORPUS, 1)) == before


def test_the_newest_version_is_loaded_if_none_is_named(store: MemoryStore) -> None:
    for version in (1, 2, 10):
        make_version(store, version)
    assert catalog.versions(store, CORPUS) == [1, 2, 10]
    assert load_manifest(store, CORPUS).version == 10
    assert load_manifest(store, "digits@2").version == 2
    with pytest.raises(StorageRefused, match="names version 2, not 1"):
        load_manifest(store, "digits@2", 1)


def test_the_catalog_holds_only_what_has_a_version(store: MemoryStore) -> None:
    make_version(store)
    store.write("half/raw/0123/part.json", b"{}")
    store.write("Odd Name/versions/00000001.json", b"{}")
    store.write("digits/versions/notes.txt", b"")
    store.write("digits/versions/1.json", b"")
    assert catalog.corpora(store) == ["digits"]
    assert catalog.versions(store, "digits") == [1]
    assert catalog.versions(store, "nothing") == []


def test_a_corpus_that_was_read_and_never_published_is_told_as_such(store: MemoryStore) -> None:
    make_version(store)
    store.write("half/raw/0123/part.json", b"{}")
    for asked in ("half", "half@1"):
        with pytest.raises(NotFound, match=r"half has no version yet: .*`stoker check RECIPE --sample 20`"):
            load_manifest(store, asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("digit", "no corpus is called 'digit'; did you mean 'digits'?"),
        ("zebra", "no corpus is called 'zebra'; there are: digits"),
        ("digits@9", "digits has no version 9; it has 1"),
        ("digits@0", "'digits@0' names no corpus; expected a name like 'digits', or 'digits@2'"),
        ("Digits", "'Digits' names no corpus"),
        ("../digits", "'../digits' names no corpus"),
        ("", "'' names no corpus"),
        ("digits@x", "'digits@x' names no corpus"),
        ("digits@999999999", "names no corpus"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(store: MemoryStore, asked: str, message: str) -> None:
    make_version(store)
    with pytest.raises(NotFound) as told:
        load_manifest(store, asked)
    assert message in str(told.value)


def test_an_empty_store_says_so(store: MemoryStore) -> None:
    with pytest.raises(NotFound, match="the store holds none yet"):
        load_manifest(store, "digits")


def damage(store: MemoryStore, change: Any) -> None:
    key = layout.version(CORPUS, 1)
    content = json.loads(store.read(key))
    del content["checksum"]
    change(content)
    store.write(key, seal(content))


def test_a_manifest_without_its_checksum_is_damaged_and_older_ones_never_had_any(store: MemoryStore) -> None:
    manifest = make_version(store)
    content = json.loads(store.read(KEY))
    del content["checksum"]
    store.write(KEY, json.dumps(content).encode())
    with pytest.raises(
        CorruptShard, match=r"00000001\.json: its checksum is missing, .* schema 3 .*; restore it from a"
    ):
        load_manifest(store, CORPUS)
    store.write(KEY, json.dumps(old_json(manifest)).encode())
    assert load_manifest(store, CORPUS).samples == manifest.samples


def test_a_newer_schema_is_refused_with_what_to_do(store: MemoryStore) -> None:
    make_version(store)
    damage(store, lambda content: content.update(schema=SCHEMA + 1, lists="of another kind"))
    with pytest.raises(StorageRefused, match="written with schema 4, and this Stoker knows up to 3; upgrade Stoker"):
        load_manifest(store, CORPUS)


def test_fields_of_tomorrow_do_not_disturb(store: MemoryStore) -> None:
    manifest = make_version(store)
    damage(store, lambda content: content.update(mood="good"))
    assert load_manifest(store, CORPUS) == manifest


@pytest.mark.parametrize(
    "half", [b"", b"{", b'{"corpus": "digits"', b"\xff\xfe", b"null", b"[]", b"7", b"[" * 100_000, b'{"a":' * 100_000]
)
def test_half_a_manifest_is_corrupt_and_no_crash(store: MemoryStore, half: bytes) -> None:
    make_version(store)
    store.write(layout.version(CORPUS, 1), half)
    with pytest.raises(CorruptShard, match=r"digits/versions/00000001\.json: ") as told:
        load_manifest(store, CORPUS)
    assert "\n" not in str(told.value)


def test_a_manifest_of_another_name_is_corrupt(store: MemoryStore) -> None:
    make_version(store)
    store.write(layout.version("other", 1), store.read(layout.version(CORPUS, 1)))
    with pytest.raises(CorruptShard, match="holds digits@1, so it was copied or renamed; restore it"):
        load_manifest(store, "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.clear(), "'schema' is missing"),
        (lambda content: content.update(corpus="d" * 5000), f"holds {'d' * 80}@1, so it was copied"),
        (
            lambda content: content["licences"].update({"L" * 5000: "many"}),
            "'LLL.*' is a text, expected a whole number",
        ),
        (lambda content: content["licences"].update(unknown=-(10**4000)), "'unknown' is -1000"),
        (lambda content: content.update(tars="file:///etc"), "'tars' is 'file:///etc', expected null"),
        (lambda content: content["recipe"].update(source=[]), "recipe: 'source' is a list, expected an object"),
        (
            lambda content: content["recipe"].update(source=True),
            "recipe: 'source' is true or false, expected an object",
        ),
        (lambda content: content["recipe"].update(steps=["x"]), r"recipe: steps\[0\]: a text, expected a JSON object"),
        (lambda content: content["recipe"].update(rules={}), "recipe: 'rules' is an object, expected a list"),
        (lambda content: content["recipe"].update(splits="x"), "recipe: 'splits' is a text, expected an object"),
    ],
)
def test_a_wrong_manifest_is_told_in_one_short_line_with_what_helps(
    store: MemoryStore, change: Any, message: str
) -> None:
    make_version(store)
    damage(store, change)
    with pytest.raises(CorruptShard, match=message) as told:
        load_manifest(store, CORPUS)
    assert "restore it from a copy" in str(told.value)
    assert len(str(told.value)) < 500
    assert "\n" not in str(told.value)


class Measured(MemoryStore):
    """Remembers the most bytes that one object gave, and of a size for each key that only ``size`` knows."""

    most = 0

    def read(self, key: str, *, start: int = 0, size: int | None = None) -> bytes:
        payload = super().read(key, start=start, size=size)
        self.most = max(self.most, len(payload))
        return payload


def test_a_manifest_of_more_bytes_than_any_has_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_module, "_MAX_SIZE", 3_000)
    monkeypatch.setattr(manifest_module, "_MAX_OLD_SIZE", 30_000)
    store = Measured()
    made = make_version(store)
    sound = store.read(KEY)
    padded = json.dumps(old_json(made) | {"padding": "x" * 5_000}).encode()
    assert len(padded) > 3_000
    store.write(KEY, padded)
    assert load_manifest(store, CORPUS).samples == made.samples
    store.most = 0
    store.write(KEY, sound + b" " * 50_000)
    with pytest.raises(CorruptShard, match=rf"{len(sound) + 50_000:,} bytes, expected at most 30,000; restore it"):
        load_manifest(store, CORPUS)
    assert store.most == 3_001
    store.write(KEY, sound + b" " * 5_000)
    with pytest.raises(CorruptShard, match=rf"{len(sound) + 5_000:,} bytes, expected at most 3,000; restore it"):
        load_manifest(store, CORPUS)


def test_a_manifest_that_none_would_read_is_not_published(monkeypatch: pytest.MonkeyPatch, store: MemoryStore) -> None:
    made = make_version(store)
    before = [one.key for one in store.list()]
    monkeypatch.setattr(manifest_module, "_MAX_SIZE", 1_000)
    with pytest.raises(StorageRefused, match=r"digits@2: its manifest has .* bytes, expected at most 1,000: it counts"):
        publish(store, replace(made, version=2))
    assert [one.key for one in store.list()] == before


_FREE = ("recipe", "statistics")  # objects that a manifest only carries
_COUNTS = ("rejected", "dropped", "licences")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every field that a manifest promises."""
    if isinstance(value, dict) and (not path or path[-1] not in (*_FREE, *_COUNTS)):
        return [place for name, one in value.items() for place in places(one, (*path, name))]
    if isinstance(value, list):
        return [path, *places(value[0], (*path, 0))]
    return [path]


@pytest.mark.parametrize("old", [True, False])
def test_every_field_that_is_missing_or_mistyped_is_named(store: MemoryStore, old: bool) -> None:
    manifest = make_version(store)
    whole = old_json(manifest) if old else json.loads(store.read(KEY))
    whole.pop("checksum", None)
    fields = [place for place in places(whole) if place[-1] != 0]
    assert len(fields) > 30
    for place in fields:
        for wrong in ("missing", 1.5, None, True, [1], -1, {"a": "b"}):
            if (wrong is None and place[-1] in ("parent", "parent_checksum", "tars")) or (
                isinstance(wrong, dict) and place[-1] in _FREE
            ):
                continue
            content = json.loads(json.dumps(whole))
            parent = content
            for step in place[:-1]:
                parent = parent[step]
            if wrong == "missing":
                del parent[place[-1]]
            else:
                parent[place[-1]] = wrong
            store.write(KEY, json.dumps(content).encode() if old else seal(content))
            with pytest.raises((CorruptShard, StorageRefused)) as told:
                load_manifest(store, CORPUS)
            assert str(told.value).startswith(f"memory:/{KEY}: ")
            assert (
                str(place[-1]) in str(told.value) or place[-1] in ("shards", "splits") or isinstance(wrong, list | dict)
            )


def test_the_repr_of_a_manifest_says_its_name_and_totals_in_one_line(store: MemoryStore) -> None:
    manifest = make_version(store)
    assert repr(manifest) == f"Manifest(digits@1: 11 samples in train 8, validation 3; {manifest.size:,} bytes)"
