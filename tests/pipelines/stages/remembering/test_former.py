"""Of a candidate that the newest version does not know, why tells which ones did, and why it is not there."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stoker.flows.cli.cli import main
from stoker.flows.report.lineage import former_text
from stoker.pipelines.recipe import parse
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.remembering.former import find_former
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Manifest, load_manifest
from tests.site import FAST

FOLDER = {"name": "local_files", "files": "photos", "label": "folder"}


class Corpus:
    """A corpus of the texts of a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.store, self.now = root, MemoryStore(), datetime(2026, 3, 2, tzinfo=UTC)

    def put(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def run(self, source: Mapping[str, object] = FOLDER) -> Manifest:
        self.now += timedelta(days=1)
        context = Context(root=self.root, web=FAST, scratch=self.root / "scratch", now=lambda: self.now)
        return ingest(parse({"corpus": "notes", "source": dict(source)}, root=self.root), self.store, context).manifest

    def told(self, manifest: Manifest, text: str) -> str:
        assert find_lineages(self.store, manifest, text) == []
        former = find_former(self.store, manifest, text)
        return former_text(former, manifest, text) if former else ""


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    made = Corpus(tmp_path)
    for number in range(5):
        made.put(f"photos/a/{number}.txt", f"the text of number {number}")
    return made


def test_a_file_that_was_moved_is_told_by_its_former_name(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus.run()
    (corpus.root / "photos/b").mkdir()
    (corpus.root / "photos/a/3.txt").rename(corpus.root / "photos/b/3.txt")
    newest = corpus.run()
    (there,) = find_lineages(corpus.store, newest, "file:b/3.txt")
    text = corpus.told(newest, "file:a/3.txt")
    assert f"notes@2 does not have file:a/3.txt: its content is there under the key {there.key}." in text
    assert "It was in notes@1; in the last of them kept, in split" in text
    assert "the recipe has changed" not in text
    assert corpus.told(newest, "file:a/9.txt") == ""
    for stored in corpus.store.list():
        DirectoryStore(corpus.root / "store").write(stored.key, corpus.store.read(stored.key))
    monkeypatch.chdir(corpus.root)
    command = ["why", "notes", "file:a/3.txt", "--store", "store"]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{text}\n", "a pipe has one line"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")  # of 80 columns
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert " ".join(map(str.strip, lines)) == text


def test_what_another_source_offered_is_told(corpus: Corpus) -> None:
    corpus.run()
    corpus.put("photos/a/5.txt", "one more")
    second = corpus.run()
    pq.write_table(pa.table({"text": ["another text"]}), corpus.root / "rows.parquet")
    newest = corpus.run({"name": "hugging_face", "dataset": "rows.parquet", "text": "text"})
    text = corpus.told(newest, "file:a/3.txt")
    assert "the recipe's source is hugging_face now, and was local_files" in text
    assert "It was in notes@1, notes@2" in text
    assert "its source offered it later" in corpus.told(load_manifest(corpus.store, "notes", 1), "file:a/5.txt")
    corpus.store.delete(second.parts[-1].records)
    assert "It was in notes@1" in corpus.told(newest, "file:a/3.txt")
