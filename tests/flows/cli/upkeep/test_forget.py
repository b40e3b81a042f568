"""`stoker forget`: what is meant is told, done with --yes alone, and refused in one line."""

import json

import pytest

from stoker.flows.cli.upkeep.forget import read_list
from stoker.flows.settings import UsageError
from stoker.storage import open_store
from stoker.testing import sample_corpus
from tests.flows.conftest import Cli
from tests.storage.external_tars import numbered, tar


@pytest.fixture
def theirs(cli: Cli) -> Cli:
    (cli.folder / "theirs").mkdir()
    (cli.folder / "theirs" / "a.tar").write_bytes(tar(numbered(0, 8)))
    assert cli("index", "theirs").returncode == 0
    return cli


def test_samples_of_external_tars_are_out_also_when_the_tars_are_indexed_again(theirs: Cli) -> None:
    asked = ("forget", "theirs", "--key", "000003", "--key", "000017")
    told = theirs(*asked, "--dry-run")
    assert (told.returncode, told.stdout.splitlines()) == (
        0,
        [
            "samples that would be taken out, by version: theirs@1 1",
            "no sample has key 000017; it would stay out in future",
        ],
    )
    refused = theirs(*asked)
    assert (refused.returncode, refused.stderr) == (
        1,
        "stoker: theirs: nothing was done; --yes does it, and nothing takes it back\n",
    )
    done = theirs(*asked, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert (content["samples"], content["view"]) == ({"theirs@1": 1}, "theirs@2")
    assert content["unknown"] == [{"kind": "key", "value": "000017"}]
    (theirs.folder / "theirs" / "b.tar").write_bytes(tar(numbered(16, 3)))
    again = theirs("index", "theirs")
    assert again.stdout.startswith("theirs@4: 9 samples"), again.stderr
    keys = [json.loads(line)["key"] for line in theirs("stream", "theirs", "--json").stdout.splitlines()]
    assert sorted(keys) == [f"{number:06d}" for number in (0, 1, 2, 4, 5, 6, 7, 16, 18)]
    assert theirs("verify", "theirs").returncode == 0
    for flags in ((), ("--batch-size", "1"), ("--batch-size", "3")):
        lines = theirs("stream", "theirs@1", "--json", "--stored-order", *flags).stdout.splitlines()
        found = [(one["position"], one["key"]) for one in map(json.loads, lines)]
        assert found == [(number, f"{number:06d}") for number in (0, 1, 2, 4, 5, 6, 7)]
    assert "7 images" not in theirs("show", "theirs@1").stdout
    assert "1 sample of it taken out since" in theirs("show", "theirs@1").stderr
    assert "taken out by stoker forget, of those removed: 1" in theirs("diff", "theirs@1", "theirs@2").stdout


def test_a_list_holds_urls_or_kinds_and_values(cli: Cli) -> None:
    path = cli.folder / "list.txt"
    path.write_text("https://a.example/cat.jpg\n\nhost b.example\r\nauthor A. Nonymous\n")
    assert list(read_list(path)) == [
        ("url", "https://a.example/cat.jpg"),
        ("host", "b.example"),
        ("author", "A. Nonymous"),
    ]
    path.write_text("host b.example\ncat.jpg\n")
    with pytest.raises(UsageError, match=r"line 2: 'cat\.jpg'; expected a URL, or one of url, key"):
        list(read_list(path))
    path.write_bytes(b"host \xff\n")
    with pytest.raises(UsageError, match="not UTF-8 at byte 5"):
        list(read_list(path))


def test_what_cannot_be_is_one_line(theirs: Cli) -> None:
    for words, code, text in (
        (("forget", "theirs"), 2, "nothing is named"),
        (("forget", "theirs", "--list", "no.txt", "--yes"), 2, "No such file"),
        (
            ("forget", "theirs", "--url", "cat.jpg", "--yes"),
            1,
            "url 'cat.jpg': no scheme; write file:cat.jpg for a file",
        ),
        (("forget", "nobody", "--key", "a", "--yes"), 1, "no corpus"),
    ):
        done = theirs(*words)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
        assert text in done.stderr


def test_a_purge_prints_its_receipt_and_refuses_what_it_cannot_do(theirs: Cli) -> None:
    store = open_store(str(theirs.folder / "mine"))
    for stored in sample_corpus(12)[0].list(""):
        store.write(stored.key, sample_corpus(12)[0].read(stored.key))
    asked = ("forget", "numbers", "--store", "mine", "--key", "n0003", "--purge")
    told = theirs(*asked)
    assert told.returncode == 1
    assert "the bytes of all that was ever taken out would be removed" in told.stderr
    done = theirs(*asked, "--yes")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[2:4] == [
        "purged: 1 candidate; samples by version: numbers@1 1",
        "written anew without them: 3 objects",
    ]
    assert lines[4].endswith("/numbers/withdrawn/00000001.json")
    assert "not reached: copies on machines that trained" in done.stderr
    again = theirs(*asked[:4], "--purge", "--yes", "--json")
    assert json.loads(again.stdout)["purge"]["receipt"]["versions"] == {"numbers@1": 1}
    assert theirs("verify", "numbers@1", "--store", "mine").returncode == 0
    changed = theirs("diff", "numbers@1", "numbers@2", "--store", "mine").stdout
    assert ("\n  withdrawn  " in changed, ".withdrawn/" in changed) == (True, False), changed
    assert theirs("forget", "theirs", "--key", "000003", "--yes").returncode == 0
    refused = theirs("forget", "theirs", "--purge", "--yes")
    assert (refused.returncode, "its tars are not Stoker's" in refused.stderr) == (1, True)


def test_near_duplicates_that_may_come_back_are_named_until_they_are_taken_out_too(cli: Cli) -> None:
    (cli.folder / "texts").mkdir()
    for name in ("a", "b", "other"):
        words = " ".join(f"{'word' if name != 'other' else name}{place}" for place in range(60))
        (cli.folder / "texts" / f"{name}.txt").write_text(f"{words} {name}")
    (cli.folder / "t.toml").write_text(
        'corpus = "t"\n[source]\nname = "local_files"\nfiles = "texts/*.txt"\n'
        '[[rules]]\nname = "near_duplicate_texts"\nsimilarity = 0.8\n'
    )
    cli.ingest("t.toml")
    (story,) = json.loads(cli("why", "t", "file:b.txt", "--json").stdout)["stories"]
    assert story["state"] == "dropped"
    told = cli("forget", "t", "--url", "file:a.txt", "--dry-run")
    assert f"1 sample left out as near-duplicates or copies of these may come back: {story['key']};" in told.stderr
    both = ("forget", "t", "--url", "file:a.txt", "--url", "file:b.txt", "--dry-run")
    assert "may come back" not in cli(*both).stderr
    done = json.loads(cli("forget", "t", "--url", "file:a.txt", "--yes", "--json").stdout)
    assert done["may_return"] == [story["key"]]
    assert cli("forget", "t", "--key", story["key"], "--yes").returncode == 0
    assert json.loads(cli("forget", "t", "--url", "file:a.txt", "--dry-run", "--json").stdout)["may_return"] == []
    assert cli("curate", "t").returncode == 0
    assert json.loads(cli("why", "t", "file:b.txt", "--json").stdout)["stories"][0]["state"] != "kept"


def test_copies_under_other_names_are_named_until_they_are_taken_out_too(cli: Cli) -> None:
    (cli.folder / "texts").mkdir()
    for name in ("a", "b"):
        (cli.folder / "texts" / f"{name}.txt").write_text(f"words of {name}")
    (cli.folder / "t.toml").write_text('corpus = "t"\n[source]\nname = "local_files"\nfiles = "texts/*.txt"\n')
    cli.ingest("t.toml")
    (before,) = json.loads(cli("why", "t", "file:a.txt", "--json").stdout)["stories"]
    (cli.folder / "texts" / "a.txt").rename(cli.folder / "texts" / "renamed.txt")
    cli.ingest("t.toml")
    asked = ("forget", "t", "--url", "file:renamed.txt")
    told = cli(*asked, "--dry-run")
    assert (
        f"1 sample of other names with the same bytes would stay, in older versions too: {before['key']};"
        in told.stderr
    )
    both = cli(*asked, "--url", "file:a.txt", "--dry-run", "--json")
    assert json.loads(both.stdout)["copies"] == []
    assert json.loads(cli(*asked, "--yes", "--json").stdout)["copies"] == [before["key"]]
    assert cli("forget", "t", "--key", before["key"], "--yes").returncode == 0
    assert json.loads(cli(*asked, "--dry-run", "--json").stdout)["copies"] == []
    assert "never offered 'file:c.txt'; expected" in cli("why", "t", "file:c.txt").stderr
    assert cli("forget", "t", "--author", "A. Nonymous", "--yes").returncode == 0
    assert "'file:c.txt', or it was purged by its author: " in cli("why", "t", "file:c.txt").stderr
