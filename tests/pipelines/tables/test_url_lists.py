"""Lists of URLs: every line is a row, a header, part of a quoted field, or has its fault; nothing is lost silently."""

import bz2
import codecs
import csv
import gzip
import io
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.tables.url_entries import entry_of_row
from stoker.pipelines.tables.url_lists import ListRow, ListSyntax, column_names, read_list

URL = "http://host.example/{}.jpg"
Pack = Callable[[bytes], bytes]
PACKS: dict[str, Pack] = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstandard.compress}


def read(path: Path, content: bytes, *required: str, **syntax: str | bool) -> list[ListRow]:
    path.write_bytes(content)
    options = ListSyntax(**syntax)  # type: ignore[arg-type]  # header or encoding
    return list(read_list(path, required=required or ("url",), optional=("caption",), syntax=options))


def faults(rows: list[ListRow]) -> list[int]:
    return [row.number for row in rows if row.fault]


def urls(rows: list[ListRow]) -> list[str]:
    return [row.values["url"] for row in rows if not row.fault and row.values.get("url")]


def test_quotes_in_tsv_are_characters(tmp_path: Path) -> None:
    captions = ['"Hello world', 'say "hi"', '"', '"a" b', "'", 'end"']
    text = "url\tcaption\n" + "".join(f"{URL.format(n)}\t{caption}\n" for n, caption in enumerate(captions))
    rows = read(tmp_path / "a.tsv", text.encode())
    assert [row.values["caption"] for row in rows] == captions
    assert [row.number for row in rows] == list(range(2, 8))


@pytest.mark.parametrize("columns", ["url,caption", "caption,url"])
@pytest.mark.parametrize("broken", [[2], [5], [2, 4], [1, 2, 3], [7], [2, 7]])
def test_a_missing_quote_in_csv_costs_its_own_line(tmp_path: Path, columns: str, broken: list[int]) -> None:
    lines = [columns]
    for number in range(1, 8):
        fields = [URL.format(number), f'"caption {number}' if number in broken else f'"caption ""{number}"""']
        lines.append(",".join(fields if columns == "url,caption" else fields[::-1]))
    rows = read(tmp_path / "a.csv", "\n".join(lines).encode())
    assert [row.number for row in rows] == list(range(2, 9)), "each line is accounted for"
    assert faults(rows) == [number + 1 for number in broken]
    assert urls(rows) == [URL.format(number) for number in range(1, 8) if number not in broken]


def test_a_quoted_field_goes_on_over_lines_without_a_url_of_their_own(tmp_path: Path) -> None:
    text = 'caption,url\n"two\nlines",http://a.example/1\n"see\nhttps link, here ""quoted""\n",http://a.example/2\n'
    rows = read(tmp_path / "a.csv", text.encode())
    assert [row.values for row in rows] == [
        {"url": "http://a.example/1", "caption": "two\nlines"},
        {"url": "http://a.example/2", "caption": 'see\nhttps link, here "quoted"\n'},
    ]
    assert [row.number for row in rows] == [2, 4]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.text(st.sampled_from('ab",\n \té'), max_size=12)), min_size=1, max_size=9)
)
def test_what_a_csv_writer_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]]
) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["url", "caption"])
    written = [(URL.format(number), caption) for number, caption in rows]
    writer.writerows(written)
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    assert [(row.values["url"], row.values["caption"]) for row in read(path, out.getvalue().encode())] == written


def test_a_row_with_more_or_fewer_columns_than_the_header_is_a_fault(tmp_path: Path) -> None:
    for name, comma in (("a.csv", ","), ("a.tsv", "\t")):
        text = f"url,caption,x\n{URL},a,b\n{URL},a,b,c\n{URL}\n{URL},a\n".replace(",", comma)
        assert faults(read(tmp_path / name, text.encode())) == [3, 4]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl"])
