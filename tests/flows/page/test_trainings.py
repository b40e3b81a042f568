"""The pages of training runs: what they show, and what the API says of them."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stoker.flows.page.web import make_app
from stoker.storage.stores.memory import MemoryStore
from tests.flows.inspected_corpus import make_all
from tests.flows.page.serving import TOKEN, serve, visit


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    store = MemoryStore()
    make_all(store, Path(tmp_path_factory.mktemp("made")))
    with serve(make_app(store, token=TOKEN)) as address, visit(address) as client:
        yield client


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_the_runs_of_a_corpus_are_listed_the_newest_first(site: httpx.Client) -> None:
    page = site.get("/c/shapes/runs").text
    assert "2 runs, the newest first" in text_of(page)
    assert page.index('href="/c/shapes/runs/cnn-0002"') < page.index('href="/c/shapes/runs/cnn-0001"')
    assert "accuracy 0.733, samples 15, loss 0.5 on validation" in text_of(page)
    assert "stoker train cnn pages" in site.get("/c/pages/runs").text
    assert 'href="/c/shapes/runs"' in site.get("/c/shapes@1").text


def test_a_run_shows_its_confusion_and_links_its_mistakes_to_their_lineage(site: httpx.Client) -> None:
    page = site.get("/c/shapes/runs/cnn-0001").text
    text = text_of(page)
    assert "Last evaluation of the training, at step 40, split validation" in text
    assert "shapes@1, split train, at step 40" in text
    assert "1 · 4 2 6 67 %" in text  # a row of the matrix: counts, samples, recall
    assert 'class="num right shade-5">4<' in page
    assert 'class="num wrong shade-3">2<' in page
    assert "0, said 1 91 %" in text
    for reference in ("shapes@2", "shapes@1"):
        assert f'href="/c/{reference}/sample/shape-4"' in page
        assert f'src="/c/{reference}/thumb/shape-4"' in page
    assert "classes of shapes@1 that the model does not know, left out:" in text
    assert "classes of the model without a sample in train: 4" in text
    assert "it has seen these samples" in text


def test_of_a_run_with_many_classes_the_pairs_are_listed(site: httpx.Client) -> None:
    text = text_of(site.get("/c/shapes/runs/cnn-0002").text)
    assert "Taken for another class, most often class taken for samples 0 1 9 " in text
    assert "Confusion" not in text


def test_mistakes_on_a_version_that_is_gone_are_named_without_a_link(site: httpx.Client) -> None:
    page = site.get("/c/shapes/runs/cnn-0002").text
    assert "shape-4" in page
    assert "/sample/" not in page
    assert "/thumb/" not in page


def test_the_api_says_the_same(site: httpx.Client) -> None:
    runs = site.get("/api/c/shapes/runs").json()
    assert ([one["run"] for one in runs["runs"]], runs["total"]) == (["cnn-0002", "cnn-0001"], 2)
    run = site.get("/api/c/shapes/runs/cnn-0001").json()
    assert (run["ok"], run["run"], run["metrics"]["split"]) == (True, "cnn-0001", "validation")
    assert [one["reference"] for one in run["evaluations"]] == ["shapes@1"]
    for address in ("/api/c/shapes/runs/cnn-0003", "/api/c/nothing/runs/cnn-0001"):
        assert site.get(address).status_code == 404
