"""Old names of the public methods of stores, their listings and samples."""

import pytest

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.store import PendingUpload, StoredObject


def test_old_names_of_a_stores_methods_work_and_warn() -> None:
    store = MemoryStore()
    store.write("a", b"payload")
    with pytest.warns(DeprecationWarning, match=r"Store.pieces is now called Store.iter_bytes"):
        assert list(store.pieces("a", start=3)) == [b"load"]
    with pytest.warns(DeprecationWarning, match=r"Store.unfinished is now called Store.pending_uploads"):
        assert list(store.unfinished()) == []
    with pytest.warns(DeprecationWarning, match=r"Store.abandon is now called Store.abort"):
        store.abandon(PendingUpload("a", 1, 0.0, "0"))
    with pytest.warns(DeprecationWarning, match="change_token"):
        assert StoredObject("a", 1, "etag").mark == "etag"


def test_the_old_name_of_unchecked_samples_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match=r"Sample.found is now called Sample.unchecked"):
        sample = Sample.found("a/b.c", {}, {"label": 3})
    assert sample == Sample.unchecked("a/b.c", {}, {"label": 3})