def test_empty_lines_are_rows(tmp_path: Path, name: str) -> None:
    url = json.dumps(URL) if name == "a.jsonl" else URL
    header = "url\n" if name in ("a.csv", "a.tsv") else ""
    rows = read(tmp_path / name, f"{header}\n{url}\r\n  \r\n\r{url}\n\n".encode())
    first = 2 if header else 1
    assert [row.number for row in rows] == list(range(first, first + 6))
    assert [bool(row.values.get("url")) for row in rows] == [False, True, False, False, True, False]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.tsv", "a.jsonl"])
def test_lines_that_cannot_be_text_are_faults(tmp_path: Path, name: str) -> None:
    url = json.dumps(URL) if name == "a.jsonl" else URL
    lines = [url, url + " Caf\u00e9", url]
    if name in ("a.csv", "a.tsv"):
        lines.insert(0, "url")
    utf8 = read(tmp_path / name, "\n".join(lines).encode())
    assert faults(utf8) == ([2] if name == "a.jsonl" else []), "behind a string, JSON ends"
    for damaged in ("\n".join(lines).encode("cp1252"), "\n".join(lines).encode().replace(b"\xc3", b"\0")):
        assert faults(read(tmp_path / name, damaged)) == [len(lines) - 1]
    long = read(tmp_path / name, "\n".join([*lines[:-1], "x" * (2 << 20), lines[-1]]).encode())
    assert len(long) == len(utf8) + 1
    assert "longer than" in long[-2].fault


def test_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    text = "url,caption\nhttp://a.example/,Caf\u00e9 \u20ac\n"
    (row,) = read(tmp_path / "a.csv", text.encode("cp1252"), encoding="cp1252")
    assert row.values["caption"] == "Caf\u00e9 \u20ac"
    (row,) = read(tmp_path / "a.csv", text.encode("utf-8-sig"), encoding="cp1252")
    assert row.values["caption"] == "Caf\u00e9 \u20ac", "its byte order mark decides"
    assert faults(read(tmp_path / "a.csv", b"url,caption\nhttp://a.example/,\x81\n", encoding="cp1252")) == [2]
    for name in ("utf-16", "no-such", "base64", "cp037", ""):
        with pytest.raises(RecipeError, match="encoding"):
            read(tmp_path / "a.csv", b"url\n", encoding=name)


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_read_by_its_byte_order_mark(tmp_path: Path, order: str) -> None:
    mark = codecs.BOM_UTF16_LE if order == "utf-16-le" else codecs.BOM_UTF16_BE
    text = "url,caption\r\nhttp://a.example/,Caf\u00e9\r\n\r\nhttp://b.example/,\ud83d\r\nhttp://c.example/,x"
    content = mark + text.encode(order, "surrogatepass")
    rows = read(tmp_path / "a.csv", content)
    assert [row.number for row in rows] == [2, 3, 4, 5]
    assert (rows[0].values["caption"], faults(rows), urls(rows)[-1]) == ("Caf\u00e9", [4], "http://c.example/")
    with pytest.raises(SourceBroken, match="half a character"):
        read(tmp_path / "a.csv", content[:-1])


def test_columns_without_a_header_have_numbers(tmp_path: Path) -> None:
    content = f'"Hello\t{URL}\nworld\t{URL}\n'.encode()
    rows = read(tmp_path / "a.tsv", content, "2", "1", header=False)
    assert [(row.number, row.values) for row in rows] == [(1, {"2": URL, "1": '"Hello'}), (2, {"2": URL, "1": "world"})]
    with pytest.raises(RecipeError, match=r'called "1" to "2"'):
        read(tmp_path / "a.tsv", content, "url", header=False)
    with pytest.raises(RecipeError, match="set header = false"):
        read(tmp_path / "a.tsv", content, "url")


def test_a_header_that_cannot_be_read_or_has_a_name_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="two columns are called 'url'"):
        read(tmp_path / "a.csv", b"url,url\n")
    for content in (b'url,"caption\nhttp://a.example/,b\n', b"url,\xe9\nhttp://a.example/,b\n"):
        with pytest.raises(SourceBroken, match="line 1, which says what columns"):
            read(tmp_path / "a.csv", content)


