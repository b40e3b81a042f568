"""Studies in a store: written whole, read only as they were written, known to gc and verify."""

from dataclasses import replace

import pytest

from stoker.storage.errors import CorruptShard
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout, orphans
from stoker.storage.versions.deleted import delete_version
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.measured.studies import Study, load_study, save_study, studies_of
from tests.storage.published import make_version


def study(manifest: Manifest, **changes: object) -> Study:
    made = Study(
        corpus=manifest.corpus,
        version=manifest.version,
        kind="quick",
        content=manifest.content,
        measure="accuracy",
        updated_at="2026-01-01T00:00:00+00:00",
        about={"pixels": 32},
        claims=({"name": "depth", "verdict": "held"},),
        rows=({"name": "plain", "runs": [{"seed": 0, "score": 0.5}]},),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of a Study


@pytest.fixture
def stored() -> tuple[MemoryStore, Manifest]:
    store = MemoryStore()
    return store, make_version(store)


def test_what_was_saved_is_loaded(stored: tuple[MemoryStore, Manifest]) -> None:
    store, manifest = stored
    save_study(store, study(manifest))
    assert studies_of(store, manifest.corpus, manifest.version) == [study(manifest)]
    assert load_study(store, manifest.corpus, manifest.version, "full") is None


def test_an_altered_byte_is_found_and_verify_names_the_remedy(stored: tuple[MemoryStore, Manifest]) -> None:
    store, manifest = stored
    save_study(store, study(manifest))
    assert verify(store, manifest).problems == ()
    key = layout.study(manifest.corpus, manifest.version, "quick")
    store.write(key, store.read(key).replace(b"0.5", b"0.9"))
    with pytest.raises(CorruptShard, match="differs from its own checksum; `stoker study` measures it again"):
        load_study(store, manifest.corpus, manifest.version, "quick")
    (problem,) = verify(store, manifest).problems
    assert problem.startswith(f"{key}: ")


def test_the_study_of_another_version_is_refused(stored: tuple[MemoryStore, Manifest]) -> None:
    store, manifest = stored
    save_study(store, study(manifest))
    key = layout.study(manifest.corpus, manifest.version, "quick")
    store.write(layout.study(manifest.corpus, 7, "quick"), store.read(key))
    with pytest.raises(CorruptShard, match="was it copied or renamed"):
        load_study(store, manifest.corpus, 7, "quick")


def test_a_study_is_an_orphan_once_its_version_is_deleted(stored: tuple[MemoryStore, Manifest]) -> None:
    store, manifest = stored
    save_study(store, study(manifest))
    assert studies_found(store, manifest.corpus) == []
    delete_version(store, manifest.corpus, manifest.version, at="2026-01-02T00:00:00+00:00")
    assert studies_found(store, manifest.corpus) == [layout.study(manifest.corpus, manifest.version, "quick")]


def studies_found(store: MemoryStore, corpus: str) -> list[str]:
    """The keys of studies that are orphans."""
    referenced = orphans.ReferencedKeys(store)
    referenced.refresh()
    found = orphans.find(store, corpus, referenced.of(corpus))
    return [key for orphan in found if orphan.kind == orphans.STUDY for key in orphan.keys]
