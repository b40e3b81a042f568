"""Images from lists of URLs, over real HTTP on loopback."""

import bz2
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from stoker.pipelines.errors import RecipeError, SourceBroken, SourceUnavailable
from stoker.pipelines.partition import Partition, digest
from stoker.pipelines.recipe import parse
from stoker.pipelines.rejected import REASONS, OutcomeClass
from stoker.pipelines.source import Candidate, Context
from stoker.pipelines.sources.image_urls import ImageUrls
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.tables.url_entries import key_of
from stoker.pipelines.web.client import Web
from stoker.storage.shards import records
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest
from tests.pipelines.pictures import packed, picture
from tests.site import Reply, Site

WEB = Web(
    allow_private=True,
    requests_per_second=0,
    timeout_s=2,
    deadline_s=4,
    attempts=3,
    backoff_s=0.01,
    max_wait_s=2,
    failures_before_down=4,
)
PNG = b"\x89PNG\r\n\x1a\n"


def png(number: int = 0) -> Reply:
    return Reply(PNG + str(number).encode(), headers={"Content-Type": "image/png"})


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    yield Context(root=tmp_path, web=WEB, scratch=tmp_path / "scratch")
    WEB.close()


def read(source: ImageUrls, context: Context) -> list[Candidate]:
    candidates = [
        candidate for partition in source.partitions(context) for candidate in source.read(partition, context)
    ]
    assert all(candidate.rejected is None or candidate.rejected.reason in REASONS for candidate in candidates)
    return candidates


def reasons(candidates: list[Candidate]) -> list[str]:
    return [candidate.rejected.reason if candidate.rejected else "" for candidate in candidates]


def refusal(candidate: Candidate) -> str:
    assert candidate.rejected is not None
    return candidate.rejected.detail


def write(path: Path, text: str) -> None:
    packs: dict[str, Callable[[bytes], bytes]]
    packs = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstandard.compress}
    pack = packs.get(path.suffix, bytes)
    path.write_bytes(pack(text.encode()))


