"""Memory is used again once nobody has a view of it, and never before."""

from stoker.training.reading.shard_memory import ShardMemory


def test_memory_is_used_again_when_its_last_view_is_gone_and_not_before() -> None:
    pool = ShardMemory()
    first = pool.take(1000)
    first[:4] = b"kept"
    part = first[1:3].toreadonly()
    del first
    other = pool.take(1200)
    other[:4] = b"else"
    assert bytes(part) == b"ep"
    assert len(pool._free) == 0
    del part
    assert len(pool._free) == 1
    again = pool.take(2000)  # of the same number of large pages
    assert (len(again), bytes(again[:4])) == (2000, b"kept")
    assert len(pool.take(3 * 2**20)) == 3 * 2**20


def test_what_is_kept_is_bounded() -> None:
    pool = ShardMemory()
    views = [pool.take(32 * 2**20) for _ in range(6)]
    del views
    assert 0 < sum(map(len, pool._free)) <= 128 * 2**20