def test_json_that_says_two_things_is_a_fault(tmp_path: Path) -> None:
    lines = [b'{"url": "a", "url": "b"}', b'{"url": "\\ud83d"}', b"{", b"[1]", b'"a" "b"', b'{"url": "c"}']
    assert faults(read(tmp_path / "a.jsonl", b"\n".join(lines))) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[", "not JSON"), (b'{"url": "a"}', "array"), (b'"a"\n"b"\n', "jsonl"), (b"[\xff]", "UTF-8"), (b"", "not JSON"),
     (b'[{"url": "a", "url": "b"}]', "two values"), (b"[" * 100_000, "not JSON")],
)  # fmt: skip
def test_a_json_list_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(SourceBroken, match=message):
        read(tmp_path / "a.json", content)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_json_list_with_a_byte_order_mark_is_read_whatever_encoding_is_set(tmp_path: Path, encoding: str) -> None:
    content = json.dumps([{"url": URL, "caption": "\u00e4"}], ensure_ascii=False).encode(encoding)
    for syntax in (ListSyntax(), ListSyntax(encoding="cp1252")):
        (tmp_path / "a.json").write_bytes(content)
        rows = list(read_list(tmp_path / "a.json", required=("url",), optional=("caption",), syntax=syntax))
        assert [row.values for row in rows] == [{"url": URL, "caption": "\u00e4"}]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_table_of_no_bytes_is_an_error_and_one_of_a_header_has_no_rows(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceBroken, match="0 bytes; expected a line of names"):
        read(tmp_path / name, b"")
    with pytest.raises(SourceBroken, match="0 bytes; expected rows"):
        read(tmp_path / name, b"", "1", header=False)
    with pytest.raises(SourceBroken, match="0 bytes"):
        read(tmp_path / f"{name}.gz", gzip.compress(b""))
    assert read(tmp_path / name, b"url\n") == []


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.ndjson", "a.csv", "a.tsv"])
@pytest.mark.parametrize("suffix", sorted(PACKS))
def test_a_list_of_no_bytes_is_an_error_in_every_format(tmp_path: Path, name: str, suffix: str) -> None:
    with pytest.raises(SourceBroken, match="0 bytes; expected"):
        read(tmp_path / f"{name}{suffix}", PACKS[suffix](b""))
    assert len(read(tmp_path / f"{name}{suffix}", PACKS[suffix](b"\n"))) == 1  # an empty line is a row


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
def test_compressed_lists_are_read_whole_or_are_an_error(tmp_path: Path, suffix: str) -> None:
    text = "".join(f"http://host.example/{random.Random(n).random()}\n" for n in range(3000)).encode()
    pack, path = PACKS[suffix], tmp_path / f"a.txt{suffix}"
    parts = pack(text[:1000]) + pack(text[1000:])
    assert len(read(path, parts)) == 3000
    second = len(pack(text[:1000]))
    for damaged in (parts[:-1], parts[: second + 30], parts + b"junk", parts[:second] + b"xx" + parts[second:], b""):
        with pytest.raises(SourceBroken):
            read(path, damaged)


def test_a_compressed_bomb_is_read_in_little_memory(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.txt.zst", zstandard.compress(bytes(64 << 20)))
    assert [row.fault for row in rows] == ["longer than 1048576 bytes"]


def test_text_in_parquet_that_is_not_utf_8_is_a_fault_of_its_row(tmp_path: Path) -> None:
    texts = pa.array([b"http://a.example/", b"caf\xe9", b"http://b.example/"], pa.binary())
    pq.write_table(pa.table({"url": texts.view(pa.string())}), tmp_path / "a.parquet")
    rows = list(read_list(tmp_path / "a.parquet", required=("url",), optional=()))
    assert (faults(rows), urls(rows)) == ([2], ["http://a.example/", "http://b.example/"])


def _table(name: str) -> bytes:
    """A sound list of 40 rows."""
    rows = [(URL.format(n), f'caption {n}, "quoted" \u00e9') for n in range(40)]
    if name.startswith("a.txt"):
        return "".join(f"{url}\n" for url, _ in rows).encode()
    if name.startswith("a.jsonl"):
        return "".join(json.dumps({"url": url, "caption": caption}) + "\n" for url, caption in rows).encode()
    if name.startswith("a.tsv"):
        return ("url\tcaption\n" + "".join(f"{url}\t{caption}\n" for url, caption in rows)).encode()
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("url", "caption"), *rows])
    return out.getvalue().encode()