def test_every_kind_of_trouble_has_its_reason(site: Site, context: Context) -> None:
    site.pages["/robots.txt"] = Reply(b"User-agent: *\nDisallow: /private/")
    site.pages |= {
        "/good.jpg": Reply(b"\xff\xd8\xff\xe0 a jpeg"),
        "/wrong-name.jpg": png(),
        "/page.jpg": Reply(b"<!doctype html><p>Log in"),
        "/drawing.svg": Reply(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        "/empty.jpg": Reply(b""),
        "/forbidden.jpg": Reply(b"", 403),
        "/error.jpg": Reply(b"", 500),
        "/once.jpg": [Reply(b"", 503), png(1)],
        "/big.jpg": Reply(PNG + bytes(2_000_000)),
        "/cut.jpg": Reply(PNG + bytes(1000), cut=100),
        "/loop.jpg": Reply(b"", 302, {"Location": "/loop.jpg"}),
        "/reserved.jpg": Reply(PNG, headers={"X-Robots-Tag": "noai"}),
        "/private/a.jpg": png(),
        "/a,b.jpg": png(2),
    }
    wanted = {
        "/good.jpg": "", "/wrong-name.jpg": "", "/page.jpg": "not_an_image", "/drawing.svg": "unsupported_format",
        "/empty.jpg": "empty", "/forbidden.jpg": "forbidden", "/missing.jpg": "gone", "/error.jpg": "unreachable",
        "/once.jpg": "", "/big.jpg": "too_large", "/cut.jpg": "truncated", "/loop.jpg": "redirects",
        "/reserved.jpg": "opted_out", "/private/a.jpg": "robots", "/a,b.jpg": "", "/good.jpg#again": "duplicate_key",
    }  # fmt: skip
    lines = [site.url(path) for path in wanted] + [
        "",
        "ftp://example.org/a.jpg",
        "http://me:s3cret@host/a.jpg",
        "words",
        "x" * 9000,
    ]
    write(context.root / "urls.txt", "\n".join(lines))
    candidates = read(ImageUrls(lists="urls.txt", max_megabytes=1), context)
    assert reasons(candidates) == [*list(wanted.values())[:-1], "duplicate_key", "empty", *["bad_url"] * 4]
    assert "s3cret" not in str(candidates)
    good = candidates[0].sample
    assert good.fields == {"jpg": b"\xff\xd8\xff\xe0 a jpeg"}
    assert good.key == key_of(site.url("/good.jpg"))
    assert good.record["url"] == site.url("/good.jpg")
    assert good.measures["fetched_at"].endswith("+00:00")
    assert list(candidates[1].sample.fields) == ["png"]
    assert len(site.asked("/good.jpg")) == 1
    assert len(site.asked("/missing.jpg")) == 1


@pytest.mark.parametrize(
    "name",
    ["a.txt", "a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt.gz", "a.csv.bz2", "a.jsonl.zst", "a.json.gz", "a.parquet"],
)
def test_every_kind_of_list_is_read(site: Site, context: Context, name: str) -> None:
    site.pages |= {"/1.png": png(1), "/2,3.png": png(2)}
    urls = [site.url("/1.png"), site.url("/2,3.png")]
    path = context.root / name
    if ".csv" in name:
        write(path, "\ufeffurl,caption,extra\n" + "".join(f'"{url}","a, ""b""",7\n' for url in urls))
    elif ".tsv" in name:
        write(path, "url\tcaption\textra\n" + "".join(f'{url}\ta, "b"\t7\n' for url in urls))
    elif ".jsonl" in name:
        write(path, "".join(json.dumps({"url": url, "caption": 'a, "b"', "extra": "7"}) + "\n" for url in urls))
    elif ".json" in name:
        write(path, json.dumps([{"url": url, "caption": 'a, "b"', "extra": "7"} for url in urls], indent=1))
    elif name.endswith(".parquet"):
        pq.write_table(pa.table({"url": urls, "caption": ['a, "b"'] * 2, "extra": ["7"] * 2}), path)
    else:
        write(path, "\r\n".join(urls))
    candidates = read(ImageUrls(lists="a.*", columns=() if ".txt" in name else ("extra",)), context)
    assert [candidate.sample.record["url"] for candidate in candidates] == urls
    assert reasons(candidates) == ["", ""]
    if ".txt" not in name:
        assert [(candidate.sample.record["caption"], candidate.sample.record["extra"]) for candidate in candidates] == [
            ('a, "b"', 7 if ".csv" in name or ".tsv" in name else "7")
        ] * 2


def test_columns_go_where_they_belong(site: Site, context: Context) -> None:
    site.pages["/1.png"] = png()
    row = [
        site.url("/1.png"),
        "a gull",
        3,
        "http://creativecommons.org/licenses/by/2.0/",
        "Ann",
        "http://example.org/p",
    ]
    table = pa.table(
        {name: [value] for name, value in zip(["link", "text", "cls", "license", "by", "page"], row, strict=True)}
    )
    pq.write_table(table, context.root / "a.parquet")
    source = ImageUrls(
        lists="a.parquet", url_column="link", caption_column="text", label_column="cls", author_column="by",
        page_column="page", group="page",
    )  # fmt: skip
    (candidate,) = read(source, context)
    record = dict(candidate.sample.record)
    assert len(record.pop("sha256")) == 64
    assert record == {
        "url": row[0],
        "caption": "a gull",
        "label": "3",
        "licence": "CC-BY-2.0",
        "author": "Ann",
        "page_url": "http://example.org/p",
        "group": "http://example.org/p",
    }


def test_rows_that_cannot_be_read_are_counted_not_fatal(site: Site, context: Context) -> None:
    site.pages["/1.png"] = png()
    url = site.url("/1.png")
    lines = [
        "{",
        "[1]",
        "null",
        '{"other": 1}',
        '{"url": null}',
        '{"url": 5}',
        f'{{"url": "{url}"}}',
        '"not a url"',
        "[" * 100_000,
    ]
    write(context.root / "a.jsonl", "\n".join(lines))
    assert Counter(reasons(read(ImageUrls(lists="a.jsonl"), context))) == {
        "bad_row": 4,
        "bad_url": 2,
        "empty": 2,
        "": 1,
    }
    (context.root / "b.csv").write_bytes(
        f'url,n\n,1\n"{url}",2,3\n{url},4\n'.encode() + b"http://h/\xff\xfe,5\nshort\n\0\n"
    )
    candidates = read(ImageUrls(lists="b.csv"), context)
    assert reasons(candidates) == ["", "empty", "bad_row", "bad_row", "bad_url", "bad_row"]
    assert [candidate.sample.record.get("line") for candidate in candidates] == [
        None,
        *(f"b.csv:{n}" for n in (2, 3, 5, 6, 7)),
    ]


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.csv", b"link,text\nx,y\n", RecipeError, "no column is called 'url'"),
        ("a.doc", b"x", RecipeError, "unknown kind of list"),
        ("a.parquet", b"no parquet", SourceBroken, "cannot be read as parquet"),
        ("a.txt.gz", b"no gzip", SourceBroken, "cannot be read as txt.gz"),
        (
            "a.jsonl.gz",
            gzip.compress(b'"http://h/"\n' * 9999, mtime=0)[:-20],
            SourceBroken,
            "cannot be read as jsonl.gz",
        ),
    ],
)
def test_a_list_that_cannot_be_read_is_one_line(
    context: Context, name: str, content: bytes, error: type[Exception], message: str
) -> None:
    (context.root / name).write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        list(ImageUrls(lists=name).partitions(context))
    assert "\n" not in str(caught.value)


