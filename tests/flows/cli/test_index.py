"""`stoker index`: tars of others become a version for every other command; what is wrong is one line."""

import io
import json
import os
import signal
from pathlib import Path

import pytest
from PIL import Image

from stoker.flows.page.web import make_app
from stoker.flows.services import seaweed
from stoker.storage import open_store
from stoker.storage.stores.s3 import S3Store
from tests.conftest import BUCKET, HANGS_S
from tests.flows.conftest import Cli
from tests.flows.page.serving import TOKEN, serve, visit
from tests.storage.external_tars import numbered, tar


@pytest.fixture
def theirs(cli: Cli) -> Cli:
    """A folder with tars of others, `theirs`."""
    _tars(cli.folder / "theirs")
    return cli


def _tars(folder: Path) -> None:
    for split, first in (("train", 0), ("train", 8), ("val", 16)):
        (folder / split).mkdir(parents=True, exist_ok=True)
        (folder / split / f"{first:03d}.tar").write_bytes(tar(numbered(first, 8, folder="a.b/")))


def test_tars_of_others_become_a_version_that_every_command_knows(theirs: Cli) -> None:
    done = theirs("index", "theirs")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "theirs@1: 24 samples (train 16, validation 8), 92.2 kB\n"
    assert done.stderr.splitlines()[-1] == "next: stoker show theirs@1"
    shown = theirs("show", "theirs")
    for words in ("24 images in 3 external tars", "what was rejected is unknown", "cls jpg json", "CC0-1.0"):
        assert words in " ".join(shown.stdout.split())
    assert "candidate" not in shown.stdout
    content = json.loads(theirs("show", "theirs", "--json").stdout)
    assert (content["indexed"], content["tars"]) == (True, str(theirs.folder / "theirs"))
    assert theirs("list").stdout.splitlines()[-1].split()[:2] == ["theirs@1", "24"]
    lines = theirs("stream", "theirs@1", "--json").stdout.splitlines()
    assert sorted(json.loads(line)["key"] for line in lines) == [f"a.b/{number:06d}" for number in range(16)]
    told = theirs("why", "theirs", "a.b/000001")
    assert (told.returncode, len(told.stderr.splitlines())) == (1, 1)
    assert "Stoker did not write its tars, so what became of a candidate is unknown" in told.stderr


def test_no_terminal_obeys_the_name_of_a_tar(theirs: Cli) -> None:
    (theirs.folder / "theirs" / "train" / "000.tar").rename(theirs.folder / "theirs" / "train" / "\x9b31m\u202egpj.tar")
    done = theirs("index", "theirs")
    assert done.returncode == 0, done.stderr
    shown = theirs("stream", "theirs@1", "--stored-order")
    assert shown.returncode == 0, shown.stderr
    assert "  \ufffd31m\ufffdgpj.tar  " in shown.stdout
    assert "\x9b" not in shown.stdout
    assert "\u202e" not in shown.stdout


def test_only_what_is_new_is_read_and_nothing_new_makes_no_version(theirs: Cli) -> None:
    assert theirs("index", "theirs", "--as", "mine").returncode == 0
    again = theirs("index", "theirs", "--as", "mine")
    assert again.stdout.startswith("mine@1: ")
    assert "nothing changed since this version, so no new one was made" in again.stderr
    (theirs.folder / "theirs" / "train" / "100.tar").write_bytes(tar(numbered(0, 2, folder="a.b/")))
    more = theirs("index", "theirs", "--as", "mine")
    assert more.stdout.startswith("mine@2: 26 samples")
    assert "1 tar read, 3 known from before" in more.stderr
    assert "several tars hold the same keys: each key has its tar's name before it" in more.stderr
    difference = theirs("diff", "mine@1", "mine@2")
    assert difference.returncode == 0, difference.stderr


def test_a_tar_that_was_altered_under_its_size_and_time_is_read_with_again(theirs: Cli) -> None:
    assert theirs("index", "theirs").returncode == 0
    path = theirs.folder / "theirs" / "train" / "000.tar"
    times, payload = path.stat(), path.read_bytes()
    assert b"number 3" in payload
    path.write_bytes(payload.replace(b"number 3", b"number X"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = theirs("index", "theirs", "--again")
    assert again.stdout.startswith("theirs@2: 24 samples"), again.stderr
    assert theirs("verify", "theirs@2").returncode == 0


def test_a_split_and_another_store_can_be_chosen(theirs: Cli) -> None:
    done = theirs("index", "theirs", "--split", "extra=val/*", "--split", "train", "--to", "elsewhere")
    assert "(extra 8, train 16)" in done.stdout or "(train 16, extra 8)" in done.stdout
    assert theirs.objects() == {}
    assert theirs("list", "--store", "elsewhere").stdout.splitlines()[-1].split()[0] == "theirs@1"


def test_braces_that_the_shell_expanded_are_one_corpus(theirs: Cli) -> None:
    done = theirs("index", "theirs/train/000.tar", "theirs/train/008.tar")
    assert done.stdout.startswith("train@1: 16 samples (train 16)"), done.stderr
    again = theirs("index", "theirs/train/{000,008}.tar", "--as", "train")
    assert "nothing changed since this version" in again.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nowhere",), "no .tar there among 0 objects; name the folder that holds the tars"),
        (("theirs/train/{000..002}.tar",), "train/001.tar: no such object and 1 more; correct the pattern"),
        (("http://example.org/a.tar",), "no such kind; expected s3://bucket/prefix, file:///folder or a folder"),
        (("theirs", "theirs/val"), "'theirs'; name one folder, or tars of one folder"),
        (("theirs/train/000.tar", "theirs/val/016.tar"), "2 folders; name one folder, or tars of one folder"),
    ],
)
def test_what_is_wrong_is_one_line(words: tuple[str, ...], expected: str, theirs: Cli) -> None:
    done = theirs("index", *words)
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line for line in done.stderr.splitlines() if line.startswith("stoker: ")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in done.stderr
    assert theirs("list").stdout.count("@") == 0


