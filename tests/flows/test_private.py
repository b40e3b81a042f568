"""A home and its files are for their owner alone, whatever lies there; locks and secrets in it."""

import os
import stat
import tempfile
from argparse import Namespace
from pathlib import Path

import pytest

from stoker.flows import private
from stoker.flows.start import load_settings
from stoker.storage.errors import StokerError
from tests.flows.conftest import Cli, as_nobody


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_is_made_private_or_closed(tmp_path: Path) -> None:
    private.make_private(tmp_path / "a" / "new")
    assert mode(tmp_path / "a" / "new") == 0o700
    for number, names in enumerate(((), ("logs", "runs"), ("services.json", "a note of mine"))):
        home = tmp_path / f"home-{number}"
        home.mkdir(mode=0o755)
        for name in names:
            (home / name).touch()
        private.make_private(home)
        assert mode(home) == 0o700, names


def test_a_folder_that_is_not_ours_alone_is_refused_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, shared, own, closed = (tmp_path / name for name in ("project", "shared", "own", "closed"))
    for folder, permissions in ((project, 0o755), (shared, 0o1777), (own, 0o755), (closed, 0o700)):
        folder.mkdir()
        folder.chmod(permissions)
        (folder / "README.md").touch()
    (own / "services.json").touch()
    monkeypatch.setenv("HOME", str(own))
    for folder, problem in ((project, "it holds other files"), (shared, "users share"), (own, "not for Stoker alone")):
        before = mode(folder)
        with pytest.raises(StokerError, match=f"{folder}: open to other users, and .*{problem}.*; set STOKER_HOME to"):
            private.make_private(folder)
        assert mode(folder) == before
    private.make_private(closed)  # nobody else gets in as it is
    (tmp_path / "file").touch()
    with pytest.raises(StokerError, match=r"cannot be made a private folder \(.*\); set STOKER_HOME"):
        private.make_private(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a folder to another user")
def test_a_home_of_another_user_is_refused(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 65534, 65534)
    with pytest.raises(StokerError, match="it belongs to another user"):
        private.make_private(theirs)


def test_a_command_closes_a_home_that_is_open_and_says_one_line_where_it_may_not(cli: Cli) -> None:
    home = cli.folder / ".stoker"
    home.mkdir(mode=0o755)
    (home / "runs").mkdir()
    assert cli("list").returncode == 0
    assert mode(home) == 0o700
    (cli.folder / "notes.txt").touch()
    cli.folder.chmod(0o755)
    cli.variables["STOKER_HOME"] = str(cli.folder)
    line = cli.refused("list")
    assert line.startswith(f"stoker: {cli.folder}: open to other users, and it holds other files")
    assert mode(cli.folder) == 0o755


def test_logs_are_for_their_owner(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.log"
    for text, anew in ((b"one", False), (b"two", False), (b"three", True)):
        with private.open_log(log, anew=anew) as file:
            file.write(text)
    assert log.read_bytes() == b"three"
    assert (mode(log), mode(log.parent)) == (0o600, 0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become another user")
def test_a_home_below_a_closed_folder_is_one_line() -> None:
    with tempfile.TemporaryDirectory() as folder:  # closed to others
        arguments = Namespace(home=f"{folder}/home", config="/dev/null")

        def look() -> list[str]:
            try:
                load_settings(arguments)
            except StokerError as error:
                return [str(error)]
            return []

        line = f"{folder}/home: cannot be looked at (Permission denied); set STOKER_HOME to a folder of your own"
        assert as_nobody(look)[0].startswith(line)


@pytest.mark.parametrize("anew", [True, False])
def test_a_link_in_place_of_a_log_or_a_lock_is_refused_and_its_target_left(tmp_path: Path, anew: bool) -> None:
    target = tmp_path / "bashrc"
    target.write_text("mine")
    for name in ("logs/up.log", "s3/weed.log", "up.lock"):
        path = tmp_path / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
        refused = pytest.raises(StokerError, match=f"{path}: a link to .*bashrc.*; remove the link")
        with refused, private.open_log(path, anew=anew):
            pass
    assert target.read_text() == "mine"
    with pytest.raises(StokerError, match=r"cannot be written \(Is a directory\)"):
        private.open_private(tmp_path, os.O_RDWR)


def test_a_folder_of_a_home_may_be_a_link_to_a_private_folder_alone(tmp_path: Path) -> None:
    home, disk = tmp_path / "home", tmp_path / "disk"
    home.mkdir()
    disk.mkdir(mode=0o755)
    (home / "logs").symlink_to(disk)
    (home / "s3").symlink_to(tmp_path / "none")
    for path in (home / "logs" / "a.log", home / "s3" / "a.log"):
        with pytest.raises(StokerError, match=f"{path.parent}: a link to .*; remove the link, or close"):
            private.open_private(path, os.O_RDWR)
    with pytest.raises(StokerError, match=f"{home / 'logs'}: a link to"):
        private.write_private(home / "logs" / "a", "text")
    assert list(disk.iterdir()) == []
    disk.chmod(0o700)
    os.close(private.open_private(home / "logs" / "a.log", os.O_RDWR))
    assert mode(disk / "a.log") == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give a link to another user")
def test_a_home_behind_a_link_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("ours")
    private.make_private(tmp_path / "link")  # a link of ours, such as to a larger disk
    os.lchown(tmp_path / "link", 65534, 65534)
    assert not private.is_private(tmp_path / "link")
    with pytest.raises(StokerError, match="a link that belongs to another user; set STOKER_HOME"):
        private.make_private(tmp_path / "link")


def test_stoker_up_writes_through_no_link_of_its_home(cli: Cli) -> None:
    home = cli.folder / ".stoker"
    (home / "logs").mkdir(parents=True)
    (cli.folder / "bashrc").write_text("mine")
    for name in ("up.lock", "logs/up.log"):
        (home / name).symlink_to(cli.folder / "bashrc")
        assert cli.refused("up", "--detach").startswith(f"stoker: {home / name}: a link to ")
        (home / name).unlink()
    assert (cli.folder / "bashrc").read_text() == "mine"


def test_the_key_of_schedules_is_made_once_and_private(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(StokerError, match="schedule-key: missing; run `stoker down` and `stoker up`"):
        private.schedule_key(home)
    key = private.schedule_key(home, make=True)
    assert len(key) == 64
    assert private.schedule_key(home) == private.schedule_key(home, make=True) == key
    assert mode(home / "schedule-key") == 0o600
    assert private.schedule_key(tmp_path / "other", make=True) != key
    for content in (b"", b"short", b"\xff" * 64):
        (home / "schedule-key").write_bytes(content)
        with pytest.raises(StokerError, match=r"schedule-key: (holds no key|not readable)"):
            private.schedule_key(home, make=True)


def test_a_lock_is_held_by_one_and_waited_for_no_longer_than_asked(tmp_path: Path) -> None:
    held = private.lock_private(tmp_path / "home" / "lock")
    with pytest.raises(BlockingIOError):
        private.lock_private(tmp_path / "home" / "lock", timeout_s=0)
    os.close(held)
    os.close(private.lock_private(tmp_path / "home" / "lock", timeout_s=0))
