"""--json: one document on standard output and nothing else there, with the names that the README gives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stoker.flows.cli.cli import main
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.web.client import Web
from stoker.storage.stores.directory import DirectoryStore
from tests.flows.conftest import Cli
from tests.flows.inspected_corpus import make_all

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    make_all(DirectoryStore(folder), tmp_path_factory.mktemp("made"))
    return folder


@pytest.fixture
def run(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--store", str(store)])
        return (code, *capfd.readouterr())

    return call


NAMES = {
    ("list",): {"store", "corpora"},
    ("show", "shapes"): {"reference", "samples", "candidates"},
    ("diff", "shapes@1", "shapes@2"): {"a", "b", "added", "removed", "same", "moved", "examples"},
    ("why", "shapes", "shape-3"): {"reference", "asked", "stories"},
    ("gc",): {"store", "delete", "older_than_s", "corpora"},
}


@pytest.mark.parametrize("words", NAMES, ids=lambda words: words[0])
def test_the_result_is_one_document_that_no_terminal_obeys(words: tuple[str, ...], run: Run) -> None:
    code, out, message = run(*words, "--json")
    assert (code, message) == (0, "")
    content = json.loads(out)
    assert NAMES[words] <= set(content)
    assert [line for line in out.splitlines() if not line.isprintable()] == []


def test_a_stream_is_a_document_a_line(run: Run) -> None:
    code, out, message = run("stream", "shapes", "--limit", "3", "--json")
    assert (code, message) == (0, "")
    assert [json.loads(line)["position"] for line in out.splitlines()] == [0, 1, 2]


def test_list_and_why_say_what_the_page_s_api_says(run: Run) -> None:
    shapes = next(corpus for corpus in json.loads(run("list", "--json")[1])["corpora"] if corpus["corpus"] == "shapes")
    assert (shapes["versions"], shapes["newest"]["reference"], shapes["error"]) == ([1, 2], "shapes@2", None)
    (story,) = json.loads(run("why", "shapes", "shape-3", "--json")[1])["stories"]
    assert (story["key"], story["state"]) == ("shape-3", "kept")


def test_show_lists_what_was_rejected_a_line_each(run: Run) -> None:
    counts = {entry["reason"]: entry["count"] for entry in json.loads(run("show", "shapes", "--json")[1])["refused"]}
    code, out, message = run("show", "shapes", "--rejected")
    lines = [line.split("\t") for line in out.splitlines()]
    assert (code, message) == (0, "")
    assert all(len(line) == 5 and "".join(line).isprintable() for line in lines)
    assert {reason: [line[0] for line in lines].count(reason) for reason in counts} == counts
    assert len(lines) == sum(counts.values())
    for reason, count in counts.items():
        rejects = json.loads(run("show", "shapes", "--reason", reason, "--json")[1])["rejects"]
        assert [entry["key"] for entry in rejects] == [line[1] for line in lines if line[0] == reason]
        assert len(rejects) == count
        for entry in rejects:
            (story,) = json.loads(run("why", "shapes", entry["key"], "--json")[1])["stories"]
            assert all(
                story[name] == entry[name]
                for name in ("reason", "outcome_class", "detail", "by", "witness", "similarity")
            )
    code, out, message = run("show", "shapes", "--reason", "exact_duplicat")
    assert (code, out) == (1, "")
    assert "did you mean" in message
    assert message.count("\n") == 1


def test_an_error_is_one_line_on_standard_error(run: Run) -> None:
    for words in (("show", "shapse"), ("why", "shapes", "nothing"), ("diff", "shapes@1", "shapes@9")):
        code, out, message = run(*words, "--json")
        assert (code, out, message.count("\n")) == (1, "", 1)


def test_check_down_and_up_say_what_they_found(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(cli.folder)
    (cli.folder / "texts").mkdir()
    for name in ("a", "b"):
        (cli.folder / "texts" / f"{name}.txt").write_text("one text\n")
    (cli.folder / "texts" / "c.pdf").write_bytes(b"%PDF")
    recipe = 'corpus = "words"\n[source]\nname = "local_files"\nfiles = "texts"\n'
    (cli.folder / "words.toml").write_text(recipe)

    def found(*words: str) -> Any:
        assert main([*words, "--json"]) == 0
        return json.loads(capfd.readouterr().out)

    checked = found("check", "words.toml", "--sample", "5")
    assert (checked["corpus"], checked["source"], checked["steps"]) == ("words", "local_files", [])
    assert sorted(each["outcome"] for each in checked["candidates"]) == ["kept", "kept", "rejected"]
    assert all(
        bool(each["reason"]) == bool(each["by"]) == (each["outcome"] != "kept") for each in checked["candidates"]
    )
    assert all(isinstance(each["detail"], str) for each in checked["candidates"])
    assert found("down") == {"home": str(cli.folder / ".stoker"), "stopped": False}
    assert main(["up", "--json"]) == 2
    assert "--json goes with --detach" in capfd.readouterr().err


@pytest.mark.slow
def test_ingest_and_verify_say_what_they_made(served: Cli) -> None:
    done = served("-q", "ingest", served.recipe(["one", "two", "two"]), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    made = json.loads(done.stdout)
    assert (made["reference"], made["new"], made["read"]) == ("words@1", True, 3)
    assert made["samples"] == sum(made["splits"].values()) == 3 - sum(made["rejected"].values())
    done = served("verify", "words", "--json", "--log-format", "json")
    assert (done.returncode, json.loads(done.stdout)["intact"]) == (0, True)
    assert {json.loads(line)["level"] for line in done.stderr.splitlines()} == {"info"}
    (shard,) = [path for path in served.folder.rglob("*.tar") if "shards" in path.parts and "train" in path.name][:1]
    shard.chmod(0o600)
    shard.write_bytes(b"x")
    done = served("verify", "words", "--json", "-q")
    damaged = json.loads(done.stdout)
    assert (done.returncode, damaged["intact"], len(damaged["problems"]) > 0) == (1, False, True)


def test_why_finds_a_local_file_by_the_path_as_one_types_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "texts" / "some words"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("one text\n")
    recipe = {"corpus": "words", "source": {"name": "local_files", "files": "texts"}}
    context = Context(root=tmp_path, web=Web(), scratch=tmp_path / "scratch")
    ingest(parse(recipe, root=tmp_path), DirectoryStore(tmp_path / "store"), context)
    monkeypatch.chdir(folder.parent)
    for typed in (
        "some words/a.txt",
        "file:some%20words/a.txt",
        "file:some words/a.txt",
        f"file://{folder / 'a.txt'}",
        f"file://{folder / 'a.txt'}".replace(" ", "%20"),
        "./some words/../some words/a.txt",
        str(folder / "a.txt"),
        "../texts/some words/a.txt",
    ):
        assert main(["why", "words", typed, "--store", str(tmp_path / "store"), "--json"]) == 0
        (story,) = json.loads(capfd.readouterr().out)["stories"]
        assert story["record"]["url"] == "file:some%20words/a.txt"
    monkeypatch.chdir(tmp_path)
    assert main(["why", "words", "some words/a.txt", "--store", str(tmp_path / "store"), "--json"]) == 0
    assert main(["why", "words", "/elsewhere/some words/a.txt", "--store", str(tmp_path / "store")]) == 1
