"""Data sets through the ``datasets`` library, and the hub's errors as ours."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stoker.pipelines.errors import RecipeError, SourceBroken
from stoker.pipelines.tables import hub as hub_module
from stoker.pipelines.tables.hub import HubTable
from tests.conftest import HANGS_S
from tests.pipelines.sources.test_hugging_face import PNG, pictures


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_the_library_gives_the_same_rows_as_the_files(
    tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("datasets")
    monkeypatch.setattr(hub_module, "_refuse_local", lambda *_: None)  # a local folder stands for the hub here
    monkeypatch.setattr(hub_module, "_refuse_other_places", lambda *_: None)
    (tmp_path / "set").mkdir()
    pq.write_table(pictures(9), tmp_path / "set" / "train.parquet")
    table = HubTable(str(tmp_path / "set"), "", "train", "", streaming)
    assert table.columns["label"].names == ("cat", "dog")
    assert table.columns["image"].kind == "image"
    rows = list(table.rows(2, 5))
    assert [row["image"]["bytes"] for row in rows] == [PNG + bytes([row]) for row in (2, 3, 4)]
    assert len(list(table.rows(0, None))) == 9
    with pytest.raises(SourceBroken, match="nosuch"):
        _ = HubTable(str(tmp_path / "set"), "", "nosuch", "", streaming).columns


def test_no_name_makes_the_library_read_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "private" / "diary").mkdir(parents=True)
    (tmp_path / "private" / "diary" / "train.txt").write_text("secret")
    (tmp_path / "train.txt").write_text("secret")
    monkeypatch.chdir(tmp_path)
    for name in ("text", "imagefolder", "private", "private/diary", "train.txt"):
        with pytest.raises(RecipeError, match=f"data set '{name}': the name of a file format, or of something in"):
            _ = HubTable(name, "", "train", "", False).columns


@pytest.mark.parametrize(
    "file", ["/etc/passwd", "http://10.0.0.1/a.csv", "zip://a.csv::/home/me/a.zip", "file:///etc/passwd"]
)
def test_a_data_set_that_names_files_elsewhere_is_refused(file: str) -> None:
    own = "hf://datasets/a/b@0123/train.parquet"
    hub_module._refuse_other_places("a/b", None)
    hub_module._refuse_other_places("a/b", {"train": [own, f"zip://a.csv::{own}"]})
    with pytest.raises(SourceBroken, match="data set 'a/b': it names a file that is not on the hub"):
        hub_module._refuse_other_places("a/b", {"train": [own], "test": [own, file]})


def test_a_row_names_only_files_that_were_fetched_for_its_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    own, other = tmp_path / "hub" / "datasets--a--b", tmp_path / "hub" / "datasets--a--bc"
    for file in (tmp_path / "token", tmp_path / "stored_tokens", own / "blobs" / "1", other / "blobs" / "1"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"bytes")
    picture = own / "snapshots" / "0123" / "a.png"
    picture.parent.mkdir(parents=True)
    picture.symlink_to("../../blobs/1")
    (picture.parent / "token").symlink_to(tmp_path / "token")
    table = HubTable("a/b", "", "train", "", False)
    assert table.read_cached_file(str(picture)) == b"bytes"
    refused = ("token", "stored_tokens", "hub/datasets--a--bc/blobs/1", "hub/datasets--a--b/../../token")
    for path in (*(tmp_path / name for name in refused), picture.parent / "token", picture.parent):
        assert table.read_cached_file(str(path)) is None, path


class Hub(BaseHTTPRequestHandler):
    status = 503

    def do_GET(self) -> None:
        self.send_response(self.status)
        if self.status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815  # the name that the server calls

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(params=[404, 401, 503])
def hub(request: pytest.FixtureRequest) -> Iterator[tuple[int, str]]:
    handler = type("OneHub", (Hub,), {"status": request.param})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield request.param, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _from_hub(endpoint: str, tmp_path: Path) -> str:
    code = (
        "from tests.pipelines.sources.test_hugging_face import read; from pathlib import Path\n"
        f"try: read(Path({str(tmp_path)!r}), 'someone/something')\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    env = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "*",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANGS_S, env=env, check=True
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_a_hub_that_fails_is_unavailable_and_one_that_refuses_is_broken(hub: tuple[int, str], tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    status, endpoint = hub
    output = _from_hub(endpoint, tmp_path)
    assert output.startswith("SourceUnavailable" if status == 503 else "SourceBroken"), output
    assert "someone/something" in output


@pytest.mark.slow
def test_a_hub_out_of_reach_is_unavailable(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    output = _from_hub("http://127.0.0.1:9", tmp_path)
    assert output.startswith("SourceUnavailable"), output
