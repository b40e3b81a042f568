"""A store that commit 01b1951 wrote is read, verified, streamed and shown as it was written."""

import json
import tarfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from stoker.flows.cli.cli import main
from stoker.flows.page.web import make_app
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.shards.kinds import DECISIONS
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.store import Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.verified import verified_table
from stoker.storage.versions.version import version
from stoker.training import ShardStream
from stoker.training.run.train import train
from tests.flows.page.serving import TOKEN, serve, visit
from tests.system.old_store.inputs import RECIPES, SITE
from tests.system.old_store.make import INDEXED, OPTIONS, TARS, TRAINING

VERSIONS = sorted([*(f"{corpus}@1" for corpus in (*RECIPES, *INDEXED)), "birds@2"])
Run = Callable[..., tuple[int, str]]
Samples = dict[str, dict[str, bytes]]


@pytest.fixture
def run(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line with this store: the exit code, and what was printed."""
    monkeypatch.chdir(tmp_path)
    if isinstance(store, S3Store):
        monkeypatch.setenv("STOKER_S3_ENDPOINT", str(store.endpoint))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(store.access_key))
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(store.secret_key))

    def call(*words: str) -> tuple[int, str]:
        code = main([*words, "--store", store.url])
        return code, capfd.readouterr().out

    return call


def in_tars(unpacked: Path, manifest: Manifest, split: str) -> Samples:
    """The samples of a split as Python's own reader of tars finds them, without records, which streams leave out."""
    folder = unpacked if manifest.corpus == "elsewhere" else unpacked / "store"
    found: Samples = {}
    for shard in manifest.shards:
        key = f"{TARS}/{shard.key}" if manifest.corpus == "elsewhere" else shard.key
        if shard.split == split:
            with tarfile.open(folder / key) as tar:
                for member in tar:
                    name, _, extension = member.name.partition(".")
                    content = tar.extractfile(member)
                    assert content is not None
                    if extension != "json":
                        found.setdefault(name, {})[extension] = content.read()
    return found


def test_every_corpus_is_listed(run: Run) -> None:
    code, out = run("list", "--json")
    listed = {corpus["corpus"]: corpus for corpus in json.loads(out)["corpora"]}
    assert code == 0
    versions = {name: [1, 2] if name == "birds" else [1] for name in (*RECIPES, *INDEXED)}
    assert {name: corpus["versions"] for name, corpus in listed.items()} == versions
    assert [corpus["error"] for corpus in listed.values() if corpus["error"]] == []


@pytest.mark.parametrize("reference", VERSIONS)
def test_a_version_is_whole(store: Store, reference: str) -> None:
    found = verify(store, load_manifest(store, reference))
    assert found.problems == ()
    assert found.samples > 0


@pytest.mark.parametrize("reference", VERSIONS)
def test_a_stream_gives_every_sample_with_its_bytes(
    store: Store, unpacked: Path, tmp_path: Path, reference: str
) -> None:
    manifest = load_manifest(store, reference)
    for split, totals in manifest.splits.items():
        expected = in_tars(unpacked, manifest, split)
        assert len(expected) == totals.samples
        assert {sample.key for sample in version(store, reference).split(split)} == set(expected)
        if not expected:
            continue
        stream = ShardStream(store, manifest, split=split, batch_size=4, cache=tmp_path)
        try:
            assert {sample.key: dict(sample.fields) for batch in stream for sample in batch} == expected
        finally:
            stream.close()


@pytest.mark.parametrize("reference", VERSIONS)
def test_show_counts_what_the_manifest_counts(store: Store, run: Run, reference: str) -> None:
    code, out = run("show", reference, "--json")
    shown = json.loads(out)
    manifest = load_manifest(store, reference)
    assert (code, shown["samples"]) == (0, manifest.samples)
    assert Counter({entry["reason"]: entry["count"] for entry in shown["refused"]}) == Counter(manifest.rejected)


def test_why_tells_of_kept_rejected_and_dropped_candidates(store: Store, run: Run) -> None:
    expected = {
        "birds/03.jpg": ("dropped", "exact_duplicate"),
        "birds/00.jpg": ("kept", ""),
        "birds/gone.jpg": ("rejected", "gone"),
        "birds/cut.jpg": ("rejected", "truncated"),
        "birds/page.jpg": ("rejected", "not_an_image"),
        "birds/small.png": ("rejected", "too_small"),
        "birds/23.jpg": ("kept", ""),
    }
    for path, outcome in expected.items():
        stories = find_lineages(store, load_manifest(store, "birds"), f"{SITE}/{path}")
        assert outcome in {(story.state, story.reason) for story in stories}
    code, out = run("why", "birds", f"{SITE}/birds/gone.jpg", "--json")
    assert code == 0
    assert [story["detail"] for story in json.loads(out)["stories"]] == ["HTTP 404"]
    code, out = run("why", "birds@1", f"{SITE}/birds/23.jpg")
    assert code == 0
    assert "its source offered it later" in out


def test_a_sample_that_a_rule_moved_is_in_the_split_of_the_one_that_it_is_like(store: Store) -> None:
    photos = version(store, "photos")
    decisions = verified_table(
        store, photos.manifest.decisions.key, DECISIONS, sha256=photos.manifest.decisions.sha256
    ).to_pylist()
    split_of = {row["key"]: row["split"] for row in photos.records(columns=["key", "split"]).read_all().to_pylist()}
    moves = [row for row in decisions if row["action"] == "split"]
    assert moves != []
    for row in moves:
        assert split_of[row["key"]] == split_of[row["witness"]] == row["value"]


def test_diff_tells_what_the_second_version_gained(run: Run) -> None:
    code, out = run("diff", "birds@1", "birds@2", "--json")
    found = json.loads(out)
    assert (code, found["added"], found["removed"], found["moved"], found["same"]) == (0, 8, 0, 0, 16)


def test_gc_finds_no_orphan(run: Run) -> None:
    code, out = run("gc", "--older-than", "0s", "--json")
    assert code == 0
    orphans = [kind for corpus in json.loads(out)["corpora"] for kind in corpus["kinds"]]
    assert orphans == []


def test_the_page_and_its_api_answer(store: Store) -> None:
    with serve(make_app(store, token=TOKEN)) as address, visit(address) as client:
        assert {corpus["corpus"] for corpus in client.get("/api/corpora").json()["corpora"]} == {*RECIPES, *INDEXED}
        for reference in VERSIONS:
            manifest = load_manifest(store, reference)
            key = next(iter(version(store, reference))).key
            paths = [f"/c/{reference}", f"/c/{reference}/sample/{quote(key)}", f"/api/c/{reference}"]
            answers = [client.get(path) for path in paths]
            assert {path: answer.status_code for path, answer in zip(paths, answers, strict=True)} == dict.fromkeys(
                paths, 200
            )
            assert answers[-1].json()["samples"] == manifest.samples


def test_a_training_run_goes_on(own_store: Store, tmp_path: Path) -> None:
    words = dict(zip(OPTIONS[::2], OPTIONS[1::2], strict=True))
    options: dict[str, Any] = {name.removeprefix("--").replace("-", "_"): value for name, value in words.items()}
    options |= dict(text.split("=") for text in TRAINING[3::2])
    go_on = partial(train, own_store, load_manifest(own_store, "texts"), "lstm", resume=True, folder=tmp_path / "runs")
    done = go_on(options, cache=tmp_path)
    assert (done.run, done.step, done.resumed_at) == ("lstm-0001", 6, 6)
    longer = go_on(options | {"max_steps": "9"}, cache=tmp_path)
    assert (longer.run, longer.step, longer.resumed_at) == ("lstm-0001", 9, 6)
