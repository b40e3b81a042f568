"""The web pages of the documentation: built without a warning, with all that is offered."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import stoker.training
from stoker.pipelines.registry import names
from stoker.pipelines.rule import Rule
from stoker.pipelines.source import Source
from stoker.pipelines.step import Step
from stoker.training.run import model
from tests.test_repository import REPO


@pytest.mark.slow
def test_the_pages_are_built_without_a_warning_and_have_every_part_and_public_name(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-b", "text", "-q", "-W", "--keep-going", "-d", str(tmp_path / "trees")]
    done = subprocess.run(
        [*command, "docs", str(tmp_path / "pages")], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    parts = (tmp_path / "pages" / "parts.txt").read_text()
    offered = [*names(Source), *names(Step), *names(Rule), *model.names()]
    assert [name for name in offered if f"\n{name}\n" not in parts] == []
    assert "frames_per_second" in parts
    python = (tmp_path / "pages" / "python.txt").read_text()
    assert [name for name in stoker.training.__all__ if not re.search(rf"\b{name}\b", python)] == []
    assert "{{" not in parts + python
