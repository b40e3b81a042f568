"""Lines of lists that were read before: every edit of a list gives the plan and outcomes of reading all of it."""

import csv
import gzip
import io
import json
import random
import tracemalloc
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.pipelines.memory import rows_read
from stoker.pipelines.memory.rows_read import RowsRead, Settled, Unsettled, hashes_of_lines, marks_of, stamp_codes
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context, Listed
from stoker.pipelines.sources.image_urls import ImageUrls
from stoker.pipelines.stages.publish import ingest
from stoker.storage.errors import StokerError
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.ledger import newest_head
from stoker.storage.versions.memory.outcomes import hashes_of
from tests.site import FAST, Reply, Site
from tests.system.old_store.inputs import picture

Row = Mapping[str, str]
PICTURES = 14
LISTS = ("list.txt", "list.csv", "list.tsv", "list.jsonl", "list.csv.gz", "list.json", "list.parquet")


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        for number in range(PICTURES):
            site.pages[f"/{number}.jpg"] = Reply(picture(number))
        yield site


class Corpus:
    """A corpus of a list, ingested day by day; with or without what is known of lines."""

    def __init__(self, folder: Path, name: str, *, knows_lines: bool) -> None:
        self.folder, self.name, self.store, self.knows_lines = folder, name, MemoryStore(), knows_lines
        self.now = datetime(2026, 3, 2, tzinfo=UTC)
        folder.mkdir()

    def run(self, payload: bytes, columns: Sequence[str], site: Site, machine: int) -> tuple[object, ...]:
        """What was asked for, what became of all candidates, and what the version is."""
        self.now += timedelta(days=1)
        (self.folder / self.name).write_bytes(payload)
        source = {"name": "image_urls", "lists": self.name, "partition_urls": 3, "columns": list(columns)}
        limits = {"rejected_percent": 100}
        recipe = parse({"corpus": "birds", "source": source, "limits": limits}, root=self.folder)
        scratch = self.folder / f"scratch{machine}"
        if not self.knows_lines:
            for path in scratch.glob("lines-*"):
                path.unlink()
        before = len(site.pages_asked)
        context = Context(root=self.folder, web=FAST, scratch=scratch, now=lambda: self.now)
        try:
            manifest = ingest(recipe, self.store, context).manifest
        except StokerError as error:
            return (type(error), str(error).replace(str(self.folder), ""))
        head = newest_head(self.store, "birds")
        assert head is not None
        files = [outcomes.open_outcomes(self.store, stored) for stored in head.outcomes]
        known = outcomes.merge(*(table for file in files for table in file.scan())) if files else None
        told = (manifest.version, manifest.content, manifest.read, manifest.rejected)
        return sorted(site.pages_asked[before:]), known and known.to_pylist(), told, head.parts, head.faults


def encoded(name: str, rows: Sequence[Row], columns: Sequence[str], chance: random.Random) -> bytes:
    """A list of these rows."""
    if name == "list.txt":
        return "".join(f"{row['url']}{chance.choice(['', '', ' '])}\n" for row in rows).encode()
    if name == "list.tsv":
        lines = ["\t".join(columns), *("\t".join(row[column] for column in columns) for row in rows)]
        return "".join(f"{line}\r\n" for line in lines).encode()
    if name == "list.jsonl":
        return "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    if name == "list.json":
        return json.dumps(rows).encode()
    if name == "list.parquet":
        file = io.BytesIO()
        pq.write_table(
            pa.Table.from_pylist([dict(row) for row in rows], pa.schema([(n, "string") for n in columns])), file
        )
        return file.getvalue()
    text = io.StringIO()
    writer = csv.DictWriter(
        text, columns, lineterminator="\n", quoting=csv.QUOTE_MINIMAL if name == "list.csv" else csv.QUOTE_ALL
    )
    writer.writeheader()
    writer.writerows(rows)
    payload = text.getvalue().encode()
    return gzip.compress(payload, mtime=0) if name.endswith(".gz") else payload


