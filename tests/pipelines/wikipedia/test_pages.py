"""The pages of a damaged dump: what is sound comes out, everything else is named with its place."""

import bz2
from pathlib import Path

import pytest

from stoker.pipelines.partition import Partition
from stoker.pipelines.sources.wikipedia_dump import WikipediaDump
from stoker.pipelines.wikipedia.dump_files import scan_dump
from stoker.pipelines.wikipedia.page_cutter import RawPage
from stoker.pipelines.wikipedia.pages import raw_pages
from tests.fakes import context
from tests.pipelines.sources.test_wikipedia_dump import HEAD, TAIL, dump, multistream, outcome, page, pages, read


def write(folder: Path, content: bytes | str, name: str = "dewiki.xml") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read_in_parts(path: Path, size: int) -> list[RawPage]:
    found = scan_dump(path)
    return [raw for start, stop in found.byte_ranges(size) for raw in raw_pages(found, start, stop)]


def faults(raws: list[RawPage]) -> list[tuple[str, str]]:
    return [(raw.place, raw.fault.reason) for raw in raws if raw.fault]


@pytest.mark.parametrize("size", [100, 700, 10**9])
def test_a_dump_without_its_last_tag_is_not_whole(tmp_path: Path, size: int) -> None:
    whole = dump(*pages(range(1, 12)))
    assert not faults(read_in_parts(write(tmp_path, whole), size))
    cut = whole.removesuffix(TAIL.encode())
    raws = read_in_parts(write(tmp_path, cut), size)
    assert faults(raws) == [(f"lost-{len(cut)}", "lost")]
    assert raws[-1].fault is not None
    assert "behind 'Seite 11', before </mediawiki>: it is cut short" in raws[-1].fault.detail
    for missing in (3, 12):  # of the last tag
        content = whole[: -1 - missing]
        assert [reason for _, reason in faults(read_in_parts(write(tmp_path, content), size))] == ["lost"]
    inside = whole[: whole.rindex(b"<page>") + 200]
    assert [reason for _, reason in faults(read_in_parts(write(tmp_path, inside), size))] == ["corrupt", "lost"]


def test_an_excerpt_of_a_dump_is_not_whole_with_an_index_or_without(tmp_path: Path) -> None:
    content, index = multistream(pages(range(1, 20)))
    streams = sorted({int(line.partition(":")[0]) for line in index.splitlines()})
    excerpt = content[: streams[4]]  # between two streams: each is whole
    path = write(tmp_path, excerpt, "dewiki-multistream.xml.bz2")
    assert faults(read_in_parts(path, 1)) == [(f"lost-{len(excerpt)}", "lost")]
    of_excerpt = [line for line in index.splitlines() if int(line.partition(":")[0]) < len(excerpt)]
    (tmp_path / "dewiki-multistream-index.txt").write_text("\n".join(of_excerpt))
    assert faults(read_in_parts(path, 1)) == [(f"lost-{len(excerpt)}", "lost")]


@pytest.mark.parametrize("size", [60, 500, 10**9])
@pytest.mark.parametrize("opener", ["<pbge>", "page>", "<page/>", "<PAGE>", "\0page>", "<pages>", ""])
def test_a_page_whose_first_tag_is_damaged_is_named(tmp_path: Path, size: int, opener: str) -> None:
    made = [page(number, f"Text {number}") for number in range(1, 6)]
    made[2] = made[2].replace("<page>", opener)
    content = dump(*made)
    raws = read_in_parts(write(tmp_path, content), size)
    assert [raw.offset for raw in raws] == sorted(raw.offset for raw in raws)
    (place, reason), *others = faults(raws)
    assert (reason, others) == ("corrupt", [])
    offset = int(place.removeprefix("at-"))
    assert content[offset:].split()[0] == content[content.index(made[2].encode()) :].split()[0]
    found = read(tmp_path)
    assert len(found) == 5
    assert outcome(found)["dewiki-3"] == "corrupt", "its id is intact"


def test_the_tags_of_a_page_may_hold_blanks_and_attributes(tmp_path: Path) -> None:
    made = [page(number, "Text") for number in range(1, 5)]
    made[0] = made[0].replace("<page>", "<page >").replace("</page>", "</page >")
    made[1] = made[1].replace("<page>", "<page\n\t>").replace("</page>", "</page\n>")
    made[2] = made[2].replace("<page>", '<page xml:space="preserve">')
    write(tmp_path, dump(*made))
    assert outcome(read(tmp_path)) == {f"dewiki-{number}": "kept" for number in range(1, 5)}
    for size in range(1, 40):
        assert len(read_in_parts(tmp_path / "dewiki.xml", size)) == 4


