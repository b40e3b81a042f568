"""`stoker stream` through the real command line: the order of training, and how fast it can be fed."""

import importlib.util
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stoker.storage import open_store
from stoker.storage.stores.s3 import S3Store
from stoker.storage.stores.s3_client import ATTEMPTS
from stoker.training.stream.stream import ShardStream
from tests.flows.conftest import Cli
from tests.storage.faulty import faulty
from tests.training import corpora

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.fixture
def digits(cli: Cli) -> Cli:
    """The default store with 300 digits in shards of 40."""
    home = cli.folder / ".stoker"
    (home / "store").mkdir(parents=True)
    corpora.version(
        open_store(str(home / "store")), cli.folder, {"train": corpora.digits()[:300]}, corpus="digits", per_shard=40
    )
    return cli


def test_it_prints_the_order_in_which_training_sees_the_samples(digits: Cli, tmp_path: Path) -> None:
    shown = digits("stream", "digits", "--seed", "3", "--limit", "5")
    assert shown.returncode == 0, shown.stderr
    store = open_store(str(digits.folder / ".stoker" / "store"))
    expected = ShardStream(store, "digits@1", seed=3, batch_size=5, cache=tmp_path / "cache").batch(0, 0).keys
    assert [line.split()[1] for line in shown.stdout.splitlines()] == expected
    whole = digits("stream", "digits@1", "--json")
    keys = [json.loads(line)["key"] for line in whole.stdout.splitlines()]
    assert sorted(keys) == sorted(sample.key for sample in corpora.digits()[:300])
    assert json.loads(whole.stdout.splitlines()[0])["record"]["label"] in "0123456789"


@pytest.mark.slow
def test_it_waits_with_patience_for_a_busy_server_from_the_first_request_on(
    cli: Cli, s3_store: S3Store, tmp_path: Path
) -> None:
    corpora.version(s3_store, tmp_path, {"train": corpora.digits()[:20]}, corpus="digits")
    cli.variables |= {
        "AWS_ACCESS_KEY_ID": str(s3_store.access_key),
        "AWS_SECRET_ACCESS_KEY": str(s3_store.secret_key),
        "STOKER_STORE": s3_store.url,
    }
    with faulty(urlsplit(str(s3_store.endpoint)).port or 0) as network:
        cli.variables["STOKER_S3_ENDPOINT"] = network.endpoint
        network.plan = [("GET", "refuse")] * (ATTEMPTS + 1)
        shown = cli("stream", "digits", "--limit", "5")
        assert shown.returncode == 0, shown.stderr
        assert len(shown.stdout.splitlines()) == 5
        assert network.plan == []
        assert "is busy (SlowDown)" in shown.stderr, "a line while it waits"


def test_it_says_how_fast_samples_can_be_fed_and_what_limits(digits: Cli) -> None:
    words = ("stream", "digits", "--bench", "--seconds", "1", "--size", "32", "--batch-size", "64")
    shown = digits(*words)
    assert shown.returncode == 0, shown.stderr
    for expected in ("300 samples of", "reading alone", "decoding alone", "all together", "shuffle: ", "limited by "):
        assert expected in shown.stdout
    found = json.loads(digits(*words, "--json", "--rate", "1").stdout)
    assert found["feeds"] is True
    assert found["reading"]["samples_per_s"] > found["loading"]["samples_per_s"] > 0
    assert found["sample_bytes"] > 100


def test_a_rate_that_cannot_be_fed_is_refused_with_what_it_would_take(digits: Cli) -> None:
    shown = digits("stream", "digits", "--rate", "1e9", "--seconds", "0.5", "--size", "32")
    assert shown.returncode == 1
    (line,) = [one for one in shown.stderr.splitlines() if "cannot feed" in one]
    assert "1,000,000,000 samples/s" in line
    assert "cores" in line


def test_it_says_whether_a_network_is_fed_by_a_published_figure_and_by_one_measured_here(digits: Cli) -> None:
    words = ("stream", "digits", "--seconds", "0.5", "--size", "28")
    shown = digits(*words, "--like", "resnet50@h100")
    feeds = shown.returncode == 0
    (line,) = [one for one in shown.stderr.splitlines() if "resnet50 on h100" in one]
    assert ("cannot feed " in line) != feeds
    assert "1,786 samples/s; mlcommons/storage, " in line
    assert ("yes, " in line) == feeds
    assert ("it would wait " in line) != feeds
    found = json.loads(digits(*words, "--like", "lenet@here", "--json").stdout)
    (like,) = found["like"]
    assert like["ratio"] == pytest.approx(found["rate"] / like["consumption"]["samples_per_s"])
    assert like["stall"] == pytest.approx(max(0, 1 - like["ratio"]), abs=1e-5)
    assert "synthetic batches" in like["consumption"]["source"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nothing",), "no corpus"),
        (("digits", "--split", "test"), "no samples in split 'test'"),
    ],
)
def test_what_cannot_be_streamed_is_told_in_one_line(digits: Cli, words: tuple[str, ...], expected: str) -> None:
    shown = digits("stream", *words)
    assert shown.returncode == 1
    assert len(shown.stderr.splitlines()) == 1
    assert expected in shown.stderr
