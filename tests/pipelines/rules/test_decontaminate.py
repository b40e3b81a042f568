"""The rule `decontaminate`: the same, nearly the same, and shared runs of words of another corpus."""

import random
from pathlib import Path
from typing import Any

import pytest

from stoker.flows.cli.cli import main
from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import Recipe, parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.why import find_lineages
from stoker.pipelines.web.client import Web
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from tests.pipelines.pictures import packed, picture


def prose(seed: int, words: int = 120) -> list[str]:
    return [f"w{random.Random(f'{seed} {place}').randrange(5000)}" for place in range(words)]


def recipe(root: Path, corpus: str, **options: Any) -> Recipe:
    document = {"corpus": corpus, "source": {"name": "local_files", "files": f"{corpus}/*"}, "splits": {"train": 100}}
    rules = [{"name": "decontaminate"} | options] if options else []
    return parse(document | {"rules": rules}, root=root)


def made(root: Path, store: Store, made_by: Recipe) -> Manifest:
    context = Context(root=root, web=Web(), scratch=root / "scratch")
    return ingest(made_by, store, context).manifest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    image = picture(200, 150)
    theirs: dict[str, str | bytes] = {
        "a.txt": " ".join(prose(1)),
        "b.txt": " ".join(prose(2)),
        "i.png": packed(image, "PNG"),
    }
    near = prose(2)
    near[60] = "other"
    quoted = prose(3)[:50] + prose(1)[20:40] + prose(4)[:30] + prose(2)[:13] + prose(5)[:20]
    once = prose(9)[:50] + prose(1)[20:33] + prose(10)[:50]
    short = prose(6)[:50] + prose(1)[20:32] + prose(7)[:50]
    ours: dict[str, str | bytes] = {
        "same.txt": " ".join(prose(1)),
        "near.txt": " ".join(near),
        "quoted.txt": " ".join(quoted),
        "once.txt": " ".join(once),
    }
    ours |= {"short.txt": " ".join(short), "other.txt": " ".join(prose(8))}
    ours |= {"copy.jpg": packed(image, quality=80), "another.png": packed(picture(200, 150, seed=5), "PNG")}
    for folder, files in (("bench", theirs), ("web", ours)):
        (tmp_path / folder).mkdir()
        for name, content in files.items():
            payload = content.encode() if isinstance(content, str) else content
            (tmp_path / folder / name).write_bytes(payload)
    return tmp_path


def left(store: Store, manifest: Manifest) -> dict[str, str]:
    """The detail of each sample that the rule dropped, by the name of its file."""
    from stoker.storage.versions.version import Version

    told = Version(store, manifest).sql("SELECT key, detail FROM rejected WHERE reason = 'contaminated'").to_pylist()
    found = {}
    for row in told:
        (lineage,) = find_lineages(store, manifest, row["key"])
        assert (lineage.rejected_by, lineage.detail) == ("decontaminate", row["detail"])
        found[str(lineage.record["url"]).removeprefix("file:")] = row["detail"]
    return found


def test_what_the_other_corpus_holds_is_dropped_and_why_says_what(root: Path) -> None:
    store = DirectoryStore(root / "store")
    made(root, store, recipe(root, "bench"))
    manifest = made(root, store, recipe(root, "web", against="bench"))
    found = left(store, manifest)
    assert set(found) == {"same.txt", "near.txt", "quoted.txt", "once.txt", "copy.jpg"}
    assert "the same as" in found["same.txt"]
    assert "of bench@1" in found["copy.jpg"]
    assert found["quoted.txt"] == "shares 9 runs of 13 words with bench@1: words 51 to 70, 101 to 113"
    assert found["once.txt"] == "shares 1 run of 13 words with bench@1: words 51 to 63"
    assert manifest.recipe["rules"][0]["against"] == "bench@1"
    only = made(root, store, recipe(root, "web", against="bench@1", near=False, ngrams=0))
    assert set(left(store, only)) == {"same.txt"}


def test_a_newer_version_is_a_changed_rule_and_an_unchanged_one_makes_no_version(root: Path) -> None:
    store = DirectoryStore(root / "store")
    made(root, store, recipe(root, "bench"))
    first = made(root, store, recipe(root, "web", against="bench"))
    assert made(root, store, recipe(root, "web", against="bench")).version == first.version
    (root / "bench" / "c.txt").write_text(" ".join(prose(8)))
    made(root, store, recipe(root, "bench"))
    second = made(root, store, recipe(root, "web", against="bench"))
    assert (second.version, second.samples) == (2, first.samples - 1)
    assert second.recipe["rules"][0]["against"] == "bench@2"


def test_a_version_that_is_not_there_is_refused_before_the_run(root: Path) -> None:
    store = DirectoryStore(root / "store")
    with pytest.raises(RecipeError, match=r"rule 'decontaminate': .*no corpus is called 'bench'"):
        made(root, store, recipe(root, "web", against="bench"))
    with pytest.raises(RecipeError, match="'web@1' is the corpus of the recipe itself"):
        made(root, store, recipe(root, "web", against="web@1"))


def test_pages_of_the_template_of_another_corpus_stay(root: Path) -> None:
    template = prose(9, 260)
    for folder, numbers in (("bench", range(400)), ("web", range(400, 500))):
        for number in numbers:
            (root / folder / f"page{number}.txt").write_text(
                " ".join(template[:130] + prose(number + 50, 45) + template[130:])
            )
    store = DirectoryStore(root / "store")
    made(root, store, recipe(root, "bench"))
    manifest = made(root, store, recipe(root, "web", against="bench", ngrams=0))
    assert not any(name.startswith("page") for name in left(store, manifest))


def test_a_version_that_another_was_compared_with_is_not_deleted(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    store = DirectoryStore(root / "store")
    made(root, store, recipe(root, "bench"))
    made(root, store, recipe(root, "web", against="bench"))
    for what in ("bench@1", "bench"):
        assert main(["delete", what, "--yes", "--store", store.url]) == 1
        assert "bench@1 is what web@1 was compared with" in capsys.readouterr().err
    assert main(["delete", "web", "--yes", "--store", store.url]) == 0
    assert main(["delete", "bench@1", "--yes", "--store", store.url]) == 0
