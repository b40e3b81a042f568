"""Paths that a recipe names, and its folder."""

from pathlib import Path

import pytest

from stoker.pipelines.errors import OutsideRecipe
from tests.fakes import context


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A recipe's folder with links, beside one that is not its own."""
    root, outside = tmp_path / "recipe", tmp_path / "outside"
    for folder in (root / "sub", outside):
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text("a")
    (tmp_path / "recipe-of-mine").mkdir()
    (root / "out").symlink_to(outside)
    (root / "out.txt").symlink_to(outside / "a.txt")
    (root / "chain").symlink_to("out")
    (root / "near").symlink_to("sub")
    (root / "loop").symlink_to("loop")
    return root


LEAVING = ["..", "../outside/a.txt", "../recipe-of-mine", "sub/../../outside", "/etc/passwd", "/", "out", "out/a.txt",
           "out.txt", "chain/a.txt", "out/../a.txt", "../nothing-there", "near/../../outside"]  # fmt: skip


@pytest.mark.parametrize("name", LEAVING)
def test_a_path_that_leaves_the_folder_is_refused_with_the_path_the_folder_and_the_flag(root: Path, name: str) -> None:
    for ask in (context(root).path, context(root).glob):
        with pytest.raises(OutsideRecipe) as refused:
            ask(name)
        assert str(refused.value).startswith(repr(name))
        assert f"outside of the recipe's folder {root.resolve()}" in str(refused.value)
        assert "--trust" in str(refused.value)
    assert context(root, trusted=True).path(name) == root / name


@pytest.mark.parametrize(
    "name", ["sub", "sub/a.txt", ".", "", "sub/../sub", "near/a.txt", "nothing", "loop", "~/x", "a\0b"]
)
def test_a_path_within_the_folder_is_given(root: Path, name: str) -> None:
    assert context(root).path(name) == root / name


def test_the_absolute_path_of_something_within_is_no_way_out(root: Path) -> None:
    assert context(root).path(str(root / "sub")) == root / "sub"
    assert context(root / "near").path("a.txt") == root / "near" / "a.txt", "the folder itself may be a link"


@pytest.mark.parametrize(
    "pattern", ["*", "**/*.txt", "o*/a.txt", "*.txt", "../*", "/etc/*", "sub/../../outside/*", "out/*"]
)
def test_a_glob_is_refused_if_anything_that_it_matches_lies_outside(root: Path, pattern: str) -> None:
    with pytest.raises(OutsideRecipe):
        context(root).glob(pattern)
    assert context(root, trusted=True).glob(pattern)


def test_a_glob_gives_what_there_is_sorted(root: Path) -> None:
    (root / "sub" / "b[1].txt").write_text("")
    assert context(root).glob("sub/*.txt") == [root / "sub" / "a.txt", root / "sub" / "b[1].txt"]
    assert context(root).glob("sub/b[1].txt") == [root / "sub" / "b[1].txt"], "a name with brackets is itself"
    assert context(root).glob("sub/*.png") == context(root).glob("none") == context(root).glob("a\0b") == []
