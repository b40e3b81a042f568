"""Masks heal of what the decisions drop; where they cannot, it is said what does."""

from pathlib import Path

import pytest

import stoker
from stoker.storage import open_store
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.repair_indexed import repair_indexed
from stoker.storage.verification.repair_masks import repair_masks
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.masks.view import with_masks
from stoker.storage.versions.tar_store import store_of_tars
from tests.storage.external_tars import indexed
from tests.storage.published import make_version


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def view(store: MemoryStore) -> Manifest:
    return with_masks(store, with_masks(store, make_version(store), ["s-000", "s-011"]), ["s-007"])


@pytest.mark.parametrize("payload", [b"", b"stkmask\x01 of other bytes", None])
def test_a_damaged_mask_has_its_bytes_again(store: MemoryStore, view: Manifest, payload: bytes | None) -> None:
    key = view.masks[0].key
    before = store.read(key)
    store.delete(key) if payload is None else store.write(key, payload)
    damaged = verify(store, view).damaged
    assert damaged == {key}
    assert repair_masks(store, view, damaged) == []
    assert store.read(key) == before
    assert verify(store, view).problems == ()


def test_a_mask_whose_decisions_are_damaged_too_is_advised(store: MemoryStore, view: Manifest) -> None:
    for key in (view.masks[0].key, view.decisions.key):
        store.write(key, b"damaged")
    (advice,) = repair_masks(store, view, verify(store, view).damaged)
    assert "put back the object whose SHA-256 is" in advice
    assert advice.endswith("or use digits@1, which has no masks")


def test_a_mask_of_external_tars_is_advised(folder: Path) -> None:
    base = indexed(folder).manifest
    store = open_store(str(folder.parent / "store"))
    view = with_masks(store, base, [next(iter(stoker.Version(store, base))).key])
    store.delete(view.masks[0].key)
    damaged = verify(store, view).damaged
    (advice,) = repair_indexed(store, store_of_tars(store, view), view, damaged)
    assert view.masks[0].key in advice
    assert f"or use {base.reference}" in advice
