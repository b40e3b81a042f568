"""The time until shards are complete, estimated from the rate until now."""

import time
from pathlib import Path
from threading import Event

from stoker.storage.stores.memory import MemoryStore
from stoker.training.reading.cache_files import CacheFiles
from stoker.training.reading.fetching import ShardFetch
from stoker.training.reading.transfer_rate import TransferRate
from tests.training.conftest import Small


def fetches(small: Small, tmp_path: Path) -> list[ShardFetch]:
    files = CacheFiles(tmp_path / "cache", 10**9)
    return [ShardFetch(MemoryStore(), shard, files, Event()) for shard in small.manifest.shards]


def whole(fetch: ShardFetch) -> dict[ShardFetch, int]:
    return {fetch: fetch.shard.size}


def test_what_is_left_takes_as_long_as_what_came_took(letters: Small, tmp_path: Path) -> None:
    first, second, *_ = fetches(letters, tmp_path)
    rate, started = TransferRate(), time.monotonic()
    rate.begin(first)
    time.sleep(0.06)
    first.bytes_available = first.bytes_downloaded = first.shard.size
    rate.end(first)
    took = time.monotonic() - started
    left = rate.seconds_left({second: second.shard.size})
    assert 0.05 < left * first.shard.size / second.shard.size < 2 * took


def test_before_anything_came_a_moment_is_waited_and_a_rate_guessed(letters: Small, tmp_path: Path) -> None:
    first, *_ = fetches(letters, tmp_path)
    rate, started = TransferRate(), time.monotonic()
    assert rate.seconds_left(whole(first)) < 0.01  # kilobytes
    assert time.monotonic() - started >= 0.05
    rate.begin(first)
    started = time.monotonic()
    for _ in range(100):
        assert rate.seconds_left(whole(first), soon_s=10) < 0.01
    assert time.monotonic() - started < 0.05 * 100  # it would come soon: no moment is waited


def test_running_fetches_share_the_rate_and_what_is_not_needed_is_not_waited_for(
    letters: Small, tmp_path: Path
) -> None:
    first, second, third, *_ = fetches(letters, tmp_path)
    rate = TransferRate()
    rate.begin(first)
    time.sleep(0.06)
    first.bytes_available = first.bytes_downloaded = 1000
    rate.begin(second)
    alone = rate.seconds_left({first: 2000})
    assert rate.seconds_left({first: 1000, second: 0}) == 0
    assert rate.seconds_left({first: 2000, third: 1000}) > alone
    assert rate.seconds_left({first: 2000}) < rate.seconds_left(whole(first))


def test_a_rate_is_not_forgotten_while_nothing_comes(letters: Small, tmp_path: Path) -> None:
    first, second, *_ = fetches(letters, tmp_path)
    rate = TransferRate()
    rate.begin(first)
    time.sleep(0.06)
    first.bytes_available = first.bytes_downloaded = 10
    rate.end(first)
    started = time.monotonic()
    assert rate.seconds_left(whole(second)) > 1  # at some hundred bytes a second
    assert time.monotonic() - started < 1


def test_fetches_that_have_just_begun_are_expected_to_be_as_fast_as_those_before(
    letters: Small, tmp_path: Path
) -> None:
    first, second, *_ = fetches(letters, tmp_path)
    rate = TransferRate()
    rate.begin(first)
    time.sleep(0.06)
    first.bytes_downloaded = 10**7
    rate.end(first)
    expected = rate.seconds_left(whole(second))
    rate.begin(second)
    time.sleep(0.06)
    second.bytes_downloaded = 1
    assert rate.seconds_left(whole(second)) < 3 * expected
