"""TOML files: what is no file, no TOML or too much is refused at once."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stoker.pipelines import toml_file
from stoker.pipelines.errors import RecipeError
from stoker.pipelines.recipe import load
from tests.conftest import HANGS_S


def test_a_document_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('corpus = "é"\n', encoding="utf-8")
    assert toml_file.read(path) == {"corpus": "é"}
    assert toml_file.read(path, check=lambda status: None) == {"corpus": "é"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a = \xff", r"not UTF-8 \(byte 4\)"),
        (b"a = ", "not TOML"),
        (b"b = 1\n" + b"a." * 30_000 + b"a = 1", "line 2: a key of more than 100 parts"),
        (b"x = {b = 1, " + b"'a' . " * 30_000 + b"a = 1}", "line 1: a key of more than 100 parts"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"#" * (2**24 + 1), "more than 16 MiB"),
        (b"a = 1" + b"0" * 5000, "a number of more than 64 bits"),
        (b"a = [{b.c = 0x1" + b"0" * 5000 + b"}]", r"a\.b\.c: a number of more than 64 bits"),
        (b"a = 9223372036854775808", "a number of more than 64 bits"),
    ],
)
def test_what_is_no_toml_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(toml_file.TomlError, match=text):
        toml_file.read(path)


def test_a_pipe_in_place_of_a_scheduled_recipe_holds_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "photos.toml")
    with pytest.raises(RecipeError, match=r"photos\.toml: a pipe or a device; expected a plain file"):
        load(tmp_path / "photos.toml", only_ours=True)
    with pytest.raises(RecipeError, match="more than 16 MiB"):
        load(Path("/dev/zero"))


def test_a_path_that_cannot_be_one_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "circle.toml").symlink_to("circle.toml")
    (tmp_path / "file.toml").write_text("")
    for name in ("circle.toml", "file.toml/inner", "a" * 5000, "."):
        with pytest.raises(RecipeError, match="expected a recipe in TOML"):
            load(tmp_path / name)


def test_a_pipe_of_the_shell_is_read(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"a = 1\n")
    os.close(write)
    try:
        assert toml_file.read(Path(f"/dev/fd/{read}")) == {"a": 1}
    finally:
        os.close(read)


def test_a_pipe_that_a_person_names_is_read_like_that_of_a_shell(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.toml")
    with ThreadPoolExecutor(1) as pool:
        document = pool.submit(toml_file.read, tmp_path / "a.toml")
        (tmp_path / "a.toml").write_text("b = " + repr("x" * 200_000))
        assert document.result(HANGS_S) == {"b": "x" * 200_000}


def test_a_pipe_to_which_nobody_writes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml_file, "_PIPE_WAIT_S", 0.05)
    os.mkfifo(tmp_path / "a.toml")
    with pytest.raises(RecipeError, match=r"a\.toml: a pipe or a device from which nothing came for 0\.05 s"):
        load(tmp_path / "a.toml")
