"""`stoker gc` as people run it, also after ingests that were killed."""

import hashlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from stoker.flows.settings import Settings
from stoker.storage.stores.directory import DirectoryStore
from stoker.storage.stores.s3 import S3Store
from stoker.storage.verification.verify import verify
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import load_manifest
from stoker.storage.versions.sealed import seal
from tests.conftest import HANGS_S
from tests.flows.conftest import Cli, until
from tests.storage.published import CORPUS, make_version
from tests.storage.versions.test_orphans import litter, reachable
from tests.system.kills.test_crash import LINES, RECIPE, run_and_kill

SEED, KILLS = 20260402, 6


@pytest.fixture
def store(cli: Cli) -> DirectoryStore:
    return DirectoryStore(cli.folder / ".stoker" / "store")


def flat(text: str) -> str:
    """Without the line ends that a narrow terminal makes."""
    return " ".join(text.split())


def age(store: DirectoryStore, keys: list[str], hours: float) -> None:
    for key in keys:
        os.utime(store.root / key, (time.time() - hours * 3600,) * 2)


def test_a_look_changes_nothing_and_says_what_would_go(cli: Cli, store: DirectoryStore) -> None:
    make_version(store)
    kinds = litter(store)
    age(store, [key for keys in kinds.values() for key in keys], 49)
    before = cli.objects()
    done = cli("gc")
    assert done.returncode == 0, done.stderr
    assert cli.objects() == before
    for words in ("incomplete raw parts", "complete groups of shards of no version", "2 d"):
        assert words in done.stdout
    assert "complete raw parts of no version (stay)" in done.stdout
    assert "the same command with --delete removes them" in done.stdout
    assert f"for example {kinds['decisions'][0]}" in flat(done.stdout)


def test_what_is_young_or_worth_keeping_stays_and_the_rest_goes(cli: Cli, store: DirectoryStore) -> None:
    manifest = make_version(store)
    kinds = litter(store)
    old = kinds["half part"] + kinds["part"] + kinds["decisions"] + kinds["mask"] + kinds["note"]
    age(store, old, 25)
    done = cli("gc", CORPUS, "--delete")
    assert done.returncode == 0, done.stderr
    young = set(kinds["group"] + kinds["half group"] + kinds["list"])
    assert set(cli.objects()) == reachable(store, manifest) | young | set(kinds["part"])
    assert "5 objects younger than 24h stay: an ingest may need them" in done.stdout
    assert "removed 4 objects" in done.stdout
    done = cli("gc", "--delete", "--raw", "--older-than", "0s")
    assert set(cli.objects()) == reachable(store, manifest)
    assert "fetches them again" in flat(done.stdout)
    assert verify(store, manifest).problems == ()
    assert "no orphans" in flat(cli("gc", "--delete").stdout)


def test_programs_get_json(cli: Cli, store: DirectoryStore) -> None:
    make_version(store)
    kinds = litter(store)
    (store.root / ".stoker" / "left").write_bytes(b"half")
    age(store, kinds["half part"], 2.5)
    done = cli("gc", "--json", "--delete", "--older-than", "2h")
    assert done.returncode == 1  # the note of an ingest that may still live
    found = json.loads(done.stdout)
    assert (found["store"], found["delete"], found["older_than_s"]) == (store.url, True, 7200)
    corpus, elsewhere = found["corpora"]
    assert corpus["corpus"] == CORPUS
    assert "an ingest is under way" in corpus["refused"]
    assert elsewhere["corpus"] == ""
    (left,) = elsewhere["kinds"]
    assert (left["kind"], left["objects"], left["size"], left["young"], left["gone"]) == ("write", 1, 4, 1, 0)
    store.delete(kinds["note"][0])
    found = json.loads(cli("gc", "--json", "--delete", "--older-than", "2h").stdout)
    rows = {row["kind"]: row for row in found["corpora"][0]["kinds"]}
    assert {kind: row["gone"] for kind, row in rows.items()} == {
        "part": 0,
        "half part": 1,
        "group": 0,
        "half group": 0,
        "decisions": 0,
        "mask": 0,
        "list": 0,
    }
    assert rows["part"]["kept"]
    assert rows["half part"]["examples"] == kinds["half part"]
    assert rows["half part"]["oldest"] < rows["group"]["youngest"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("nope",), 1, "no corpus is called 'nope'; there are: digits"),
        (("digits@1",), 1, "digits@1: a version has no orphans of its own; name the corpus, 'digits'"),
        (("--older-than", "soon"), 2, "--older-than soon: expected an age like 90s, 30m, 24h or 7d"),
        (("--older-than", "-1h"), 2, "expected one argument"),
    ],
)
def test_a_wrong_argument_is_told_in_one_line(
    cli: Cli, store: DirectoryStore, words: tuple[str, ...], code: int, message: str
) -> None:
    make_version(store)
    done = cli("gc", *words)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_manifest_that_cannot_be_read_stops_it(cli: Cli, store: DirectoryStore) -> None:
    make_version(store)
    litter(store)
    store.write(layout.version("other", 1), b"{")
    before = cli.objects()
    done = cli("gc", "--delete", "--older-than", "0s", CORPUS)
    assert done.returncode == 1
    assert "other/versions/00000001.json: not JSON" in done.stderr
    assert cli.objects() == before


