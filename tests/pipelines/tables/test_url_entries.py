"""Partitions that version 0.1.0 finished stand in place of their entries; see also tests/system/old_store."""

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.partition import Partition, cut
from stoker.pipelines.tables.url_entries import Entry, entry_of_row, reject_repeats, with_finished_partitions
from stoker.pipelines.tables.url_lists import ListRow

CARRIED = {"caption": "caption", "licence": "licence", "label": "label", "author": "author", "page_url": "page_url"}
TARGET = 4
# A URL, one that comes again, an address that is none, no address beside a caption, an empty line.
ROWS: list[dict[str, Any]] = [
    {"url": "http://a.example/{}.jpg"},
    {"url": "http://a.example/again.jpg"},
    {"url": "ftp://a.example/{}.jpg", "caption": "{}"},
    {"url": "", "caption": "{}"},
    {},
]


def entries(kinds: Iterable[int]) -> list[Entry]:
    rows = [{name: text.format(number) for name, text in ROWS[kind].items()} for number, kind in enumerate(kinds)]
    listed = (ListRow(number, row) for number, row in enumerate(rows, 1))
    return list(reject_repeats(entry_of_row(row, "a.csv", "url", CARRIED) for row in listed))


def found(listed: list[Entry], is_finished: Callable[[Partition], bool]) -> list[Entry | Partition]:
    return list(with_finished_partitions(iter(listed), [], target=TARGET, is_finished=is_finished))


@given(st.lists(st.sampled_from(range(len(ROWS))), max_size=60), st.sets(st.integers(0, 20)))
def test_each_entry_is_given_once_by_itself_or_in_a_finished_partition(kinds: list[int], finished: set[int]) -> None:
    listed, asked = entries(kinds), []

    def is_finished(partition: Partition) -> bool:
        asked.append(partition)
        return len(asked) in finished

    given_ = found(listed, is_finished)
    partitions = [entry for entry in given_ if isinstance(entry, Partition)]
    assert partitions == [partition for number, partition in enumerate(asked, 1) if number in finished]
    alone = [entry for entry in given_ if not isinstance(entry, Partition)]
    if not partitions:
        assert alone == listed
    inside = [entry for partition in partitions for entry in partition.payload["urls"]]
    assert len(alone) + len(inside) == len(listed)
    assert [entry for entry in alone if "refused" not in entry] == [
        entry for entry in listed if "refused" not in entry and entry not in inside
    ]
    assert len({partition.name for partition in asked}) == len(asked)
    if not any("refused" in entry for entry in listed):
        assert asked == []


def test_of_very_many_empty_lines_few_wait_and_all_stay_in_order() -> None:
    kinds = [0, *[4] * 1500, 2, 1, *[4] * 1500, 0, 4, 1, 1, 1, 1, 0, 0]
    listed = entries(kinds)
    assert found(listed, lambda partition: False) == listed
    read: list[Entry] = []
    counted = (read.append(entry) or entry for entry in listed)  # type: ignore[func-returns-value]  # counts
    given_ = with_finished_partitions(counted, [], target=10**6, is_finished=lambda partition: False)
    assert next(given_) == listed[0]
    assert len(read) < 1100


def test_a_list_as_version_0_1_0_cut_it() -> None:
    """Its forms of what it rejected, and no empty line among them."""
    listed = entries([0, 1, 1, 4, 2, 3])
    whole: list[dict[str, Any]] = [
        {"url": "http://a.example/0.jpg"},
        {"url": "http://a.example/again.jpg"},
        {"url": "http://a.example/again.jpg", "refused": ["duplicate_key", "an earlier row has the same URL"]},
        {
            "url": "ftp://a.example/4.jpg",
            "record": {"caption": "4"},
            "refused": ["bad_url", "row 5: scheme 'ftp', expected http or https"],
        },
        {"url": "", "record": {"caption": "5"}, "refused": ["empty", "row 6: no URL"]},
    ]
    given_ = found(listed, lambda partition: True)
    partitions = [entry.payload["urls"] for entry in given_ if isinstance(entry, Partition)]
    assert partitions == list(cut(whole, lambda entry: str(entry["url"]), target=TARGET))
    assert [entry for entry in given_ if not isinstance(entry, Partition)] == [listed[3]]