def test_bytes_between_pages_are_named_and_the_heads_of_joined_dumps_are_not(tmp_path: Path) -> None:
    made = [page(number, "Text") for number in range(1, 4)]
    joined = HEAD + made[0] + TAIL + "<?xml version='1.0'?>\n<!-- next -->\ufeff" + HEAD + made[1] + made[2] + TAIL
    assert not faults(read_in_parts(write(tmp_path, joined), 300))
    for junk in ("x", "\0" * 2_000_000, "<siteinfo>", "<!--" * 100, "</revision></page>", "<logitem/>"):
        content = HEAD + made[0] + junk + made[1] + made[2] + TAIL
        raws = read_in_parts(write(tmp_path, content), 400)
        assert faults(raws) == [(f"at-{len((HEAD + made[0]).rstrip())}", "corrupt")]
        assert sum(raw.fault is None for raw in raws) == 3
    behind = HEAD + "".join(made) + TAIL + "junk"
    assert [reason for _, reason in faults(read_in_parts(write(tmp_path, behind), 400))] == ["corrupt"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<id>2</id>", "<ix>2</id>"),
        ("<id>2</id>", "<id>2</ix>"),
        ("<id>2</id>", ""),
        ("<id>2</id>", "<id>x</id>"),
        ("<ns>0</ns><id>2</id>", "<ns>0<id>2</id>"),
        ("<title>Seite 2</title>", "<title>Seite 2</titl"),
        ("<page>", "<page"),
        ("</page>", ""),
        ("<revision>", "<id>3</id><revision>"),
        ("<revision>", "<title>Seite 3</title><revision>"),
        ("<timestamp>", "<id>4</id><timestamp>"),
    ],
)
def test_a_damaged_page_is_never_filed_under_another_ones_key(tmp_path: Path, old: str, new: str) -> None:
    numbers = [1, 2, 3, 1002, 1003]  # two pages have the numbers of the others' revisions
    made = [page(number, f"Text {number}").replace(*(old, new) if number == 2 else ("", "")) for number in numbers]
    write(tmp_path, dump(*made))
    found = read(tmp_path)
    assert len(found) == len(numbers)
    damaged = [candidate for candidate in found if candidate.rejected]
    assert [candidate.rejected.reason for candidate in damaged if candidate.rejected] == ["corrupt"]
    assert damaged[0].sample.key not in {"dewiki-1", "dewiki-3", "dewiki-1002", "dewiki-1003"}
    assert {"dewiki-1", "dewiki-3", "dewiki-1002", "dewiki-1003"} < outcome(found).keys()


def test_two_pages_whose_border_is_cut_out_are_not_one(tmp_path: Path) -> None:
    first, second = page(1, "Eins"), page(2, "Zwei")
    border = first.index("<revision>")
    fused = first[:border] + second[second.index("<title>") :]
    write(tmp_path, dump(fused, page(3, "Drei")))
    assert outcome(read(tmp_path)) == {f"dewiki-at-{len(HEAD) + 2}": "corrupt", "dewiki-3": "kept"}


@pytest.mark.parametrize("packed", [False, True])
def test_a_page_that_is_too_large_is_refused_as_it_passes(tmp_path: Path, packed: bool) -> None:
    sizes = {2: 9 << 20, 4: (9 if packed else 50) << 20}
    made = [page(number, "wort " * (sizes.get(number, 5) // 5)) for number in range(1, 6)]
    content = dump(*made)
    write(tmp_path, bz2.compress(content, 1) if packed else content)
    found = read(tmp_path)
    assert outcome(found) == {f"dewiki-{number}": "too_large" if number in sizes else "kept" for number in range(1, 6)}
    assert found[1].rejected is not None
    size = len(made[1].strip().encode())
    assert found[1].rejected.detail == f"a page of {size:,} bytes of XML; at most 8 MiB are read"


def test_a_first_block_that_is_damaged_costs_its_pages_and_no_other(tmp_path: Path) -> None:
    made = [page(number, "".join(chr(97 + (number * k * k) % 26) for k in range(9000))) for number in range(1, 41)]
    content = bytearray(bz2.compress(dump(*made), 1))
    content[len(content) // 20] ^= 1
    write(tmp_path, bytes(content), "dewiki.xml.bz2")
    found = read(tmp_path)
    assert outcome(found)["dewiki-lost-4"] == "lost"
    assert sum(candidate.rejected is None for candidate in found) > 20


def test_streams_that_are_missing_altogether_are_named_by_the_index(tmp_path: Path) -> None:
    content, index = multistream(pages(range(1, 50)))
    streams = [*sorted({int(line.partition(":")[0]) for line in index.splitlines()}), len(content)]
    (tmp_path / "dewiki-multistream-index.txt").write_text(index)
    for change in (
        content[: streams[5]] + content[streams[6] :],  # a stream is cut out
        content[: streams[5]] + b"junk" * 200 + content[streams[6] :],  # overwritten, and longer
        content[: streams[5]] + b"XXXXXXXXXX" + content[streams[5] + 10 :],  # its first block is damaged
    ):
        path = write(tmp_path, change, "dewiki-multistream.xml.bz2")
        for size in (1, 10**9):
            (moved,) = {part.payload.get("moved", False) for part in _partitions(tmp_path)}
            found = scan_dump(path)
            raws = [raw for part in found.byte_ranges(size) for raw in raw_pages(found, *part, moved=moved)]
            assert len(raws) == 49
            lost = [raw.xml for raw in raws if raw.fault]
            assert [f"<id>{number}</id>".encode() in xml for number, xml in zip((16, 17, 18), lost, strict=True)] == [
                True
            ] * 3


def _partitions(folder: Path) -> list[Partition]:
    return list(WikipediaDump("dewiki-multistream.xml.bz2").partitions(context(folder)))


def test_a_file_page_has_versions_of_its_file_beside_its_revisions(tmp_path: Path) -> None:
    upload = (
        "<upload><timestamp>2026-02-01T00:00:00Z</timestamp><comment>new</comment><size>9</size></upload>\n  </page>"
    )
    made = page(1, "Text", ns=6).replace("</page>", upload).replace("</page>", upload)
    write(tmp_path, dump(made, page(2, "Text")))
    assert outcome(read(tmp_path, namespaces=(0, 6))) == {"dewiki-1": "kept", "dewiki-2": "kept"}