@pytest.mark.parametrize("harm", ["list", "memory"])
def test_a_corpus_that_is_damaged_is_refused_and_the_others_are_cleared(
    cli: Cli, store: DirectoryStore, harm: str
) -> None:
    make_version(store)
    kinds = litter(store)
    make_version(store, 2)
    manifest = json.loads(store.read(layout.version(CORPUS, 1)))
    del manifest["checksum"]
    manifest = json.loads(json.dumps(manifest).replace(f"{CORPUS}/", "other/"))  # whose lists are gone
    if harm == "list":
        store.write(layout.version("other", 1), seal(manifest | {"corpus": "other"}))
    else:
        store.write(layout.ledger("other", 1), b"{")
    orphan = layout.decisions("other", "0" * 64)
    store.write(orphan, b"x")
    for options in ([], ["--delete", "--older-than", "0s"]):
        done = cli("gc", *options)
        assert done.returncode == 1
        assert "other: nothing of it is an orphan as long as it is damaged: " in flat(done.stderr)
        assert "Traceback" not in done.stderr
    assert store.size(orphan) == 1
    assert not set(kinds["decisions"]) & {one.key for one in store.list()}
    assert len(load_manifest(store, CORPUS).read_lists().shards) == 3


def test_an_empty_store_has_no_orphans(cli: Cli) -> None:
    done = cli("gc", "--delete")
    assert done.returncode == 0
    assert "no orphans" in flat(done.stdout)


def test_interrupted_it_leaves_whole_orphans_and_no_note(cli: Cli, store: DirectoryStore) -> None:
    manifest = make_version(store)
    for number in range(1500):
        folder = f"{CORPUS}/shards/{number:032x}/"
        store.root.joinpath(folder).mkdir(parents=True)
        for name in ("group.json", "train-00000.tar"):
            store.root.joinpath(folder, name).write_bytes(b"{}")
    process = cli.start("gc", "--delete", "--older-than", "0s")
    deadline = time.monotonic() + 60
    first = store.root / CORPUS / "shards" / f"{0:032x}"
    while first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=HANGS_S)
    assert process.returncode == 130, told
    assert "interrupted; the same command resumes" in told
    left = [key for key in cli.objects() if "/shards/0000" in key]
    assert left
    assert not [key for key in cli.objects() if "/work/" in key]
    assert cli("gc", "--delete", "--older-than", "0s").returncode == 0
    assert not [key for key in cli.objects() if "/shards/0000" in key]
    assert verify(store, manifest).problems == ()


