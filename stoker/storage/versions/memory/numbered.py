"""Objects that are numbered from 1: a number that is taken is never overwritten."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from stoker.storage.errors import AlreadyExists, CorruptShard, StorageUnavailable
from stoker.storage.stores.store import Store
from stoker.storage.versions import layout


class Numbered(Protocol):
    """What an object says of its place."""

    @property
    def corpus(self) -> str:
        """The name of its corpus."""

    @property
    def number(self) -> int:
        """From 1."""


T = TypeVar("T", bound=Numbered)

_MAX_ATTEMPTS = 100  # numbers that other writers may take before this one gives up


def numbers(store: Store, folder: str) -> list[int]:
    """The numbers of the objects in a folder, in order."""
    found = (layout.number_of(stored.key) for stored in store.list(folder))
    return sorted({number for number in found if number is not None})


def create_next(store: Store, folder: str, key_of: Callable[[int], str], payload_of: Callable[[int], bytes]) -> int:
    """Create the object of the next free number; that number. Raises StorageUnavailable if others always come first."""
    for _ in range(_MAX_ATTEMPTS):
        number = max(numbers(store, folder), default=0) + 1
        try:
            store.create(key_of(number), payload_of(number))
        except AlreadyExists:
            continue
        return number
    raise StorageUnavailable(f"{store.url}/{folder}: {_MAX_ATTEMPTS} other writers came first; try again")


def in_its_place(found: T, store: Store, key: str, corpus: str, number: int, *, remedy: str) -> T:
    """The object that was read at a key. Raises CorruptShard if it says that it belongs elsewhere."""
    if (found.corpus, found.number) != (corpus, number):
        raise CorruptShard(
            f"{store.url}/{key}: it is number {found.number} of {found.corpus[:80]}; was it copied or renamed? {remedy}"
        )
    return found
