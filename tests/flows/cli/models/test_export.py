"""`stoker export` through the real command line."""

import importlib.util
import json
from pathlib import Path

import pytest

from tests.flows.conftest import Cli


def test_a_program_is_written_and_told(trained: Cli, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    done = trained("export", "cnn", "--format", "torch", "-o", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{path}: digits/cnn-0001, step 10, ")
    assert "torch.export.load(FILE).module()" in done.stderr
    again = trained("export", "cnn", "--format", "torch", "-o", str(path), "-q")
    assert (again.returncode, again.stdout, again.stderr.count("\n")) == (1, "", 1)
    assert "exists already" in again.stderr


@pytest.mark.skipif(importlib.util.find_spec("safetensors") is None, reason="safetensors is not installed")
def test_safetensors_are_the_default_and_named_after_the_run(trained: Cli) -> None:
    done = trained("export", "digits/cnn-0001", "--json", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    about = json.loads(done.stdout)
    assert about["file"] == "digits-cnn-0001.safetensors"
    assert (trained.folder / about["file"]).stat().st_size == about["size"]


@pytest.mark.skipif(importlib.util.find_spec("safetensors") is not None, reason="safetensors is installed")
def test_a_missing_package_is_named_with_its_extra(trained: Cli) -> None:
    done = trained("export", "cnn", "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert 'needs safetensors; pip install "stoker[export]"' in done.stderr


def test_what_a_format_lacks_is_said_before_the_store_is_read(trained: Cli, tmp_path: Path) -> None:
    (tmp_path / "model.pt2").touch()
    done = trained("export", "nobody", "--format", "torch", "-o", str(tmp_path / "model.pt2"), "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert "exists already" in done.stderr
    if importlib.util.find_spec("onnxscript") is None:
        done = trained("export", "nobody", "--format", "onnx", "-q")
        assert 'onnxscript; pip install "stoker[export]"' in done.stderr
