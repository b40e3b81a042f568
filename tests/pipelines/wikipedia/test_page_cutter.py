"""Pages cut out of a stream of XML."""

from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.wikipedia.page_cutter import PageCutter


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 600), st.lists(st.sampled_from(["<page>", "</page>", "<pa", "ge>", "x", "<", ">"]), max_size=40))
def test_the_cutter_finds_the_same_pages_whatever_pieces_the_stream_comes_in(step: int, parts: list[str]) -> None:
    stream = "".join(parts).encode()
    whole = PageCutter()
    expected = [(raw.offset, raw.xml) for raw in whole.feed(stream)]
    pieces = PageCutter()
    found = [raw for place in range(0, len(stream), step) for raw in pieces.feed(stream[place : place + step])]
    assert [(raw.offset, raw.xml) for raw in found] == expected
    assert pieces.page_offset == whole.page_offset
    assert list(pieces.finish()) == list(whole.finish())
