"""Dump files divided into byte ranges."""

import bz2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.wikipedia.dump_files import scan_dump
from stoker.pipelines.wikipedia.export_xml import parse_page
from stoker.pipelines.wikipedia.pages import raw_pages
from tests.pipelines.sources.test_wikipedia_dump import dump, pages


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4000), st.integers(100, 2000), st.integers(0, 10**6))
def test_ranges_of_a_file_hold_each_page_once(
    tmp_path_factory: pytest.TempPathFactory, cut: int, block: int, odd: int
) -> None:
    made = pages(range(1, 15))
    whole = dump(*made)
    folder = tmp_path_factory.mktemp("ranges")
    (folder / "x.xml").write_bytes(whole)
    (folder / "x.bz2").write_bytes(
        b"".join(bz2.compress(whole[place : place + block]) for place in range(0, len(whole), block))
    )
    for name in ("x.xml", "x.bz2"):
        found = scan_dump(folder / name)
        ranges = found.byte_ranges(cut)
        assert ranges[0][0] == 0
        assert ranges[-1][1] == found.size
        raws = [raw for start, stop in ranges for raw in raw_pages(found, start, stop)]
        parsed = [parse_page(raw.xml) for raw in raws]
        assert [page.page_id for page in parsed if not isinstance(page, Rejected)] == list(range(1, 15))
        assert len(raws) == 14


@pytest.mark.parametrize("where", ["</text>", "</contributor>", "<revision>", "</revision>"])
def test_a_page_with_text_between_its_elements_lost_a_piece(where: str) -> None:
    (xml,) = pages(range(7, 8))
    sound, damaged = xml.encode(), xml.replace(where, f"{where}ha1>").encode()
    assert damaged != sound
    assert not isinstance(parse_page(sound), Rejected)
    found = parse_page(damaged)
    assert isinstance(found, Rejected)
    assert found.reason == "corrupt"
    assert found.detail == "it has 'ha1>' between its elements: a piece of it is missing"
