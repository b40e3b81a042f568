"""Which stoker.toml is read, and whose."""

import os
import tempfile
from pathlib import Path

import pytest

from stoker.flows import settings_files
from stoker.flows.settings_files import SettingsError, own_path
from tests.flows.conftest import as_nobody

OTHER = 12345  # the id of another user


def paths(environ: dict[str, str], cwd: Path, config: str = "") -> list[Path]:
    return [path for path, _ in settings_files.read(environ, cwd, config)]


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, None),
        ({"HOME": "/home/me"}, Path("/home/me/.config/stoker/stoker.toml")),
        ({"HOME": "/home/me", "XDG_CONFIG_HOME": "/etc/mine"}, Path("/etc/mine/stoker/stoker.toml")),
        ({"HOME": "/home/me", "XDG_CONFIG_HOME": "relative"}, Path("/home/me/.config/stoker/stoker.toml")),
        ({"HOME": "", "XDG_CONFIG_HOME": ""}, None),
        ({"XDG_CONFIG_HOME": "/etc/mine"}, Path("/etc/mine/stoker/stoker.toml")),
    ],
)
def test_the_users_own_file_lies_where_xdg_says(environ: dict[str, str], path: Path | None) -> None:
    assert own_path(environ) == path


def test_a_named_file_is_read_in_place_of_the_others(tmp_path: Path) -> None:
    named = tmp_path / "other.toml"
    named.write_text("workers = 1")
    (tmp_path / "stoker.toml").write_text("workers = 2")
    assert paths({}, tmp_path) == [tmp_path / "stoker.toml"]
    assert paths({}, tmp_path, "other.toml") == [named]
    assert paths({"STOKER_CONFIG": str(named)}, tmp_path) == [named]
    assert paths({"STOKER_CONFIG": str(named)}, tmp_path, "stoker.toml") == [tmp_path / "stoker.toml"]
    assert paths({"STOKER_CONFIG": ""}, tmp_path) == [tmp_path / "stoker.toml"]
    with pytest.raises(SettingsError, match=r"none\.toml: not readable as TOML: No such file"):
        paths({}, tmp_path, "none.toml")


def test_a_file_that_is_both_the_users_own_and_here_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "stoker").mkdir()
    path = tmp_path / "stoker" / "stoker.toml"
    path.write_text("")
    assert paths({"XDG_CONFIG_HOME": str(tmp_path)}, tmp_path / "stoker") == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("planted", ["file", "link"])
def test_a_file_here_of_another_user_is_not_obeyed_unless_it_is_named(planted: str, tmp_path: Path) -> None:
    path = tmp_path / "stoker.toml"
    if planted == "file":
        path.write_text("workers = 2")
    else:  # of theirs, to a file of ours that was meant for another folder
        (tmp_path / "ours.toml").write_text("workers = 2")
        path.symlink_to("ours.toml")
    os.chown(path, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(SettingsError, match=f"belongs to user {OTHER} and not to you.*--config {path}"):
        paths({}, tmp_path)
    assert paths({}, tmp_path, "stoker.toml") == [path]


def test_what_is_no_file_is_no_settings_file(tmp_path: Path) -> None:
    (tmp_path / "stoker.toml").mkdir()
    assert paths({"HOME": str(tmp_path)}, tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become another user")
@pytest.mark.parametrize("closed", ["folder", "file"])
def test_a_file_of_ones_own_that_is_closed_counts_as_absent(closed: str) -> None:
    with tempfile.TemporaryDirectory() as folder:  # not in tmp_path, which is closed as a whole
        Path(folder).chmod(0o755)
        (Path(folder) / "home/stoker").mkdir(parents=True)
        own = Path(folder) / "home/stoker/stoker.toml"
        own.write_text("workers = 2")
        (own if closed == "file" else Path(folder) / "home").chmod(0o600)

        def look() -> list[str]:
            reports: list[str] = []
            found = settings_files.read({"XDG_CONFIG_HOME": f"{folder}/home"}, Path(folder), report=reports.append)
            return [str(len(found)), *reports]

        assert as_nobody(look) == ["0", f"{own} is not read: Permission denied"]
