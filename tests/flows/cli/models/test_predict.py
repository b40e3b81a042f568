"""`stoker predict` through the real command line."""

import json
import re
import resource
from pathlib import Path

import pytest

from stoker.flows.cli.output import write_new
from stoker.flows.settings import UsageError
from tests.flows.conftest import Cli
from tests.training import corpora


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with five images of any names, and a file that is none."""
    for number, sample in enumerate(corpora.digits()[300:305]):
        (tmp_path / f"<b>{number}").write_bytes(sample.fields["png"])
    (tmp_path / "notes.jpg").write_text("no image")
    return tmp_path


def test_a_person_gets_a_table_and_a_page_and_is_told_of_what_is_no_image(trained: Cli, pictures: Path) -> None:
    page = pictures / "answers.html"
    done = trained("predict", "cnn", str(pictures), "--page", str(page))
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1] == "stoker: 1 file of 6 without an answer: see above"
    assert re.search(r"notes\.jpg +– +its image does not decode", done.stdout)
    assert len(done.stdout.splitlines()) == 7
    text = page.read_text()
    assert text.count('src="data:image/') == text.count("<img ") == 5
    assert not re.search(r"<script|https?://|url\(|<b>0", text)
    assert "default-src 'none'" in text
    again = trained("predict", "cnn", str(pictures), "--page", str(page), "-q")
    assert (again.returncode, again.stdout) == (2, "")
    assert "exists already" in again.stderr


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(UsageError, match="File too large; name another file"):
            write_new("predict", tmp_path / "answers.html", "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_program_gets_an_object_a_line(trained: Cli, pictures: Path) -> None:
    (pictures / "notes.jpg").unlink()
    done = trained("predict", "digits/cnn-0001", str(pictures), "--top", "2", "--json", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(line["path"]).name for line in lines] == [f"<b>{number}" for number in range(5)]
    for line in lines:
        assert set(line) == {"path", "class", "probability", "classes"}
        assert len(line["classes"]) == 2
        assert line["classes"][0] == {"class": line["class"], "probability": line["probability"]}


def test_what_is_wrong_is_one_line(trained: Cli, pictures: Path) -> None:
    for words, code, expected in (
        (("cnn",), 2, "name files or folders, or give a --prompt"),
        (("cnn", str(pictures), "--prompt", "x"), 2, "files and --prompt"),
        (("cnn", "--prompt", "x"), 1, "model cnn writes no texts; name files for it"),
        (("cnn", str(pictures), "--page", "missing/answers.html"), 2, "missing is no folder; make it first"),
        (("cnn", "nowhere"), 1, "nowhere: no such file or folder"),
        (("resnet", str(pictures)), 1, "no run with a checkpoint is called 'resnet'"),
    ):
        done = trained("predict", *words, "-q")
        assert (done.returncode, done.stdout) == (code, "")
        assert len(done.stderr.splitlines()) == 1
        assert expected in done.stderr
