"""The repository itself: its links, guards, targets and texts."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import stoker

REPO = Path(__file__).resolve().parent.parent
LAYERS = ("flows", "pipelines", "storage", "training")
MOST_FILES = 14  # in one folder: more are not taken in at a glance
WHOLE = (
    ".",
    "system",
    "system/explained",
    "system/kills",
    "system/nights",
    "system/old_store",
    "pipelines",
    "training",
    "testing",
)  # folders that also have tests of no single module


def tracked() -> list[Path]:
    """The files that git tracks, or all that are no build product where this is no clone."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        return [REPO / name for name in listed.stdout.decode().split("\0") if name and (REPO / name).is_file()]
    folders = [REPO / name for name in ("stoker", "tests", "recipes")]
    return [
        path for folder in folders for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]


def texts() -> dict[Path, str]:
    found = {}
    for path in tracked():
        try:
            found[path] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
    return found


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_has_a_link_at_the_top_that_leads_to_its_code(layer: str) -> None:
    link = REPO / layer
    assert link.is_symlink()
    assert os.readlink(link) == f"stoker/{layer}"
    assert link.resolve() == REPO / "stoker" / layer


def test_what_is_tested_is_the_code_of_this_repository() -> None:
    assert Path(stoker.__file__).resolve() == REPO / "stoker" / "__init__.py"


