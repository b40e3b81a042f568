"""A recipe whose paths leave its folder is refused before anything is read."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from stoker.pipelines.errors import OutsideRecipe
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Source
from stoker.pipelines.stages.ingest import plan
from stoker.pipelines.stages.trust import check_paths
from stoker.pipelines.step import Step
from tests.fakes import context, recipe


def of_source(root: Path, **source: Any) -> Recipe:
    return parse({"corpus": "a", "source": source}, root=root)


@pytest.mark.parametrize(
    ("source", "option"),
    [
        ({"name": "local_files", "files": "../"}, "files '../'"),
        ({"name": "local_files", "files": "/etc"}, "files '/etc'"),
        ({"name": "hugging_face", "dataset": "../private"}, "dataset '../private'"),
        ({"name": "image_urls", "lists": ["urls.txt", "link/*.csv"]}, "lists 'link/*.csv'"),
        ({"name": "video_frames", "videos": ["https://example.org/a.mp4", "../*.mp4"]}, "videos '../*.mp4'"),
        ({"name": "video_frames", "lists": "../list.csv"}, "lists '../list.csv'"),
        ({"name": "wikipedia_dump", "dump": ["/data/dump.xml.bz2"]}, "dump '/data/dump.xml.bz2'"),
    ],
)
def test_every_source_refuses_to_leave_the_folder(source: dict[str, Any], option: str, tmp_path: Path) -> None:
    root = tmp_path / "recipe"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    made = of_source(root, **source)
    for check in (lambda: check_paths(made, context(root)), lambda: plan(made, context(root))):
        with pytest.raises(OutsideRecipe) as refused:
            check()
        assert str(refused.value).startswith(f"source '{source['name']}': {option} leads to ")
    check_paths(made, context(root, trusted=True))


@pytest.mark.parametrize(
    "source",
    [
        {"name": "image_urls", "start": "https://example.org/", "include": ["/etc/*"], "label_pattern": "/.*"},
        {"name": "hugging_face", "dataset": "ylecun/mnist"},
        {"name": "wikipedia_dump", "dump": "https://example.org/../dump.xml"},
        {"name": "local_files", "files": "~/pictures"},  # no source expands it: a folder that is called "~"
    ],
)
def test_what_is_no_path_needs_no_trust(source: dict[str, Any], tmp_path: Path) -> None:
    check_paths(of_source(tmp_path, **source), context(tmp_path))


def test_an_entry_of_a_list_that_names_a_file_of_the_folder_needs_no_trust(tmp_path: Path) -> None:
    source = {"name": "local_files", "files": "pictures"}

    def of_lists(**options: Any) -> Recipe:
        rule = {"name": "lists", "by": "url", **options}
        return parse({"corpus": "a", "source": source, "rules": [rule]}, root=tmp_path)

    check_paths(of_lists(values=["file:cat/1.jpg", "file:///etc/passwd", "/etc"]), context(tmp_path))
    with pytest.raises(OutsideRecipe, match=r"rule 'lists': files '\.\./\*\.txt' leads to"):
        check_paths(of_lists(files=["../*.txt"]), context(tmp_path))


def test_the_row_of_a_list_that_leads_out_is_refused_while_it_is_read(tmp_path: Path) -> None:
    root = tmp_path / "recipe"
    root.mkdir()
    (tmp_path / "private.mp4").write_bytes(b"x")
    (root / "list.txt").write_text("https://example.org/a.mp4\n../private.mp4\n")
    made = of_source(root, name="video_frames", lists="list.txt")
    check_paths(made, context(root))
    with pytest.raises(OutsideRecipe, match=r"'\.\./private\.mp4' leads to"):
        plan(made, context(root))
    assert len(plan(made, context(root, trusted=True))) == 2


@dataclass(frozen=True)
class Careless(Source):
    """A plug-in's source that says nothing about its options."""

    where: Any = ""


@dataclass(frozen=True)
class WordList(Step):
    """A plug-in's step that reads a file."""

    words: str = ""


@pytest.mark.parametrize(
    "value",
    [
        "../secret.txt",
        "../*.txt",
        ["x", {"deep": "../secret.txt"}],
        "link.txt",
        "/etc/passwd",
        {"../secret.txt": 1},
        "file:///etc/passwd",
        "FILE://host/none",
        "file:/etc/none",
        "file:../none",
        "x://../../secret.txt",
    ],
)
def test_options_of_plug_ins_that_name_something_outside_are_found(value: Any, tmp_path: Path) -> None:
    root = tmp_path / "recipe"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link.txt").symlink_to("../secret.txt")
    (root / "x:").mkdir()
    with pytest.raises(OutsideRecipe, match=r"source 'test_trust': where"):
        check_paths(replace(recipe(()), source=Careless(value)), context(root))
    if isinstance(value, str):
        with pytest.raises(OutsideRecipe, match=r"step 'test_trust': words"):
            check_paths(replace(recipe(()), steps=(WordList(value),)), context(root))


@pytest.mark.parametrize(
    "value",
    [
        "../none.txt",
        "/no/such/*",
        "^/a/.*$",
        "en/de",
        "https://example.org/../a",
        "",
        3,
        "s3://bucket/../a",
        "hf://datasets/../../a?b=*",
        {"https://example.org/": 1},
    ],
)
def test_options_of_plug_ins_that_name_nothing_are_no_paths(value: Any, tmp_path: Path) -> None:
    check_paths(replace(recipe(()), source=Careless(value)), context(tmp_path))


@pytest.mark.parametrize("value", ["/", ".", "..", "../..", "..."])
def test_dots_and_separators_are_no_paths_unless_the_option_is_one(value: str, tmp_path: Path) -> None:
    made = replace(recipe(()), source=Careless(value), steps=(WordList(value),))
    check_paths(made, context(tmp_path))
    if value in ("/", "..", "../.."):
        with pytest.raises(OutsideRecipe, match="source 'local_files': files"):
            check_paths(of_source(tmp_path, name="local_files", files=value), context(tmp_path))


@pytest.mark.parametrize("pattern", ["*/../../private.txt", "**/../*.txt", "inside/*/../../../*.txt"])
def test_a_way_out_behind_a_wildcard_is_refused(pattern: str, tmp_path: Path) -> None:
    root = tmp_path / "recipe"
    root.mkdir()
    with pytest.raises(OutsideRecipe, match="leads to"):
        check_paths(of_source(root, name="local_files", files=pattern), context(root))


def test_matches_of_a_glob_are_refused_when_they_are_read_and_not_listed_before(tmp_path: Path) -> None:
    root = tmp_path / "recipe"
    (root / "texts").mkdir(parents=True)
    (root / "texts" / "a.txt").write_text("a")
    (tmp_path / "private.txt").write_text("private")
    (root / "texts" / "b.txt").symlink_to("../../private.txt")
    made = of_source(root, name="image_urls", lists="texts/*.txt")
    listed: list[str] = []
    sys.addaudithook(lambda event, arguments: listed.append(str(arguments[0])) if event == "os.scandir" else None)
    check_paths(made, context(root))
    assert [folder for folder in listed if folder.startswith(str(root))] == []
    with pytest.raises(OutsideRecipe, match=r"leads to .*private"):
        plan(made, context(root))
    assert [folder for folder in listed if folder.startswith(str(root))]
    files = of_source(root, name="local_files", files="texts/*.txt")
    read = [candidate for part in plan(files, context(root)) for candidate in files.source.read(part, context(root))]
    assert [candidate.rejected and candidate.rejected.reason for candidate in read] == [None, "outside"]
