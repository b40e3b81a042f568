"""How soon shards will be here, told by what came until now."""

import time
from pathlib import Path
from threading import Event

from stoker.storage.stores.memory import MemoryStore
from stoker.training.reading.cache_files import Folder
from stoker.training.reading.fetching import Fetch
from stoker.training.reading.transfer_rate import Traffic
from tests.training.conftest import Small


def fetches(small: Small, tmp_path: Path) -> list[Fetch]:
    folder = Folder(tmp_path / "cache", 10**9)
    return [Fetch(MemoryStore(), shard, folder, Event()) for shard in small.manifest.shards]


def test_what_is_left_takes_as_long_as_what_came_took(letters: Small, tmp_path: Path) -> None:
    first, second, *_ = fetches(letters, tmp_path)
    traffic, begun = Traffic(), time.monotonic()
    traffic.begin(first)
    time.sleep(0.06)
    first.got = first.fetched = first.shard.size
    traffic.end(first)
    took = time.monotonic() - begun
    left = traffic.seconds([second])
    assert 0.05 < left * first.shard.size / second.shard.size < 2 * took


def test_before_anything_came_a_moment_is_waited_and_a_rate_guessed(letters: Small, tmp_path: Path) -> None:
    first, *_ = fetches(letters, tmp_path)
    traffic, begun = Traffic(), time.monotonic()
    assert traffic.seconds([first]) < 0.01  # kilobytes
    assert time.monotonic() - begun >= 0.05
    traffic.begin(first)
    assert traffic.seconds([]) == traffic.seconds([first])  # it is under way, and so ahead of others


def test_a_rate_is_not_forgotten_while_nothing_comes(letters: Small, tmp_path: Path) -> None:
    first, second, *_ = fetches(letters, tmp_path)
    traffic = Traffic()
    traffic.begin(first)
    time.sleep(0.06)
    first.got = first.fetched = 10
    traffic.end(first)
    begun = time.monotonic()
    assert traffic.seconds([second]) > 1  # at some hundred bytes a second
    assert time.monotonic() - begun < 0.05
