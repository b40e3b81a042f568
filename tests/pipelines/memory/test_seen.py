"""Which texts were seen before, whatever the batches they come in."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.memory.seen import Seen


@given(st.lists(st.lists(st.text(max_size=2), max_size=30), max_size=20))
def test_a_text_was_seen_if_it_is_among_those_before_it(batches: list[list[str]]) -> None:
    seen, known = Seen(), set[str]()
    for batch in batches:
        expected = []
        for text in batch:
            expected.append(text in known)
            known.add(text)
        assert seen.add(batch).tolist() == expected


def test_arrays_stay_few() -> None:
    seen = Seen()
    for number in range(300):
        assert not seen.add([f"{number}/{row}" for row in range(100)]).any()
    assert all(len(levels) < 12 for levels in seen._buckets)
    assert seen.add([f"{number}/7" for number in range(300)]).all()


def test_no_merge_holds_all_hashes_twice() -> None:
    seen, batches = Seen(), [[f"{number}/{row}" for row in range(4000)] for number in range(32)]
    tracemalloc.start()
    try:
        for batch in batches:
            seen.add(batch)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * 8 * 128_000 + 2**19  # half a megabyte for a batch