def _damaged(content: bytes, seed: int) -> bytes:
    """The content with a piece cut out, inserted or doubled, or cut at a place."""
    choice = random.Random(seed)
    start = choice.randrange(len(content))
    stop = min(len(content), start + choice.choice((1, 2, 5, 40, 300)))
    kind = choice.randrange(4)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + content[stop:]
    if kind == 2:
        return content[:start] + choice.randbytes(stop - start) + content[start:]
    return content[:stop] + content[start:stop] + content[stop:]


def _rows(path: Path, content: bytes) -> list[ListRow] | None:
    try:
        return read(path, content)
    except (RecipeError, SourceBroken):
        return None


def _check_damage(path: Path, name: str, seeds: Iterator[int] | range) -> None:
    """Damage costs rows of damaged lines alone, and each line has its row; or the list is refused."""
    sound = _table(name)
    pack = PACKS[path.suffix if path.suffix in PACKS else ""]
    lines = sound.splitlines()
    whole = {line: row.values for line, row in zip(lines[-40:], read(path, pack(sound)), strict=True)}
    refused = 0
    for seed in seeds:
        damaged = _damaged(pack(sound) if pack is not bytes else sound, seed)
        rows = _rows(path, damaged)
        if rows is None:
            refused += 1
            continue
        if pack is not bytes:
            times = len(rows) // len(whole)  # a whole file twice is two of its streams, and its rows are duplicates
            assert times, f"seed {seed}: rows are lost"
            assert [row.values for row in rows] == list(whole.values()) * times, f"seed {seed}: other rows"
            continue
        split = damaged.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        split = split[:-1] if not split[-1] else split
        header = name.endswith(("csv", "tsv"))
        if header and split[:1] != lines[:1]:  # a caption column of another name is not read: `stoker check` says so
            continue
        by_number = {row.number: row for row in rows}
        for number, line in enumerate(split, 1):
            if header and number == 1:
                continue
            row = by_number.get(number)
            if row is None:  # inside a quoted field that begins in a line before it
                before = max(other for other in by_number if other < number)
                assert "\n" in by_number[before].values["caption"], f"seed {seed}: line {number} is lost"
                assert line not in whole, f"seed {seed}: line {number} is sound, and was swallowed"
            elif line in whole and not row.fault:
                assert row.values == whole[line], f"seed {seed}: line {number} reads differently"
    assert refused < len(list(seeds)) or pack is not bytes


DAMAGED = ["a.txt", "a.csv", "a.tsv", "a.jsonl", "a.txt.gz", "a.csv.gz", "a.csv.bz2", "a.jsonl.zst"]


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_to_a_list_costs_no_sound_line_silently(tmp_path: Path, name: str) -> None:
    _check_damage(tmp_path / name, name, range(300))


@pytest.mark.nightly
@pytest.mark.parametrize("name", DAMAGED)
def test_ten_thousand_damages_to_a_list_cost_no_sound_line_silently(tmp_path: Path, name: str) -> None:
    _check_damage(tmp_path / name, name, range(1000, 11_000))


