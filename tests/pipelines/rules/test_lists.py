"""The rule `lists`: what they name, which line decided, and a changed list is a changed rule."""

import hashlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.pipelines.errors import OutsideRecipe, RecipeError
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.rule import Decision
from stoker.pipelines.rules.lists import Lists
from stoker.pipelines.source import Context
from stoker.pipelines.stages.pinning import pinned
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.why import find_lineages
from stoker.pipelines.web.client import Web
from stoker.storage.stores.memory import MemoryStore
from stoker.testing import decide

SHA = hashlib.sha256(b"b").hexdigest()
RECORDS = pa.table(
    {
        "key": ["a", "b", "c", "d"],
        "url": ["http://x.org/1", "http://img.x.org:8080/%C3%BC", "https://y.org/1?a#b", None],
        "page_url": ["http://x.org/", None, "http://z.org/", None],
        "sha256": ["0" * 64, SHA, "1" * 64, None],
        "content_sha256": ["2" * 64, "3" * 64, "4" * 64, "5" * 64],
        "author": ["Ann", "ann", " Bo", None],
    }
)


def context(root: Path) -> Context:
    return Context(root=root, web=Web(), scratch=root / "scratch")


def recipe(root: Path, **options: Any) -> Recipe:
    document = {"corpus": "words", "source": {"name": "local_files", "files": "in/*.txt"}, "splits": {"train": 100}}
    return parse(document | {"rules": [{"name": "lists"} | options]}, root=root)


def decided(root: Path, **options: Any) -> list[Decision]:
    return decide(pinned(recipe(root, **options), context(root), MemoryStore()).rules[0], RECORDS, root=root)


@pytest.mark.parametrize(
    ("by", "value", "keys"),
    [
        ("key", "b", "b"),
        ("url", "http://X.org:80/1", "a"),
        ("url", "http://img.x.org:8080/ü", "b"),
        ("url", "https://y.org/1?a#b", "c"),
        ("host", "x.org", "ab"),
        ("host", "*.X.org", "ab"),
        ("host", "img.x.org", "b"),
        ("host", "org", "abc"),
        ("host", "rg", ""),
        ("page", "http://x.org", "a"),
        ("sha256", SHA.upper(), "b"),
        ("sha256", "5" * 64, "d"),
        ("author", "Ann", "a"),
    ],
)
def test_what_a_value_names_is_dropped_or_all_else(tmp_path: Path, by: str, value: str, keys: str) -> None:
    found = decided(tmp_path, by=by, values=[value])
    assert "".join(one.key for one in found) == keys
    assert {one.value for one in found} <= {"excluded"}
    kept = decided(tmp_path, by=by, values=[value], action="keep")
    assert "".join(one.key for one in kept) == "".join(key for key in "abcd" if key not in keys)
    assert {one.value for one in kept} <= {"not_listed"}


def test_the_list_and_the_line_that_decided_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# hosts\n\nq.org\nx.org\nx.org\n")
    (tmp_path / "b.csv").write_text("why,url\nspam,y.org\n")
    found = decided(tmp_path, by="host", files=["*.txt", "b.csv"])
    assert [(one.key, one.detail) for one in found] == [
        ("a", "a.txt, line 4"),
        ("b", "a.txt, line 4"),
        ("c", "b.csv, line 2"),
    ]
    assert [one.detail for one in decided(tmp_path, by="key", values=["z", "d"])] == ["values, entry 2"]
    pq.write_table(pa.table({"bad": ["Ann"], "n": [1]}), tmp_path / "c.parquet")
    assert [one.detail for one in decided(tmp_path, by="author", files=["c.parquet"], column="bad")] == [
        "c.parquet, line 1"
    ]


@pytest.mark.parametrize(
    ("by", "text", "message"),
    [
        ("url", "http://x.org/1\nx y", r"rule 'lists': l\.txt, line 2: 'x y': no scheme"),
        ("host", "http://x.org/", "line 1: 'http://x.org/': expected a host"),
        ("sha256", "abc", "expected a SHA-256"),
        ("key", "", "0 bytes; expected rows"),
        ("key", "a\0", "line 1: it holds a NUL"),
    ],
)
def test_an_entry_that_names_nothing_is_an_error_of_one_line(tmp_path: Path, by: str, text: str, message: str) -> None:
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        pinned(recipe(tmp_path, by=by, files=["l.txt"]), context(tmp_path), MemoryStore())  # before anything is read
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("rule 'lists'") == 1


def test_a_path_without_a_scheme_is_told_how_to_be_written(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"values, entry 1: 'cat/1 a\.jpg': no scheme; write file:cat/1%20a\.jpg for"):
        pinned(recipe(tmp_path, by="url", values=["cat/1 a.jpg"]), context(tmp_path), MemoryStore())


def test_what_is_not_there_or_leaves_the_folder_is_refused_before_the_run(tmp_path: Path) -> None:
    root = tmp_path / "recipe"
    root.mkdir()
    (tmp_path / "l.txt").write_text("a")
    (root / "link.txt").symlink_to(tmp_path / "l.txt")
    with pytest.raises(RecipeError, match=r"rule 'lists': 'l\.txt': no such file"):
        pinned(recipe(root, by="key", files=["l.txt"]), context(root), MemoryStore())
    for name in ("../l.txt", "link.txt"):
        with pytest.raises(OutsideRecipe):
            pinned(recipe(root, by="key", files=[name]), context(root), MemoryStore())
    with pytest.raises(RecipeError, match="expected files or values"):
        recipe(root, by="key")
    with pytest.raises(RecipeError, match="no column 'author'"):
        decide(Lists("author", values=("x",)), RECORDS.drop_columns(["author"]))


def test_a_list_that_changes_within_a_run_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("a")
    rule = pinned(recipe(tmp_path, by="key", files=["l.txt"]), context(tmp_path), MemoryStore()).rules[0]
    (tmp_path / "l.txt").write_text("b")
    with pytest.raises(RecipeError, match="run again"):
        decide(rule, RECORDS, root=tmp_path)


def test_a_changed_list_is_a_changed_rule_and_an_unchanged_one_makes_no_version(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("one", "two", "three"):
        (tmp_path / "in" / f"{name}.txt").write_text(f"{name} word")
    store, words = MemoryStore(), recipe(tmp_path, by="key", files=["l.txt"])
    (tmp_path / "l.txt").write_text("none\n")
    first = ingest(words, store, context(tmp_path)).manifest
    assert first.samples == 3
    assert not ingest(words, store, context(tmp_path)).new
    (two,) = find_lineages(store, first, hashlib.sha256(b"two word").hexdigest())
    key = two.key
    (tmp_path / "l.txt").write_text(f"none\n{key}\n")
    second = ingest(words, store, context(tmp_path)).manifest
    assert (second.version, second.samples) == (2, 2)
    assert second.recipe["rules"][0]["digests"] == {"l.txt": hashlib.sha256(f"none\n{key}\n".encode()).hexdigest()}
    (lineage,) = find_lineages(store, second, key)
    assert (lineage.reason, lineage.detail, lineage.rejected_by) == ("excluded", "l.txt, line 2", "lists")
    assert not ingest(words, store, context(tmp_path)).new


def test_a_file_of_a_folder_is_named_as_records_have_it() -> None:
    rows = pa.table({"key": ["a", "b"], "url": ["file:cat/1%20a.jpg", "file:cat/2.jpg"]})
    (found,) = decide(Lists(by="url", values=("file:cat/1%20a.jpg",)), rows)
    assert (found.key, found.value) == ("a", "excluded")
