"""`stoker delete`: versions and corpora are gone with --yes alone, and gc frees what they alone needed."""

import pytest

from stoker.flows.settings import load
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from tests.flows.conftest import Cli
from tests.storage.published import CORPUS, make_version


@pytest.fixture
def store(cli: Cli) -> Store:
    assert cli("list").returncode == 0
    store = load({"home": str(cli.folder / ".stoker")}).open_store()
    make_version(store)
    return store


def test_a_version_and_then_the_corpus_are_deleted(cli: Cli, store: Store) -> None:
    make_version(store, 2)
    refused = cli("delete", "digits@1")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == ("stoker: digits@1 would be deleted for good, nothing was done; --yes does it\n")
    assert "stoker diff digits@1 digits@2" in cli("show", "digits").stdout
    done = cli("delete", "digits@1", "--yes")
    assert (done.returncode, done.stdout) == (0, "deleted: digits@1\n"), done.stderr
    assert catalog.versions(store, CORPUS) == [2]
    again = cli("delete", "digits@1", "--yes")
    assert (again.returncode, len(again.stderr.splitlines())) == (1, 1)
    assert "digits@1 was deleted on" in again.stderr
    assert cli("verify", "digits").returncode == 0
    assert "stoker diff" not in cli("show", "digits").stdout
    assert cli("delete", "digits", "--yes", "--json").stdout == '{\n "corpus": "digits",\n "deleted": [\n  2\n ]\n}\n'
    assert "all versions of digits were deleted" in cli("show", "digits").stderr
    assert cli("delete", "digits", "--yes").returncode == 0
    assert cli("gc", "--delete", "--raw", "--older-than", "0s").returncode == 0
    left = [stored.key for stored in store.list("digits/")]
    assert left == ["digits/versions/00000001.deleted", "digits/versions/00000002.deleted"]


def test_what_is_not_there_is_one_line(cli: Cli, store: Store) -> None:
    for name in ("digits@3", "digit", "digits@0"):
        done = cli("delete", name, "--yes")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
