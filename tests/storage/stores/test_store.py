"""The store contract on each of our stores, S3 on a real server."""

from pathlib import Path

import pytest

from stoker.storage.errors import AlreadyExists
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions import catalog
from stoker.storage.versions.manifest import load_manifest, publish
from stoker.testing import StoreContract
from tests.storage.published import CORPUS, make_version


class OurStoreContract(StoreContract):
    """The contract, and a version with everything in it that a manifest can name."""

    def test_a_version_with_parts_is_published_loaded_and_verified(self, store: Store) -> None:
        manifest = make_version(store)
        make_version(store, 2)
        assert catalog.corpora(store) == [CORPUS]
        assert catalog.versions(store, CORPUS) == [1, 2]
        assert load_manifest(store, f"{CORPUS}@1") == manifest
        assert verify(store, manifest).problems == ()
        with pytest.raises(AlreadyExists, match="never overwritten"):
            publish(store, manifest)


class TestDirectoryStore(OurStoreContract):
    objects_are_files = True

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return DirectoryStore(tmp_path / "store")


class TestMemoryStore(OurStoreContract):
    processes_share_it = False

    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestS3Store(OurStoreContract):
    many = 1100  # S3 lists a thousand at a time

    @pytest.fixture
    def store(self, s3_store: S3Store) -> Store:
        return s3_store