def test_the_columns_of_lists_that_are_read_are_said(context: Context) -> None:
    write(context.root / "a.csv", "url,text,width\nhttp://a.example/,b,1\n")
    write(context.root / "b.csv.gz", "url,text,width\n")
    write(context.root / "c.txt", "http://a.example/\n")
    pq.write_table(pa.table({"url": ["http://a.example/"], "caption": ["b"]}), context.root / "d.parquet")
    assert list(ImageUrls(lists=("*.csv*", "c.txt", "d.parquet")).describe_input(context)) == [
        "a.csv: url = url; not read: text, width",
        "d.parquet: url = url; caption = caption",
    ]
    assert list(ImageUrls(lists="a.csv", caption_column="text", columns=("width",)).describe_input(context)) == [
        "a.csv: url = url; caption = text; list_width = width"
    ]
    assert list(ImageUrls(start="http://a.example/").describe_input(context)) == []


def test_a_column_that_some_lists_lack_is_missing_there_and_one_that_all_lack_is_an_error(context: Context) -> None:
    write(context.root / "a.csv", "url,width\nhttp://a.example/1,7\n")
    write(context.root / "b.csv", "url,height\nhttp://a.example/2,9\n")
    write(context.root / "c.txt", "http://a.example/3\n")
    write(context.root / "d.tsv", "url\nhttp://a.example/4\n")
    pq.write_table(pa.table({"url": ["http://a.example/5"]}), context.root / "e.parquet")
    source = ImageUrls(lists="*", columns=("width", "height"))
    source.check(context)
    entries = [entry for partition in source.partitions(context) for entry in partition.payload["urls"]]
    records = {entry["url"][-1]: entry.get("record", {}) for entry in entries}
    assert records == {"1": {"list_width": 7}, "2": {"list_height": 9}, "3": {}, "4": {}, "5": {}}
    assert "b.csv: url = url; list_height = height; without: width" in list(source.describe_input(context))
    for lists in ("*", ("a.csv", "c.txt")):
        source = ImageUrls(lists=lists, columns=("width", "widht"))
        for attempt in (source.check, lambda context, source=source: list(source.partitions(context))):
            with pytest.raises(RecipeError, match=r"columns: no list has a column that is called 'widht'.*width"):
                attempt(context)
    write(context.root / "f.jsonl", '{"url": "http://a.example/6", "widht": 1}\n')
    ImageUrls(lists="*", columns=("widht",)).check(context)