def edited(rows: list[Row], name: str, site: Site, chance: random.Random) -> list[Row]:
    """The rows after a few random edits."""

    def row(number: int) -> Row:
        url = site.url(f"/{number}.jpg")
        url = chance.choice([url, url, url, url.replace("http:", "HTTP:"), f"{url}#top", "", "no url"])
        captions = ["", "a bird", "a bird, flying", f"two\n{site.url('/1.jpg')},lines", 'a "bird"', "naïve"]
        caption = chance.choice(captions)
        caption = caption.replace("\n", " ").replace('"', "") if name == "list.tsv" else caption
        return {"url": url, "caption": caption, "score": chance.choice(["1", "2", ""])}

    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(rows))
        match chance.choice(["insert", "insert", "remove", "shuffle", "double", "change"]):
            case "insert":
                rows = [*rows[:at], *(row(chance.randrange(PICTURES + 2)) for _ in range(3)), *rows[at:]]
            case "remove":
                rows = [*rows[:at], *rows[at + 2 :]]
            case "shuffle":
                rows = chance.sample(rows, len(rows))
            case "double":
                rows = [*rows[:at], *rows[: chance.randint(0, 3)], *rows[at:]]
            case "change" if rows:
                at = chance.randrange(len(rows))
                rows = [*rows[:at], {**row(0), "url": rows[at]["url"]}, *rows[at + 1 :]]
    return rows


def test_stamps_are_read_as_numbers_but_for_unknown_ones() -> None:
    codes, has_code = stamp_codes(pa.chunked_array([["00ff00000000000a", "", None, "short", "ffffffffffffffff"]]))
    assert has_code.tolist() == [True, True, False, False, True]
    assert codes[has_code].tolist() == [0x00FF00000000000A, 0, 0xFFFFFFFFFFFFFFFF]
    assert [len(part) for part in stamp_codes(pa.chunked_array([], pa.string()))] == [0, 0]


def test_lines_that_differ_in_a_byte_or_in_how_they_are_read_have_other_hashes() -> None:
    lines = [b"", b"a", b"b", b"ab", b"ba", *(b"https://host/%06d.jpg" % number for number in range(10_000))]
    hashes = np.concatenate([hashes_of_lines(lines, 1), hashes_of_lines(lines, 2)])
    assert len(np.unique(hashes)) == 2 * len(lines)


@pytest.mark.parametrize("size", [7, 1 << 16])
def test_settled_lines_are_passed_over_the_next_time_but_for_the_first_and_repeated_ones(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_read, "FEWEST", 1)
    monkeypatch.setattr(rows_read, "_SLICE", size)
    path, names = tmp_path / "lines", [f"n{number}" for number in range(100)]
    lines = [name.encode() for name in names]
    with RowsRead(path, "s") as first:
        hashes, passed = first.of_list(5)(lines)
        assert not any(passed)
        for line, name in zip(hashes, names, strict=True):
            first.note(line, name, "")
        first.write()
    settled = Settled("s", np.sort(hashes_of("s", names[:90])))
    with RowsRead(path, "s", settled) as second:
        _, passed = second.of_list(5)([b"new", *lines])
        assert passed.tolist() == [False, False, *[True] * 89, *[False] * 10]
        assert second.also_passed().tolist() == []
        _, passed = second.of_list(5)([lines[0], lines[3]])
        assert passed.tolist() == [False, True]
        assert second.also_passed().tolist() == hashes_of("s", ["n3"]).tolist()
    with RowsRead(path, "s", settled) as third:
        assert not any(third.of_list(6)(lines)[1])  # read in another way
    assert [one.name for one in tmp_path.iterdir()] == ["lines"]


def test_lines_that_were_read_or_passed_over_take_no_memory_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_read, "_WAITING", 1000)
    path, names = tmp_path / "lines", [f"n{number}" for number in range(60_000)]
    settled = Settled("s", np.sort(hashes_of("s", names)))
    tracemalloc.start()
    try:
        with RowsRead(path, "s") as first:
            lines = [(line, name) for name in names for line in first.of_list(5)([name.encode()])[0]]
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            for line, name in lines:
                first.note(line, name, "")
            assert tracemalloc.get_traced_memory()[1] - before < 8 * len(names) // 2
            first.write()
        with RowsRead(path, "s", settled) as second:
            assert sum(second.of_list(5)([name.encode() for name in names])[1]) == len(names) - 1
            expected = settled.marks[settled.marks != hashes_of("s", names[:1])[0]]
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            passed = second.passed()
            assert tracemalloc.get_traced_memory()[1] - before < 8 * len(names) // 2
    finally:
        tracemalloc.stop()
    assert passed.tolist() == expected.tolist()


