"""What commit 01b1951 wrote can be forgotten: ingested corpora and external tars, in a folder and in a real server."""

import pytest

import stoker
from stoker.pipelines.stages.forgetting.forget import forget
from stoker.pipelines.stages.forgetting.purge import purge
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import load_manifest
from stoker.training import ShardStream
from tests.system.old_store.make import INDEXED


@pytest.mark.parametrize("corpus", ["plain", "films", "wiki", *INDEXED])
def test_a_sample_of_an_old_version_is_taken_out(own_store: Store, corpus: str) -> None:
    before = load_manifest(own_store, corpus)
    version = stoker.Version(own_store, before)
    split = next(name for name, totals in before.splits.items() if totals.samples > 1)
    key = next(iter(version.split(split))).key
    told = forget(own_store, corpus, [("key", key)])
    assert told.view is not None
    assert (told.view.samples, told.view.parent) == (before.samples - 1, before.version)
    assert verify(own_store, told.view).problems == ()
    assert verify(own_store, before).problems == ()
    for manifest in (before, told.view):
        assert key not in stoker.Version(own_store, manifest)
        stream = ShardStream(own_store, manifest, split=split, batch_size=4)
        keys = [one for batch in stream for one in batch.keys]
        stream.close()
        assert key not in keys
        assert len(keys) == before.splits[split].samples - 1


@pytest.mark.parametrize("corpus", ["plain", "films", "wiki"])
def test_its_bytes_are_purged_from_old_versions(own_store: Store, corpus: str) -> None:
    before = load_manifest(own_store, corpus, 1)  # other tests may have taken samples out, and made versions of it
    split = next(name for name, totals in before.splits.items() if totals.samples > 1)
    live = [sample.key for sample in stoker.Version(own_store, before).split(split)]
    key = live[0]
    forget(own_store, corpus, [("key", key)])
    told = purge(own_store, corpus)
    assert told.receipt["versions"][before.reference] >= 1
    assert any(f"`stoker delete {before.reference}` removes them" in text for text in told.receipt["unreached"])
    for version in (1, None):
        assert verify(own_store, load_manifest(own_store, corpus, version)).problems == ()
    stream = ShardStream(own_store, load_manifest(own_store, corpus, before.version), split=split, batch_size=4)
    keys = [one for batch in stream for one in batch.keys]
    stream.close()
    assert sorted(keys) == sorted(live[1:])
