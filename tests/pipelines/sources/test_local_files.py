"""Files of a folder: each is a sample, a sidecar of one, or rejected with its reason."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.partition import Partition
from stoker.pipelines.source import Candidate
from stoker.pipelines.sources.local_files import LocalFiles
from tests.data import SHARED, needs_shared
from tests.fakes import context

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 30


def put(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read(folder: Path, *, trusted: bool = False, **options: object) -> list[Candidate]:
    source = LocalFiles(**({"files": "."} | options))  # type: ignore[arg-type]  # options of a test
    source_context = context(folder, trusted=trusted)
    return [
        candidate
        for partition in source.partitions(source_context)
        for candidate in source.read(partition, source_context)
    ]


def outcome(candidates: list[Candidate]) -> dict[str, str]:
    return {
        candidate.sample.record["url"].removeprefix("file:"): candidate.rejected.reason
        if candidate.rejected
        else ",".join(candidate.sample.fields)
        for candidate in candidates
    }


def test_fields_come_from_the_first_bytes_and_then_from_the_name(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "a.png": PNG,
            "b.jpg": PNG,  # a name that lies
            "c.txt": b"text",
            "d.MD": b"# text",
            "e.jpg": b"<html>",
            "f.bin": b"\1\2\3",
            "g.svg": b"<svg xmlns='x'/>",
            "h.txt": b"",
            "i": b"who knows",
            ".hidden": b"x",
            ".git/config": b"x",
        },
    )
    assert outcome(read(tmp_path)) == {
        "a.png": "png",
        "b.jpg": "png",
        "c.txt": "txt",
        "d.MD": "txt",
        "e.jpg": "not_an_image",
        "f.bin": "unsupported_format",
        "g.svg": "unsupported_format",
        "h.txt": "empty",
        "i": "unsupported_format",
    }


def test_the_folder_is_the_label_and_files_beside_an_image_describe_it(tmp_path: Path) -> None:
    sidecar = {"licence": "CC0-1.0", "author": "Ann", "label": "tabby", "size": 3, "title": ["no"]}
    put(
        tmp_path,
        {
            "cats/a.png": PNG,
            "cats/a.txt": b"A cat.\n",
            "cats/a.json": json.dumps(sidecar).encode(),
            "dogs/b.png": PNG,
            "dogs/b.json": b"{broken",
            "dogs/c.txt": b"a text of its own",
            "top.png": PNG,
        },
    )
    found = {candidate.sample.record["url"]: candidate.sample.record for candidate in read(tmp_path, label="folder")}
    images = {"file:cats/a.png", "file:dogs/b.png", "file:dogs/c.txt", "file:top.png"}
    assert set(found) == images | {"file:cats/a.json", "file:dogs/b.json"}
    cat = found["file:cats/a.png"]
    assert (cat["caption"], cat["licence"], cat["author"], cat["label"]) == ("A cat.", "CC0-1.0", "Ann", "tabby")
    assert cat["title"] == "a"
    assert found["file:dogs/b.png"]["label"] == "dogs"
    assert "label" not in found["file:top.png"]
    assert len(read(tmp_path, sidecars=False)) == 7


def test_globs_choose_files_and_keep_what_lies_beside_them(tmp_path: Path) -> None:
    put(tmp_path, {"x/a.png": PNG, "x/a.txt": b"caption", "x/y/b.png": PNG, "x/c.txt": b"text", "z.png": PNG})
    found = read(tmp_path, files="x/**/*.png")
    assert [candidate.sample.record["url"] for candidate in found] == ["file:a.png", "file:y/b.png"]
    assert found[0].sample.record["caption"] == "caption"
    assert [candidate.sample.record["url"] for candidate in read(tmp_path, files="x/c.txt")] == ["file:c.txt"]
    put(tmp_path, {"x/[odd].txt": b"text"})
    assert outcome(read(tmp_path, files="x/[odd].txt")) == {"%5Bodd%5D.txt": "txt"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("nowhere", "does not exist"),
        ("no/*.png", "does not exist"),
        ("*.tiff", "no files there"),
        ("empty", "no files there"),
    ],
)
def test_nothing_to_read_is_a_recipe_error(tmp_path: Path, files: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=message):
        read(tmp_path, files=files)


def test_odd_files_are_rejected_and_never_fatal(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    put(inside, {"a.txt": b"text", "big.txt": b"x" * (1 << 20) + b"y"})
    put(outside, {"secret.txt": b"secret"})
    (inside / "link.txt").symlink_to(inside / "a.txt")
    (inside / "leak.txt").symlink_to(outside / "secret.txt")
    (inside / "folder").symlink_to(outside)
    (inside / "loop.txt").symlink_to(inside / "loop.txt")
    (inside / "dangling.txt").symlink_to(inside / "gone.txt")
    os.mkfifo(inside / "pipe.txt")
    os.mkdir(os.fsencode(inside) + b"/caf\xe9")
    (Path(os.fsdecode(os.fsencode(inside) + b"/caf\xe9")) / "n\nl.txt").write_text("text")
    assert outcome(read(inside, max_megabytes=1, label="folder")) == {
        "a.txt": "txt",
        "big.txt": "too_large",
        "link.txt": "txt",
        "leak.txt": "outside",
        "folder": "outside",
        "loop.txt": "unreadable",
        "dangling.txt": "unreadable",
        "pipe.txt": "unreadable",
        "caf%E9/n%0Al.txt": "txt",
    }
    odd = next(candidate for candidate in read(inside, label="folder") if "caf" in candidate.sample.record["url"])
    assert odd.sample.record["label"] == "caf\\xe9"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_rejected(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": b"x"})
    (tmp_path / "a.txt").chmod(0)
    assert outcome(read(tmp_path)) == {"a.txt": "unreadable"}


def plan(folder: Path, **options: object) -> list[Partition]:
    return list(LocalFiles(**({"files": "."} | options)).partitions(context(folder)))  # type: ignore[arg-type]  # options of a test


def test_partitions_follow_the_content_and_an_added_file_changes_one(tmp_path: Path) -> None:
    put(tmp_path, {f"{number:04}.txt": str(number).encode() for number in range(200)} | {"p.png": PNG, "p.txt": b"one"})
    before = plan(tmp_path, files_per_partition=8)
    assert len(before) > 10
    assert plan(tmp_path, files_per_partition=8) == before
    put(tmp_path, {"0100b.txt": b"new"})
    assert len(set(map(repr, before)) - set(map(repr, plan(tmp_path, files_per_partition=8)))) <= 2
    os.unlink(tmp_path / "0100b.txt")
    put(tmp_path, {"p.txt": b"two"})
    after = plan(tmp_path, files_per_partition=8)
    changed = [old for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 1
    assert ["p.png", changed[0].payload["files"][-1][1]] in changed[0].payload["files"]


def test_keys_are_those_of_the_path_whatever_else_lies_there(tmp_path: Path) -> None:
    put(tmp_path, {"a/b.txt": b"text"})
    key = read(tmp_path)[0].sample.key
    put(tmp_path, {"a/a.txt": b"text", "c.txt": b"more"})
    assert {candidate.sample.record["url"]: candidate.sample.key for candidate in read(tmp_path)}["file:a/b.txt"] == key
    assert len(key) == 24


def test_a_file_that_changed_since_planning_ends_the_partition(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": b"text"})
    source, source_context = LocalFiles("."), context(tmp_path)
    (partition,) = source.partitions(source_context)
    put(tmp_path, {"a.txt": b"other"})
    with pytest.raises(SourceBroken, match=r"a\.txt: it has changed"):
        list(source.read(partition, source_context))


@needs_shared
def test_real_photos_all_come_out(tmp_path: Path) -> None:
    assert SHARED is not None
    files = [path for path in (SHARED / "photos").rglob("*") if path.is_file()]
    found = read(tmp_path, trusted=True, files=str(SHARED / "photos"), max_megabytes=256)
    assert len(found) == len(files)
    assert sum(candidate.rejected is None for candidate in found) > 0.8 * len(files)


def test_check_names_the_extra_that_the_files_need(tmp_path: Path) -> None:
    (tmp_path / "a.HEIC").write_bytes(b"x")
    (tmp_path / "b.jxl").write_bytes(b"x")
    script = (
        "import sys; sys.modules['pillow_heif'] = sys.modules['pillow_jxl'] = None\n"  # as if they were not installed
        "from pathlib import Path; from tests.fakes import context\n"
        "from stoker.pipelines.sources.local_files import LocalFiles\n"
        "print(*LocalFiles(files='.').describe_input(context(Path(sys.argv[1]))), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert done.stdout.splitlines() == [
        'HEIC needs a library: pip install "stoker[formats]"',
        'JPEG XL needs a library: pip install "stoker[formats]"',
    ], done.stderr


def test_a_sidecar_that_cannot_be_read_is_rejected_by_itself_with_its_place(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "a.png": PNG,
            "a.webp": PNG,
            "a.json": b'{"label": "cat",\n "title": }',
            "b.png": PNG,
            "b.txt": b"first\nCaf\xe9",
            "c.png": PNG,
            "c.json": b'{"label": 1.5, "title": ["no"], "author": null}',
            "d.png": PNG,
            "d.json": b"[]",
            "e.png": PNG,
            "e.json": b"[" * 100_000,
            "f.png": PNG,
            "f.txt": b"x" * ((1 << 20) + 1),
            "g.png": PNG,
            "g.json": b'{"score": 1, "score": 2}',
        },
    )
    candidates = read(tmp_path)
    rejected = {c.sample.record["url"]: (c.rejected.reason, c.rejected.detail) for c in candidates if c.rejected}
    assert {url: reason for url, (reason, _) in rejected.items()} == {
        "file:a.json": "corrupt",
        "file:b.txt": "not_utf8",
        "file:c.json": "corrupt",
        "file:d.json": "corrupt",
        "file:e.json": "corrupt",
        "file:f.txt": "too_large",
        "file:g.json": "corrupt",
    }
    assert rejected["file:g.json"][1] == "JSON: two values for 'score'"
    assert rejected["file:a.json"][1].startswith("line 2, column 11")
    assert rejected["file:b.txt"][1].startswith("line 2: not UTF-8")
    assert rejected["file:c.json"][1].startswith("title: expected text")
    assert len(candidates) == 8 + 7
    kept = {c.sample.record["url"]: c.sample.record for c in candidates if not c.rejected}
    assert kept["file:c.png"]["label"] == "1.5"
    assert "caption" not in kept["file:b.png"]
    other = {c.sample.record["url"]: c.sample.record for c in read(tmp_path, encoding="cp1252")}
    assert other["file:b.png"]["caption"] == "first\nCafé"
    with pytest.raises(ValueError, match="utf-16"):
        LocalFiles(files=".", encoding="utf-16")


def test_every_key_of_a_sidecar_is_a_column_unless_it_is_left_out(tmp_path: Path) -> None:
    sidecar = {
        "label": 7,
        "camera": "X100",
        "iso": 200,
        "box": {"x": [1, 2]},
        "tags": ["a", "b"],
        "width": "wide",
        "json_width": 1,
        "reason": "because",
        "nothing": None,
        "long": "x" * 10_001,
        "a\nb": 1,
        "17": 1,
    }
    put(tmp_path, {"a.png": PNG, "a.json": json.dumps(sidecar).encode(), "b.png": PNG, "b.json": b'{"label": "b"}'})
    first, second = read(tmp_path)
    assert {name: first.sample.record.get(name) for name in ("label", "camera", "iso", "box", "tags")} == {
        "label": "7",
        "camera": "X100",
        "iso": 200,
        "box": {"x": [1, 2]},
        "tags": ["a", "b"],
    }
    assert (first.sample.record["json_width"], first.sample.record["json_json_width"]) == ("wide", 1)
    assert first.sample.record["json_reason"] == "because"
    assert {"width", "reason", "nothing", "long", "17"}.isdisjoint(first.sample.record)
    assert first.omitted == {"key long": 1, "key a?b": 1, "key 17": 1}
    assert not second.omitted
    for names in (("*",), ("camera", "i*", "b*x", "tags", "*width", "reason", "long", "a*", "17")):
        left = read(tmp_path, leave_out=names)[0]
        assert (set(left.sample.record), dict(left.omitted)) == ({*second.sample.record}, {})
    literal = read(tmp_path, leave_out=("b?x", "[b]ox", "*[a-z]"))[0]
    assert literal.sample.record == first.sample.record


def test_a_partition_has_so_many_columns_of_sidecars_at_most(tmp_path: Path) -> None:
    files = {f"{n}.png": PNG for n in range(4)}
    put(tmp_path, files | {f"{n}.json": json.dumps({f"k{n}_{i}": i for i in range(100)}).encode() for n in range(4)})
    found = read(tmp_path)
    assert sum(name.startswith("k") for candidate in found for name in candidate.sample.record) == 256
    assert sum(sum(candidate.omitted.values()) for candidate in found) == 4 * 100 - 256


def test_partitions_whose_sidecars_say_nothing_more_are_the_same_as_before(tmp_path: Path) -> None:
    def payload(sidecar: bytes, **options: object) -> set[str]:
        put(tmp_path, {"a.png": PNG, "a.json": sidecar})
        source = LocalFiles(**({"files": "."} | options))  # type: ignore[arg-type]  # options of a test
        return set(next(iter(source.partitions(context(tmp_path)))).payload)

    assert payload(b'{"label": "a", "title": null}') == payload(b"{broken") == {"files"}
    assert payload(b'{"label": "a", "iso": 1}') == {"files", "reading"}
    assert payload(b'{"label": "a", "iso": 1}', leave_out=("iso",)) == {"files"}


def test_images_that_share_a_sidecar_are_not_read_again_where_version_0_1_0_read_them(tmp_path: Path) -> None:
    put(tmp_path, {"a.jpg": PNG, "a.png": PNG, "a.txt": b"both"})
    source, asked = LocalFiles(files="."), []

    def is_finished(partition: Partition) -> bool:
        asked.append(partition)
        return True

    (now,) = source.partitions(context(tmp_path))
    (then,) = source.partitions(replace(context(tmp_path), is_finished=is_finished))
    assert [then] == asked
    assert [len(file) for file in now.payload["files"]] == [2, 3]
    assert then == replace(now, payload={"files": [file[:2] for file in now.payload["files"]]})
    assert [*source.read(then, context(tmp_path))] == [*source.read(now, context(tmp_path))]


def test_the_reject_of_a_shared_sidecar_goes_with_the_first_image_that_is_read(tmp_path: Path) -> None:
    put(tmp_path, {"p/a.jpg": b"x" * (2 << 20), "p/a.png": PNG, "p/a.WEBP": PNG, "p/a.txt": b"Caf\xe9"})
    for options, files in (({"files": "p"}, 4), ({"files": "p/*.png"}, 2), ({"files": "p", "max_megabytes": 1}, 4)):
        found = outcome(read(tmp_path, **options))
        assert found["p/a.txt" if "p/a.txt" in found else "a.txt"] == "not_utf8", options
        assert len(read(tmp_path, **options)) == files
        source = LocalFiles(**options)
        assert outcome(list(source.preview(context(tmp_path)))) == found
    # Images of one sidecar in partitions of their own.
    assert len(read(tmp_path, files="p", files_per_partition=1)) == 4
    put(tmp_path, {"q/a.jpg": b"x" * (2 << 20), "q/a.json": b"["})
    assert outcome(read(tmp_path, files="q", max_megabytes=1)) == {"a.jpg": "too_large", "a.json": "corrupt"}


def test_no_other_file_of_the_folder_is_looked_at_for_a_faulty_sidecar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, {f"{n}.{suffix}": content for n in range(20) for suffix, content in (("png", PNG), ("txt", b"\xe9"))})
    listings: list[str] = []

    def counted(listed: Callable[[str], Any]) -> Callable[[str], Any]:
        return lambda path: (listings.append(path), listed(path))[1]  # type: ignore[func-returns-value]

    monkeypatch.setattr(os, "scandir", counted(os.scandir))
    monkeypatch.setattr(os, "listdir", counted(os.listdir))  # which Path.iterdir takes
    assert len(read(tmp_path)) == 40
    assert len(listings) == 1  # the walk itself


def test_sidecars_may_have_endings_in_upper_case_and_utf16_with_its_mark(tmp_path: Path) -> None:
    files = {"p/a.JPG": PNG, "p/a.TXT": b"a", "p/b.JPG": PNG, "p/b.JSON": b'{"label": "b"}', "p/c.jpg": PNG}
    put(tmp_path, files | {"p/c.txt": "\u00e4".encode("utf-16"), "p/d.json": b"{}"})
    found = read(tmp_path, files="p")
    assert [
        (one.sample.record.get("caption"), one.sample.record.get("label")) for one in found if not one.rejected
    ] == [
        ("a", None),
        (None, "b"),
        ("\u00e4", None),
    ]
    (left,) = [one.rejected for one in found if one.rejected]
    assert "no image of that name lies beside it" in left.detail


def test_check_tells_of_files_that_match_but_for_their_case(tmp_path: Path) -> None:
    put(tmp_path, {"p/a.jpg": PNG, "p/b.JPG": PNG, "p/c.Jpg": PNG, "p/d.png": PNG})
    (hint,) = LocalFiles(files="p/*.jpg").describe_input(context(tmp_path))
    assert hint == "not read: 2 files that match 'p/*.jpg' but for upper and lower case, such as b.JPG"
    assert list(LocalFiles(files="p").describe_input(context(tmp_path))) == []
    assert list(LocalFiles(files="p/*.[jJ][pP][gG]").describe_input(context(tmp_path))) == []


def test_numbers_of_a_sidecar_that_are_none_are_counted(tmp_path: Path) -> None:
    put(tmp_path, {"a.png": PNG, "a.json": b'{"n": NaN, "i": -Infinity, "e": 1e400, "none": null, "x": 1.5}'})
    (image,) = read(tmp_path)
    assert image.omitted == {"key n": 1, "key i": 1, "key e": 1}
    assert image.sample.record["x"] == 1.5
    assert {"n", "i", "e", "none"}.isdisjoint(image.sample.record)


@pytest.mark.parametrize("levels", [99, 150, 400, 490, 600, 900, 990, 5000])
def test_values_of_a_sidecar_that_are_nested_without_end_are_told_and_left_out(tmp_path: Path, levels: int) -> None:
    text = f'{{"score": 1, "lists": {"[" * levels + "]" * levels}, "half": ["\\ud800"]}}'
    put(tmp_path, {"p/a.jpg": PNG, "p/a.json": text.encode()})
    image, *rest = read(tmp_path, files="p")
    assert image.rejected is None
    told = [*image.omitted, *(one.rejected.reason for one in rest if one.rejected)]
    assert told in ([[]] if levels == 99 else [["key lists"], ["corrupt"]])  # deeper than Python reads, it is no JSON
    if told != ["corrupt"]:
        assert image.sample.record["score"] == 1