def test_a_line_whose_candidate_was_asked_for_with_another_stamp_since_is_read(tmp_path: Path) -> None:
    with (tmp_path / "lines").open("wb") as file:
        lines = [b"a", b"b", b"c"]
        ids = hashes_of("s", ["a", "b", "c"])
        rows = np.stack([hashes_of_lines(lines, 0), ids, np.array([1, 2, 3], np.uint64)], axis=1)
        rows[np.argsort(rows[:, 0])].tofile(file)
    table = pa.table({"hash": ids, "stamp": [f"{stamp:016x}" for stamp in (1, 7, 3)]})
    settled = Settled("s", np.sort(marks_of(ids, stamp_codes(table["stamp"])[0])))
    with RowsRead(tmp_path / "lines", "s", settled) as again:
        assert again.of_list(0)([b"c", *lines])[1].tolist() == [False, True, False, True]


def test_settled_candidates_are_passed_over_where_no_line_was_read_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_read, "FEWEST", 1)
    names = [f"n{number}" for number in range(100)]
    settled = Settled("s", np.sort(hashes_of("s", names[:90])))
    reads = []

    def read(rows: RowsRead) -> Iterator[Listed]:
        lines = rows.of_list(5)
        hashes, passed = lines([name.encode() for name in names])
        reads.append(sum(passed))
        for line, name, is_passed in zip(hashes.tolist(), names, passed, strict=True):
            if not is_passed and not rows.note(line, name, ""):
                yield Listed(name, "", {"url": name})

    for _ in range(2):
        found = rows_read.read_unsettled(read, Listed, tmp_path / "lines", "s", settled, most=10)
        assert found is not None
        assert [*found.listed] == [Listed(name, "", {"url": name}) for name in names[90:]]
        assert found.passed.tolist() == np.sort(hashes_of("s", names[:90])).tolist()
        settled = Settled("s", np.sort(hashes_of("s", names[:90])))
    assert reads == [0, 89]
    assert rows_read.read_unsettled(read, Listed, tmp_path / "lines", "s", settled, most=9) is None


def test_short_lists_leave_no_file(tmp_path: Path) -> None:
    with RowsRead(tmp_path / "lines", "s") as rows:
        rows.note(1, "a", "")
        rows.write()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("histories", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", LISTS)
def test_known_lines_change_neither_plan_nor_outcomes(
    name: str, histories: int, tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_read, "FEWEST", 1)
    told: list[int] = []
    slow = ImageUrls.unsettled

    def counted(source: ImageUrls, context: Context, settled: Settled) -> Unsettled[Listed] | None:
        if context.root.name.startswith("w"):
            return None
        listed = slow(source, context, settled)
        if listed is not None:
            told.append(sum(1 for _ in source.identities(context)) - len(listed.listed))
        return listed

    monkeypatch.setattr(ImageUrls, "unsettled", counted)
    chance = random.Random(f"{name} 5")
    for history in range(histories):
        quick, whole = (Corpus(tmp_path / f"{kind}{history}", name, knows_lines=kind == "q") for kind in "qw")
        rows: list[Row] = [{"url": site.url(f"/{n}.jpg"), "caption": f"bird {n}", "score": "1"} for n in range(10)]
        columns, carried = ["url", "caption", "score"], [["score"], []][history % 2] if name != "list.txt" else []
        for day in range(4):
            if day == 1:
                rows = [*rows, {"url": site.url("/10.jpg"), "caption": "one more", "score": "2"}]
            elif day:
                rows = edited(rows, name, site, chance)
            payload = encoded(name, rows, columns, chance)
            machine = chance.choice([0, 0, 0, 1]) if day > 1 else 0
            assert quick.run(payload, carried, site, machine) == whole.run(payload, carried, site, 0)
            columns = chance.sample(columns, 3) if day and chance.random() < 0.2 else columns
            carried = [] if day and chance.random() < 0.2 else carried
    assert sum(told) > 0


def test_a_file_of_lines_that_was_damaged_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    np.array([[9, 1, 1], [3, 1, 1]], np.uint64).tofile(path)
    places, rows = rows_read._find(path, np.array([3, 5, 9], np.uint64))
    assert len(places) == len(rows)