def test_a_list_that_is_not_there_is_named(context: Context) -> None:
    with pytest.raises(RecipeError, match=r"'no/\*\.csv': no such file"):
        list(ImageUrls(lists="no/*.csv").partitions(context))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either lists"),
        ({"lists": "a", "start": "b"}, "either lists"),
        ({"lists": "a", "label_pattern": "("}, "not a regular expression"),
        ({"lists": "a", "partition_urls": 0}, "at least 1"),
        ({"list": "a"}, "did you mean 'lists'"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse({"corpus": "a", "source": {"name": "image_urls", **options}}, root=Path())


def test_an_image_more_changes_one_partition_only(context: Context) -> None:
    urls = [f"http://host{number % 7}.example/{number}.jpg" for number in range(400)]

    def names(listed: list[str]) -> list[str]:
        write(context.root / "a.txt", "\n".join(listed))
        return [partition.name for partition in ImageUrls(lists="a.txt", partition_urls=20).partitions(context)]

    before = names(urls)
    after = names([*urls[:100], "http://new.example/a.jpg", *urls[100:]])
    assert len(before) > 10
    assert len(set(before) ^ set(after)) <= 4


def test_partitions_of_the_same_rows_have_names_of_their_own(context: Context) -> None:
    write(context.root / "a.txt", "http://example.com/a.jpg\n" * 50)
    names = [partition.name for partition in ImageUrls(lists="a.txt", partition_urls=2).partitions(context)]
    assert len(set(names)) == len(names) > 1


def test_order_is_that_of_the_list_whatever_the_server_does(site: Site, context: Context) -> None:
    site.pages |= {f"/{n}.png": replace(png(n), delay_s=0.1 if n % 5 == 0 else 0) for n in range(30)}
    write(context.root / "a.txt", "\n".join(site.url(f"/{n}.png") for n in range(30)))
    fast = replace(context, web=replace(WEB, connections_per_host=8))
    first, second = read(ImageUrls(lists="a.txt"), fast), read(ImageUrls(lists="a.txt"), fast)
    assert [candidate.sample.fields["png"] for candidate in first] == [PNG + str(n).encode() for n in range(30)]
    assert [(candidate.sample.key, candidate.sample.record) for candidate in first] == [
        (candidate.sample.key, candidate.sample.record) for candidate in second
    ]
    fast.web.close()


def test_a_site_that_is_down_is_tried_again_later(context: Context) -> None:
    with Site() as site:
        pass
    write(context.root / "a.txt", "\n".join(site.url(f"/{n}.png") for n in range(3)))
    with pytest.raises(SourceUnavailable, match=r'none of 3 URLs answered.*unreachable = "reject"'):
        read(ImageUrls(lists="a.txt", unreachable="retry"), context)
    rejects = [candidate.rejected for candidate in read(ImageUrls(lists="a.txt"), context)]
    assert [reject.reason for reject in rejects if reject] == ["unreachable"] * 3
    assert {reject.outcome_class for reject in rejects if reject} == {OutcomeClass.MOMENT}


def test_a_site_that_goes_down_midway_is_tried_again_later(site: Site, context: Context) -> None:
    site.pages |= {f"/{n}.png": png(n) if n < 10 else Reply(b"", 503) for n in range(40)}
    write(context.root / "a.txt", "\n".join(site.url(f"/{n}.png") for n in range(40)))
    with pytest.raises(SourceUnavailable, match="stopped answering"):
        read(ImageUrls(lists="a.txt", unreachable="retry"), context)


def test_one_dead_host_among_others_costs_only_its_own_urls(site: Site, context: Context) -> None:
    with Site() as dead:
        pass
    site.pages |= {f"/{n}.png": png(n) for n in range(10)}
    write(context.root / "a.txt", "\n".join(host.url(f"/{n}.png") for n in range(10) for host in (site, dead)))
    assert reasons(read(ImageUrls(lists="a.txt"), context)) == ["", "unreachable"] * 10


def test_a_caller_that_stops_leaves_no_thread_behind(site: Site, context: Context) -> None:
    site.pages |= {f"/{n}.png": png(n) for n in range(50)}
    write(context.root / "a.txt", "\n".join(site.url(f"/{n}.png") for n in range(50)))
    source = ImageUrls(lists="a.txt")
    (partition, *_) = source.partitions(context)
    candidates = source.read(partition, context)
    next(iter(candidates))
    candidates.close()  # type: ignore[attr-defined]  # a generator
    asked = len(site.log)
    assert asked < 50
    assert len(site.log) == asked


def test_options_that_only_choose_rows_do_not_fetch_the_others_again() -> None:
    def extraction(**options: Any) -> object:
        return parse({"corpus": "a", "source": {"name": "image_urls", "lists": "a"} | options}, root=Path()).extraction

    assert extraction(partition_urls=7, unreachable="reject", columns=["a"]) == extraction()
    assert extraction(max_megabytes=1) != extraction()
    assert ImageUrls.planning < {field.name for field in fields(ImageUrls)}


def test_two_urls_in_one_value_are_rejected_and_never_joined(context: Context) -> None:
    both, one = "http://a.example/1\nhttp://a.example/2", "http://a.example/3"
    write(context.root / "a.jsonl", json.dumps({"url": both}) + "\n" + json.dumps(f"{one}\n"))
    write(context.root / "a.json", json.dumps([both, f" {one}\r\n"]))
    write(context.root / "a.csv", f'url,x\n"{both}",1\n"{one}\n",2\n')
    pq.write_table(pa.table({"url": [both, one]}), context.root / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.csv", "a.parquet"):
        entries = [entry for part in ImageUrls(lists=name).partitions(context) for entry in part.payload["urls"]]
        kept = [entry["url"] for entry in entries if "refused" not in entry]
        refused = [entry["refused"] for entry in entries if "refused" in entry]
        assert kept == [one], name
        assert {reason for reason, _ in refused} == {"bad_url"}, name
        assert ["control character" in detail for _, detail in refused] == [True], name
    with pytest.raises(RecipeError, match="control character"):
        list(ImageUrls(start=both).partitions(context))


def picture_reply(number: int) -> Reply:
    return Reply(packed(picture(40, 40, number), "PNG"), headers={"Content-Type": "image/png"})


def publish(context: Context, store: MemoryStore, **options: object) -> Manifest:
    document = {
        "corpus": "c",
        "source": {"name": "image_urls"} | options,
        "splits": {"train": 50, "validation": 50},
        "shards": {"partitions": 2},
    }
    return ingest(parse(document, root=context.root), store, context).manifest


def records_of(source: ImageUrls, context: Context) -> list[dict[str, Any]]:
    return [entry.get("record", {}) for partition in source.partitions(context) for entry in partition.payload["urls"]]


def test_no_column_of_a_list_takes_the_place_of_what_an_option_names_or_stoker_measures(
    site: Site, context: Context
) -> None:
    site.pages["/1.png"] = png()
    names = ["href", "url", "text", "caption", "width", "final_url", "sha256", "line", "reason", "score", "list_width"]
    write(context.root / "a.csv", ",".join(names) + f"\n{site.url('/1.png')}," + ",".join(names[1:]) + "\n")
    source = ImageUrls(lists="a.csv", url_column="href", caption_column="text", columns=tuple(names[1:]))
    (candidate,) = read(source, context)
    record = dict(candidate.sample.record)
    assert len(record.pop("sha256")) == 64
    assert record == {
        "url": site.url("/1.png"), "caption": "text", "text": "text", "score": "score",
        "list_url": "url", "list_caption": "caption", "list_width": "width", "list_final_url": "final_url",
        "list_sha256": "sha256", "list_line": "line", "list_reason": "reason", "list_list_width": "list_width",
    }  # fmt: skip
    assert candidate.sample.measures["final_url"] == site.url("/1.png")
    (line,) = source.describe_input(context)
    assert "list_caption = caption; list_width = width" in line
    for pattern, group, expected in (
        ("", "url", {"label": "a", "group": "b"}),
        ("t", "url", {"label": "a", "list_label": "a", "group": "b"}),
        ("", "host", {"label": "a", "list_group": "b"}),
    ):
        write(context.root / "b.csv", "url,label,group\nhttp://a.example/,a,b\n")
        source = ImageUrls(lists="b.csv", columns=("url", "label", "group"), label_pattern=pattern, group=group)  # type: ignore[arg-type]  # one of its values
        assert records_of(source, context) == [expected]


def test_the_record_of_a_url_column_has_no_password(context: Context) -> None:
    write(context.root / "a.csv", "href\nhttp://me:s3cret@a.example/\n")
    source = ImageUrls(lists="a.csv", url_column="href", columns=("href",))
    assert records_of(source, context) == [{"href": "http://…@a.example/"}]


def test_json_that_cannot_be_kept_is_a_reject_at_any_depth(context: Context) -> None:
    deep = "[" * 700 + "]" * 700
    values = ['{"a": ["\\ud800"]}', '{"\\udfff": 1}', deep, '{"x":' * 300 + "1" + "}" * 300, '{"ok": [1, "é"]}']
    rows = [f'{{"url": "http://a.example/{number}", "x": {value}}}' for number, value in enumerate(values)]
    write(context.root / "a.jsonl", "\n".join(rows))
    write(context.root / "b.json", f"[{','.join(rows)}]")
    for name in ("a.jsonl", "b.json"):
        candidates = [
            entry
            for part in ImageUrls(lists=name, columns=("x",)).partitions(context)
            for entry in part.payload["urls"]
        ]
        assert len(candidates) == len(values)
        assert Counter(entry.get("refused", [""])[0] for entry in candidates) == {"bad_row": 4, "": 1}
        assert [entry["record"] for entry in candidates if "refused" not in entry] == [{"x": {"ok": [1, "é"]}}]
        unread = [entry for part in ImageUrls(lists=name).partitions(context) for entry in part.payload["urls"]]
        assert not any("refused" in entry for entry in unread), "a column that is not read"


@pytest.mark.parametrize("name", ["b.jsonl", "b.json", "b.ndjson.gz", "B.JSON"])
def test_a_json_list_does_not_hide_a_column_that_all_lists_lack(context: Context, name: str) -> None:
    write(context.root / "a.csv", "url,width\nhttp://a.example/1,7\n")
    rows = [
        '{"url": "http://a.example/2", "height": 1}',
        '"http://a.example/3"',
        '{"url": "http://a.example/4", "late": 1}',
    ]
    write(context.root / name, f"[{','.join(rows)}]" if name.lower() == "b.json" else "\n".join([*rows, "", "{"]))
    ImageUrls(lists="*", columns=("width", "height", "late")).check(context)
    source = ImageUrls(lists="*", columns=("width", "hieght"))
    for attempt in (source.check, lambda context: list(source.partitions(context))):
        with pytest.raises(RecipeError, match=r"columns: no list has a column that is called 'hieght'.*height"):
            attempt(context)


def test_columns_of_text_lists_are_typed_by_all_values_of_a_partition(context: Context) -> None:
    header = "url,width,zip,score,ok,caption,late\n"
    (context.root / "a.csv").write_text(f"{header}http://a.example/1,640,10115,0.5,true,7,1\n")
    (context.root / "b.tsv").write_text(header.replace(",", "\t") + "http://a.example/2\t\t04109\t2\tfalse\t8\t1e400\n")
    (context.root / "c.jsonl").write_text('{"url": "http://a.example/3", "width": 5, "ok": true, "score": "x"}\n')
    columns = ("width", "zip", "score", "ok", "late", "caption")

    def records(lists: tuple[str, ...], partition_urls: int = 500) -> list[dict[str, object]]:
        source = ImageUrls(lists=lists, columns=columns, partition_urls=partition_urls)
        partitions = list(source.partitions(context))
        assert len(partitions) == 1 or partition_urls == 1
        urls = [url for part in partitions for url in part.payload["urls"]]
        assert {name for url in urls for name in url} == {"url", "record"}
        return [url["record"] for url in sorted(urls, key=lambda url: str(url["url"]))]

    first, second = records(("a.csv", "b.tsv"))
    assert first == {"list_width": 640, "zip": "10115", "score": 0.5, "ok": True, "late": "1", "caption": "7"}
    assert second == {"zip": "04109", "score": 2.0, "ok": False, "late": "1e400", "caption": "8"}
    assert records(("b.tsv", "a.csv")) == [first, second]
    assert [record.get("score") for record in records(("*.*",))] == ["0.5", "2", "x"]
    assert records(("*.*",))[0]["list_width"] == 640
    alone = records(("*.*",), partition_urls=1)
    assert [record.get("score") for record in alone] == [0.5, 2, "x"]
    assert (alone[0]["zip"], alone[1]["zip"]) == (10115, "04109")
    shown = islice(ImageUrls(lists=("a.csv", "b.tsv"), columns=columns).preview(context), 2)
    assert [candidate.sample.record["zip"] for candidate in shown] == ["10115", "04109"]


def test_columns_with_a_meaning_are_never_typed(context: Context) -> None:
    names = [
        "group",
        "label",
        "caption",
        "title",
        "language",
        "licence",
        "license",
        "author",
        "attribution",
        "page_url",
    ]
    names += ["kind"]
    for value in ("0", "1.5", "false"):
        write(context.root / "a.csv", f"url,{','.join(names)}\nhttp://a.example/1{f',{value}' * len(names)}\n")
        (record,) = records_of(ImageUrls(lists="a.csv", columns=tuple(names), label_column="kind"), context)
        assert set(record) == {*names, "list_label", "list_license"} - {"license"}
        assert {type(text) for text in record.values()} == {str}
        assert set(record.values()) == {value}


def test_lists_without_typed_columns_have_the_payload_of_before(context: Context) -> None:
    write(context.root / "a.csv", "url,caption,x\nhttp://a.example/1,7,8\n")
    (partition,) = ImageUrls(lists="a.csv").partitions(context)
    assert partition == Partition(
        f"a.example-{digest([{'url': 'http://a.example/1', 'record': {'caption': '7'}}])[:10]}",
        {"urls": [{"url": "http://a.example/1", "record": {"caption": "7"}}]},
    )


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_group_0_or_false_stays_in_one_split(site: Site, context: Context, suffix: str) -> None:
    groups = [0, False, 1] if suffix == "jsonl" else ["0", "false", "1"]
    rows = [(site.url(f"/{number}.png"), groups[number % 3]) for number in range(24)]
    site.pages |= {f"/{number}.png": picture_reply(number) for number in range(24)}
    if suffix == "csv":
        text = "url,group\n" + "".join(f"{url},{group}\n" for url, group in rows)
    else:
        text = "\n".join(json.dumps({"url": url, "group": group}) for url, group in rows)
    write(context.root / f"a.{suffix}", text)
    store = MemoryStore()
    splits: dict[str, set[str]] = {}
    for shard in publish(context, store, lists=f"a.{suffix}", columns=["group"]).shards:
        for group in records.decode(store.read(shard.index))["group"].to_pylist():
            splits.setdefault(group, set()).add(shard.split)
    assert set(splits) == {"0", "false", "1"}
    assert {len(names) for names in splits.values()} == {1}


def test_a_new_value_of_another_type_fetches_its_own_partition_alone(site: Site, context: Context) -> None:
    site.pages |= {f"/{number}.png": picture_reply(number) for number in range(25)}
    lines = [f"{site.url(f'/{number}.png')},0.{number}5" for number in range(24)]
    store = MemoryStore()

    def night(lines: list[str]) -> Manifest:
        write(context.root / "a.csv", "\n".join(["url,score", *lines]) + "\n")
        return publish(context, store, lists="a.csv", columns=["score"], partition_urls=4)

    first = night(lines)
    assert all("moments" in split["columns"]["score"] for split in first.statistics.values())
    fetched = len(site.log)
    second = night([*lines, f"{site.url('/24.png')},n/a"])
    before = {part.digest for part in first.parts}
    (new,) = [part for part in second.parts if part.digest not in before]
    assert new.kept <= 16
    assert [request.path for request in site.log[fetched:]].count("/24.png") == 1
    assert sum(request.path.endswith(".png") for request in site.log[fetched:]) == new.read
    tables = [records.decode(store.read(shard.index)) for shard in second.shards]
    assert {str(table.schema.field("score").type) for table in tables} == {"string"}
    values = sorted(value for table in tables for value in table["score"].to_pylist())
    assert values == sorted([*(line.split(",")[1] for line in lines), "n/a"])
    assert all("categories" in split["columns"]["score"] for split in second.statistics.values())
    assert verify(store, first).problems == verify(store, second).problems == ()
