"""Versions that many tests of training read."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from stoker.storage.shards.sample import Sample
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Manifest
from tests.training import corpora


@dataclass
class Small:
    """A store with a published version, and folders for caches and runs."""

    store: MemoryStore
    manifest: Manifest
    folder: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"


@pytest.fixture
def digits(tmp_path: Path) -> Small:
    store, all_digits = MemoryStore(), corpora.digits()
    splits = {"train": all_digits[:150], "validation": all_digits[150:200]}
    return Small(store, corpora.version(store, tmp_path, splits, per_shard=40), tmp_path)


@pytest.fixture
def handbook(tmp_path: Path) -> Small:
    store, topics = MemoryStore(), corpora.texts()
    splits = {"train": topics[:12], "validation": topics[12:16]}
    return Small(store, corpora.version(store, tmp_path, splits, per_shard=5), tmp_path)


@pytest.fixture
def letters(tmp_path: Path) -> Small:
    """26 samples in shards of 7."""
    store = MemoryStore()
    samples = [
        Sample(letter, {"txt": letter.encode() * 3}, {"label": letter}) for letter in "abcdefghijklmnopqrstuvwxyz"
    ]
    return Small(store, corpora.version(store, tmp_path, {"train": samples}, per_shard=7), tmp_path)