def test_a_damaged_and_a_compressed_tar_are_told_by_name(theirs: Cli) -> None:
    path = theirs.folder / "theirs" / "train" / "008.tar"
    path.write_bytes(path.read_bytes()[:5000])
    assert "theirs/train/008.tar: at byte " in theirs("index", "theirs").stderr
    path.rename(path.with_name("008.tar.gz"))
    assert "train/008.tar.gz: a compressed tar" in theirs("index", "theirs").stderr


def test_a_version_in_its_name_is_wrong_usage(theirs: Cli) -> None:
    assert theirs("index", "theirs", "--as", "theirs@2").returncode == 2
    assert theirs("index", "theirs", "--to", "a", "--store", "b").returncode == 2


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(cli: Cli) -> None:
    (cli.folder / "big").mkdir()
    whole = tar([(f"{number:03d}.bin", bytes(4 * 2**20)) for number in range(50)])
    for number in range(4):  # gigabytes by links to the same bytes: no time is lost writing them
        (cli.folder / "big" / f"{number}.tar").symlink_to(cli.folder / "bytes")
    (cli.folder / "bytes").write_bytes(whole)
    process = cli.start("index", "big", "--workers", "1")
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith("indexing big"):
        assert line, "it ended by itself"
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=HANGS_S)
    assert (process.returncode, stdout) == (130, ""), stderr
    assert stderr.splitlines()[-1].startswith("stoker: interrupted; the tars that were done stay done")
    assert cli("list").stdout.count("@") == 0
    assert cli("index", "big").stdout.startswith("big@1: 200 samples")


def test_the_page_shows_samples_whose_keys_have_folders_and_dots(tmp_path: Path) -> None:
    sink = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(sink, "PNG")
    (tmp_path / "t").mkdir()
    name = "a.b/c d/photo"
    payload = tar(
        [(f"{name}.png", sink.getvalue()), (f"{name}.txt", b"a caption"), ("x.txt", b"1"), (f"{name}.cls", b"")]
    )
    (tmp_path / "t" / "0.tar").write_bytes(payload)
    from stoker.storage.indexed.indexing import index
    from stoker.storage.indexed.tars import find_tars

    store = open_store(str(tmp_path / "store"))
    assert index(find_tars(str(tmp_path / "t"), store), store, "theirs")
    with serve(make_app(store, token=TOKEN)) as url, visit(url) as client:
        page = client.get("/c/theirs")
        assert page.status_code == 200
        assert "in 1 external tar, indexed in place" in page.text
        assert f"/c/theirs@1/sample/{name.replace(' ', '%20')}?at=0" in page.text
        assert client.get("/").status_code == client.get("/c/theirs/rejects").status_code == 200
        sample = client.get(f"/c/theirs/sample/{name}")
        assert "a caption" in sample.text
        picture = client.get(f"/c/theirs/thumb/{name}")
        assert picture.headers["content-type"].startswith("image/")
        assert client.get("/c/theirs/sample/a.b/c%20d/photo%232").status_code == 200, "its members lie apart"
        assert client.get("/c/theirs/sample/nothing/here").status_code == 404


def test_tars_in_s3_are_indexed_beside_and_elsewhere(cli: Cli, s3_server: seaweed.Server, s3_store: S3Store) -> None:
    _tars(cli.folder / "theirs")
    for path in sorted((cli.folder / "theirs").rglob("*.tar")):
        s3_store.write(f"data/{path.parent.name}/{path.name}", path)
    cli.variables |= {
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "STOKER_S3_ENDPOINT": s3_server.endpoint,
    }
    url = f"s3://{BUCKET}/{s3_store.prefix}/data"
    for to in (f"s3://{BUCKET}/{s3_store.prefix}/corpora", url, "here"):
        done = cli("index", url, "--as", "remote", "--to", to)
        assert done.returncode == 0, done.stderr
        shown = json.loads(cli("show", "remote", "--json", "--store", to).stdout)
        assert shown["tars"] == (None if to == url else url)
        assert len(cli("stream", "remote", "--store", to).stdout.splitlines()) == 16
        again = cli("index", f"{url}/train/{{000,008}}.tar", "--as", "remote", "--to", to)
        assert "remote@2" in again.stdout, again.stderr
    for path in (cli.folder / "here").rglob("*.json"):
        assert s3_server.secret_key not in path.read_text()


@pytest.mark.slow
def test_an_indexed_corpus_is_verified_and_trained_on(served: Cli) -> None:
    pytest.importorskip("torch")
    (served.folder / "texts").mkdir()
    for number in range(4):
        members = [(f"{number}/{place}.txt", b"word %d " % place * 40) for place in range(30)]
        (served.folder / "texts" / f"{'val' if number == 3 else 'train'}-{number}.tar").write_bytes(tar(members))
    assert served("index", "texts").returncode == 0
    verified = served("verify", "texts")
    assert verified.returncode == 0, verified.stderr
    assert "texts@1 is whole: 4 shards, 120 samples" in " ".join(verified.stdout.split())
    small = ("--epochs", "1", "--batch-size", "2", "--set", "hidden=8", "--device", "cpu")
    trained = served("train", "lstm", "texts", *small)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.startswith("lstm-0001: lstm on texts@1, ")
    path = served.folder / "texts" / "train-1.tar"
    path.write_bytes(path.read_bytes().replace(b"word 3", b"word 4"))
    damaged = served("verify", "texts")
    assert damaged.returncode == 1
    assert "train-1.tar" in damaged.stdout
