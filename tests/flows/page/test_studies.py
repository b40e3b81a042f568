"""The page of a version's studies: tables, verdicts and drawings, whatever the rows are called."""

import re
from pathlib import Path

import pytest

from stoker.flows.page.web import make_app
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions import layout
from stoker.storage.versions.manifest import Manifest, load_manifest
from stoker.storage.versions.measured.studies import Study, save_study
from tests.flows.inspected_corpus import make_all
from tests.flows.page.serving import TOKEN, serve, visit

EVIL = "<script>alert(1)</script>"


def row(name: str, *, gradients: list[float | None], curve: list[list[float | None]]) -> dict[str, object]:
    run = {"digest": "d", "seed": 0, "score": 0.91, "cpu_s": 1.5, "seconds": 2.0, "test_cpu_s": 0.1, "note": "diverged"}
    sizes = {"parameters": 61_706, "multiplications": 416_520}
    about = {"name": name, "method": "cnn", "options": {}, "training": {}}
    return {**about, **sizes, "runs": [{**run, "gradients": gradients, "curve": curve, "metrics": {}}]}


def study(manifest: Manifest) -> Study:
    rows = [
        row("plain", gradients=[1e-12, 1e-6, 1.0], curve=[[0, 2.3], [10, 2.2], [20, None]]),
        row(EVIL, gradients=[None, 0.5, 1.0], curve=[[0, 2.4], [10, 0.5], [20, 0.1]]),
    ]
    expects = [{"text": f"{EVIL}: better than plain", "found": "91.0 % against 91.0 %", "held": False}]
    claim = {"name": "depth", "title": "Depth", "rows": ["plain", EVIL], "expects": expects, "reason": EVIL}
    other = {"name": "gpu", "title": "GPU", "rows": [], "expects": [], "reason": "no GPU", "verdict": "not applicable"}
    data = {"kind": "images", "train": 100, "test": 20, "totals": {"train": 200, "validation": 20}, "chance": 0.1}
    machine = {"processor": "a processor", "gpu": "", "torch": "2.13"}
    rows[0]["outdated"] = True
    rows[0]["runs"][0]["machine"] = {"processor": "a slow one", "gpu": "", "torch": "2.12"}  # type: ignore[index]
    return Study(
        corpus=manifest.corpus,
        version=manifest.version,
        kind="quick",
        content=manifest.content,
        measure="accuracy",
        updated_at="2026-01-01T00:00:00+00:00",
        about={"data": data, "machine": machine},
        claims=[{**claim, "verdict": "not held"}, other],
        rows=rows,
    )


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    made = MemoryStore()
    make_all(made, tmp_path)
    return made


def test_a_study_is_shown_with_its_drawings_and_nothing_of_it_is_markup(store: MemoryStore) -> None:
    manifest = load_manifest(store, "shapes")
    save_study(store, study(manifest))
    with serve(make_app(store, token=TOKEN)) as address, visit(address) as client:
        page = client.get("/c/shapes/study")
        linked = client.get("/c/shapes").text
        answer = client.get("/api/c/shapes/study").json()
    assert page.status_code == 200
    assert EVIL not in page.text
    assert "style=" not in page.text  # the policy allows none
    assert "100 images to train on, 20 held out (sampled of 200 and 20)" in page.text
    assert "61.7k" in page.text
    assert "plain: outdated, measured by other code or on other data" in page.text
    assert "plain: seconds of another machine: a slow one, torch 2.12" in page.text
    assert "1 row and 1 outdated; of 2 claims" in page.text
    lines = re.findall(r'<polyline class="line-\d" points="([^"]+)"', page.text)
    assert len(lines) == 4  # two losses, two gradients
    for x, y in (map(float, point.split(",")) for line in lines for point in line.split()):
        assert 0 <= x <= 600
        assert 0 <= y <= 220
    assert f'href="/c/{manifest.reference}/study"' in linked
    assert answer["studies"][0]["verdicts"] == {"not applicable": 1, "not held": 1}
    assert answer["studies"][0]["rows"][0]["score"] == 0.91


def test_a_version_without_a_study_says_how_to_make_one(store: MemoryStore) -> None:
    with serve(make_app(store, token=TOKEN)) as address, visit(address) as client:
        page = client.get("/c/shapes/study")
        linked = client.get("/c/shapes").text
    assert page.status_code == 404
    assert "stoker study shapes@2 --quick" in page.text
    assert "/study" not in linked


def test_a_damaged_study_takes_no_other_page_away(store: MemoryStore) -> None:
    manifest = load_manifest(store, "shapes")
    store.write(layout.study("shapes", manifest.version, "quick"), b"{")
    with serve(make_app(store, token=TOKEN)) as address, visit(address) as client:
        assert client.get("/c/shapes").status_code == 200
        damaged = client.get("/c/shapes/study")
    assert damaged.status_code == 500
    assert "measures it again" in damaged.text