@pytest.mark.parametrize("layer", LAYERS)
def test_importing_a_layer_by_its_plain_name_is_refused_by_ruff(layer: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(f"import {layer}\nfrom {layer}.sample import Sample\n\nprint({layer}, Sample)\n")
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--config", str(REPO / "pyproject.toml")]
    found = subprocess.run([*command, "--select", "TID251", str(wrong)], capture_output=True, text=True, check=False)
    assert found.returncode == 1, found.stdout + found.stderr
    assert found.stdout.count(f"import stoker.{layer}") == 2


def test_ruff_looks_at_every_module() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--show-files", "."]
    shown = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout
    looked_at = {Path(line) for line in shown.splitlines() if line.endswith(".py")}
    assert {path for path in tracked() if path.suffix == ".py"} <= looked_at


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    assert project["version"] == stoker.__version__
    assert f"## [{stoker.__version__}]" in (REPO / "CHANGELOG.md").read_text()


def test_the_changelog_has_dated_versions_newest_first_and_every_entry_is_a_sentence() -> None:
    text = (REPO / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", heading) for heading in headings[1:])
    versions = [tuple(map(int, re.findall(r"\d+", heading)[:3])) for heading in headings[1:]]
    assert versions == sorted(versions, reverse=True)
    kinds = set(re.findall(r"^### (.+)$", text, flags=re.MULTILINE))
    assert kinds <= {"New", "Breaking", "Fixes", "Deprecations", "Decisions"}
    entries = re.findall(r"^- (.+(?:\n  .+)*)", text, flags=re.MULTILINE)
    assert entries
    assert [entry for entry in entries if not entry.rstrip().endswith((".", ":", "`"))] == []


def test_the_licence_is_apache_2_in_full() -> None:
    text = (REPO / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_no_file_names_the_place_where_it_was_written() -> None:
    places = re.compile("|".join(re.escape(str(place)) for place in (REPO, REPO.parent / "shared")))
    named = [str(path.relative_to(REPO)) for path, text in texts().items() if places.search(text)]
    assert named == []


def test_no_file_names_a_package_index() -> None:
    command = [sys.executable, "-m", "pip", "config", "list"]
    configured = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    spoken = " ".join([configured, *(text for name, text in os.environ.items() if name.startswith(("PIP_", "UV_")))])
    hosts = {urlsplit(address).hostname for address in re.findall(r"https?://[^\s'\"]+", spoken)} - {None, "127.0.0.1"}
    flags = re.compile(r"--(extra-)?index-url[ =]|--find-links[ =]|--trusted-host[ =]")
    named = [
        str(path.relative_to(REPO))
        for path, text in texts().items()
        if path != Path(__file__).resolve() and (flags.search(text) or any(host and host in text for host in hosts))
    ]
    assert named == []


def make(*arguments: str, path: Path | None = None, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {"PATH": f"{path}:/usr/bin:/bin" if path else os.environ["PATH"], **variables}
    return subprocess.run(["make", *arguments], cwd=REPO, env=environment, capture_output=True, text=True, check=False)


def test_make_alone_lists_every_target() -> None:
    shown = make().stdout
    phony = re.search(r"^\.PHONY: (.+)$", (REPO / "Makefile").read_text(), flags=re.MULTILINE)
    assert phony is not None
    assert re.findall(r"^  make (\S+) ", shown, flags=re.MULTILINE) == phony[1].split()


def test_make_says_so_where_python_is_too_old(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name in ("python3", *(f"python3.{minor}" for minor in range(11, 16))):
        (bin_ / name).write_text('#!/bin/sh\necho "Python 3.9.2"\nexit 1\n')
        (bin_ / name).chmod(0o755)
    found = make("dev", f"VENV={tmp_path / 'venv'}", path=bin_)
    assert found.returncode == 2
    assert "no Python 3.11 or newer found (python3 is: Python 3.9.2)" in found.stderr
    assert not (tmp_path / "venv").exists()


def test_make_test_and_ci_run_the_same_checks() -> None:
    planned = make("-n", "test", "VENV=.not-made-yet").stdout  # that of a run may be installed already
    for tool in ("ruff format --check", "ruff check", "mypy", "lint-imports", "pytest"):
        assert tool in planned
    assert planned.index("constraints.txt torch") < planned.index('-e ".[dev]"')
    script = (REPO / ".ci" / "run").read_text()
    assert os.access(REPO / ".ci" / "run", os.X_OK)
    assert "rm -rf .ci-venv" in script
    assert script.rstrip().endswith("exec make --no-print-directory test VENV=.ci-venv")
    assert subprocess.run(["bash", "-n", ".ci/run"], cwd=REPO, check=False).returncode == 0


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[<>=~! ]", one)[0].lower().replace("_", "-") for one in wanted} - {"stoker"}
    pins = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (REPO / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    assert names <= pins, json.dumps(sorted(names - pins))


def test_the_lowest_versions_that_are_declared_are_those_that_are_tested() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = {name: wanted for name, wanted in project["optional-dependencies"].items() if name not in ("all", "dev")}
    declared = [*project["dependencies"], *(one for extra in extras.values() for one in extra)]
    lowest = dict(re.findall(r"^([\w.-]+)==(.+)$", (REPO / "constraints-lowest.txt").read_text(), flags=re.MULTILINE))
    tested = {name.lower().replace("_", "-"): version for name, version in lowest.items()}
    untested = []
    for requirement in declared:
        name, bound = re.findall(r"^([\w-]+)>=([\d.]+)", requirement)[0]
        if not f"{tested[name]}.".startswith(f"{bound}."):
            untested.append(f"{requirement}: tested is {tested[name]}")
    assert untested == []


def modules(folder: str) -> list[Path]:
    """The Python files that git tracks in a folder of the repository, relative to that folder."""
    root = REPO / folder
    return [path.relative_to(root) for path in tracked() if path.suffix == ".py" and path.is_relative_to(root)]


@pytest.mark.parametrize("folder", ["stoker", "tests"])
def test_no_folder_is_a_drawer_of_many_files(folder: str) -> None:
    sizes = Counter(path.parent for path in modules(folder) if path.name != "__init__.py")
    assert {str(path): size for path, size in sizes.items() if size > MOST_FILES} == {}


def test_a_test_stands_where_its_module_does_and_has_its_name() -> None:
    """Tests of several modules together (killed processes, real data, other loaders) stand in a folder of WHOLE."""
    code = set(modules("stoker"))
    code |= {path.with_name(f"{path.parent.name}.py") for path in code if path.name == "__init__.py"}
    mirrored = [
        path
        for path in modules("tests")
        if path.name.startswith("test_") and path.parent not in {Path(folder) for folder in WHOLE}
    ]
    assert len(mirrored) > 50
    assert [str(path) for path in mirrored if path.with_name(path.name.removeprefix("test_")) not in code] == []