def test_uploads_that_were_never_ended_go_on_a_real_server(cli: Cli, s3_store: S3Store) -> None:
    cli.variables |= {
        "AWS_ENDPOINT_URL": str(s3_store.endpoint),
        "AWS_ACCESS_KEY_ID": str(s3_store.access_key),
        "AWS_SECRET_ACCESS_KEY": str(s3_store.secret_key),
    }
    manifest = make_version(s3_store)
    place = s3_store._bucket_and_key(f"{CORPUS}/raw/{'a' * 32}/part-{'1' * 16}.tar")
    begun = s3_store._connection.call("", lambda client: client.create_multipart_upload(**place))
    part = place | {"UploadId": begun["UploadId"], "PartNumber": 1, "Body": b"x" * 5 * 2**20}
    s3_store._connection.call("", lambda client: client.upload_part(**part))
    look = cli("gc", "--store", s3_store.url)
    assert "incomplete uploads" in look.stdout, look.stderr
    assert "5.24 MB" in look.stdout
    assert cli("gc", "--store", s3_store.url, "--delete").returncode == 0
    assert len(list(s3_store.pending_uploads())) == 1  # too young
    done = cli("gc", "--store", s3_store.url, "--delete", "--older-than", "0s")
    assert done.returncode == 0, done.stderr
    assert list(s3_store.pending_uploads()) == []
    assert {one.key for one in s3_store.list()} == reachable(s3_store, manifest)


def shas(cli: Cli) -> dict[str, str]:
    found = cli.objects()
    shards = load_manifest(DirectoryStore(cli.folder / ".stoker" / "store"), "words").shards
    assert all(hashlib.sha256(found[shard.key]).hexdigest() == shard.sha256 for shard in shards)
    return {shard.key: shard.sha256 for shard in shards}


@pytest.mark.slow
@pytest.mark.nightly  # test_orphans.py does it in one process
def test_after_kills_only_what_versions_need_is_left_and_the_same_ingest_gives_the_same_bytes(
    tmp_path: Path, prefect_url: str
) -> None:
    def cli_in(name: str) -> Cli:
        (tmp_path / name).mkdir()
        return Cli(tmp_path / name, {"STOKER_PREFECT_URL": prefect_url, "STOKER_RETRY_S": "0.05"})

    calm = cli_in("calm")
    assert calm("ingest", calm.recipe(LINES[:21], RECIPE)).returncode == 0
    started = time.monotonic()
    assert calm("ingest", calm.recipe(LINES, RECIPE)).returncode == 0
    whole_s, expected = time.monotonic() - started, shas(calm)
    shaken, moments = cli_in("shaken"), random.Random(SEED)
    store = DirectoryStore(Settings(home=shaken.folder / ".stoker").home / "store")
    assert shaken("ingest", shaken.recipe(LINES[:21], RECIPE)).returncode == 0
    for _ in range(KILLS):
        recipe = shaken.recipe(LINES, RECIPE)
        run_and_kill(shaken, recipe, moments.uniform(0.5, 0.95) * whole_s)
        done = shaken("gc", "--delete", "--older-than", "0s", "--raw")
        assert done.returncode == 0, done.stderr
        versions = [key for key in shaken.objects() if "/versions/" in key]
        assert set(shaken.objects()) == _named(shaken, versions)
        assert list(store.pending_uploads()) == []
        assert shaken("verify", "words").returncode == 0
        if len(versions) > 1:
            break  # it was faster than the kill
    assert shaken("ingest", shaken.recipe(LINES, RECIPE)).returncode == 0
    assert shas(shaken) == expected
    assert shaken("verify", "words").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["threads", "processes"])
def test_a_killed_ingest_of_this_machine_keeps_no_other_command_waiting(served: Cli, runner: str) -> None:
    served.variables["STOKER_RUNNER"] = runner
    process = served.start("ingest", served.recipe(["a", "wait 900", "b", "wait 900"]))
    assert until(served.journal, 60)
    busy = served("gc", "words", "--delete")
    assert busy.returncode == 1
    assert "an ingest is under way" in flat(busy.stderr)
    process.kill()  # its workers, if it has some, end by themselves
    process.communicate(timeout=HANGS_S)
    done = served("gc", "words", "--delete")
    assert done.returncode == 0, done.stderr


def _named(cli: Cli, versions: list[str]) -> set[str]:
    store = DirectoryStore(cli.folder / ".stoker" / "store")
    manifests = [load_manifest(store, "words", layout.version_of(version)) for version in versions]
    proofs = {layout.proofs("words")} & cli.objects().keys()  # for the next ingest, of no version
    return proofs.union(*(reachable(store, manifest) for manifest in manifests))
