"""`stoker urls`: webdataset reads a version by what it prints, and a view is refused."""

import json
from pathlib import Path

import httpx
import webdataset

from stoker.flows.cli.curation.urls import _url
from stoker.storage import open_store
from stoker.storage.stores.s3 import S3Store
from stoker.testing import sample_corpus
from tests.flows.conftest import Cli


def put(folder: Path) -> None:
    store, (source, _) = open_store(str(folder)), sample_corpus(230)
    for stored in source.list(""):
        store.write(stored.key, source.read(stored.key))


def test_webdataset_reads_what_is_printed_and_a_view_is_refused(cli: Cli) -> None:
    put(cli.folder / "mine")
    asked = ("urls", "numbers", "--store", "mine")
    told = cli(*asked, "--split", "train")
    assert told.returncode == 0, told.stderr
    paths = told.stdout.splitlines()
    assert len(paths) == 3
    assert len(list(webdataset.WebDataset(paths, shardshuffle=False))) == 230
    rows = json.loads(cli(*asked, "--json").stdout)["tars"]
    assert ([row["url"] for row in rows], sum(row["samples"] for row in rows)) == (paths, 230)
    wrong = cli(*asked, "--split", "tarin")
    assert (wrong.returncode, wrong.stderr) == (1, "stoker: numbers@1 has no split 'tarin'; there are: train\n")
    assert cli(*asked, "--presign", "1h").returncode == 2
    assert cli("forget", "numbers", "--store", "mine", "--key", "n0003", "--yes").returncode == 0
    view = cli(*asked)
    assert (view.returncode, view.stdout) == (1, "")
    assert "1 sample that it leaves out" in view.stderr
    assert "`stoker pack numbers`" in view.stderr
    old = cli("urls", "numbers@1", "--store", "mine")
    assert (old.returncode, "taken out since" in old.stderr) == (0, True)


def test_a_signed_url_is_read_by_anybody(s3_store: S3Store) -> None:
    s3_store.write("numbers/a.tar", b"bytes")
    assert _url(s3_store, "numbers/a.tar", None) == f"{s3_store.url}/numbers/a.tar"
    assert httpx.get(_url(s3_store, "numbers/a.tar", 60), trust_env=False).content == b"bytes"