@pytest.mark.parametrize("name", ["a.parquet", "a.csv.gz", "a.tsv.zst", "a.csv.bz2"])
def test_names_of_columns_of_a_damaged_list_are_refused_with_its_path(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PAR1 and no more" if name == "a.parquet" else b"\x1f\x8b no more")
    with pytest.raises(SourceBroken, match=f"{name}: cannot be read as"):
        column_names(tmp_path / name, ListSyntax())


LINE_END = re.compile(r"\r*\n|\r")
BREAKS = ["\n", "\r\n", "\r", "\r\r\n", "\n\n", "\r\n\n", '"', '""', ",", "\t", '",\n"', "http://other.example/1"]


def _check_each_line_is_told(path: Path, name: str, encoding: str, seeds: range) -> None:
    """Whatever line ends, encodings and quotes a list has: each line is in exactly one row."""
    sound = _table(name).decode()
    for seed in seeds:
        chance = random.Random(seed)
        text = sound.replace("\n", chance.choice(["\n", "\r\n", "\r", "\r\r\n"]))
        for _ in range(chance.randrange(5)):
            place = chance.randrange(len(text))
            text = text[:place] + chance.choice(BREAKS) + text[place + chance.choice((0, 0, 1, 30)) :]
        content = codecs.BOM_UTF16_LE + text.encode("utf-16-le") if encoding == "utf-16" else text.encode(encoding)
        lines = LINE_END.split(text)
        total = len(lines) if lines[-1] else len(lines) - 1
        rows = _rows(path, content)
        header = name.endswith(("csv", "tsv"))
        if header and lines[:1] != sound.split("\n")[:1]:
            continue  # a caption column of another name is not read: its line ends cannot be counted
        assert rows is not None, f"seed {seed}"
        numbers = [row.number for row in rows]
        assert numbers == sorted(set(numbers)), f"seed {seed}"
        assert numbers[0] == (2 if header else 1), f"seed {seed}"
        for row, following in zip(rows, [*numbers[1:], total + 1], strict=True):
            inside = following - row.number - 1
            held = sum(str(value).count("\n") for value in row.values.values())
            if "columns, but" in row.fault:  # of several lines perhaps, but no sound one
                assert not {*lines[row.number : following - 1]} & {*sound.split("\n")} - {""}, (
                    f"seed {seed}: line {row.number}"
                )
            else:
                assert inside == (0 if row.fault else held), f"seed {seed}: line {row.number}"


ENCODED = [(name, encoding) for name in ("a.txt", "a.csv", "a.tsv", "a.jsonl") for encoding in ("utf-8-sig", "utf-16")]


@pytest.mark.parametrize(("name", "encoding"), ENCODED)
def test_each_line_is_in_one_row_whatever_ends_it(tmp_path: Path, name: str, encoding: str) -> None:
    _check_each_line_is_told(tmp_path / name, name, encoding, range(60))


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "encoding"), ENCODED)
def test_ten_thousand_times_each_line_is_in_one_row(tmp_path: Path, name: str, encoding: str) -> None:
    _check_each_line_is_told(tmp_path / name, name, encoding, range(1000, 11_000))


def test_columns_of_bytes_that_are_text_are_text(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    captions = [b"caf\xc3\xa9", b"\xff", None]
    columns = {"url": pa.array([URL.format(number).encode() for number in range(3)]), "caption": pa.array(captions)}
    pq.write_table(pa.table(columns), path)
    rows = list(read_list(path, required=("url",), optional=("caption",), syntax=ListSyntax()))
    assert urls(rows) == [URL.format(number) for number in range(3)]
    assert [row.values["caption"] for row in rows] == ["café", b"\xff", None]


def test_a_caption_of_several_values_is_json() -> None:
    carried = {name: name for name in ("caption", "label", "licence", "author", "page_url")}
    row = ListRow(1, {"url": URL.format(1), "caption": {"en": "a café", "tags": [1, True, None]}, "label": [3]})
    record = entry_of_row(row, "a.jsonl", "url", carried)["record"]
    assert record == {"caption": '{"en": "a café", "tags": [1, true, null]}', "label": "[3]"}
