"""The wheel: what it holds, and that it works beside folders of a user's own that are called like our layers."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.test_repository import LAYERS, REPO, tracked

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git tracks, without network."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in tracked():
        copy = folder / "source" / path.relative_to(REPO)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for layer in LAYERS:  # links to folders are no files: laid as git lays them
        link = folder / "source" / layer
        if not link.exists():
            link.symlink_to(f"stoker/{layer}")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run(
        [*command, "-w", str(folder), str(folder / "source")], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("stoker-*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_beside_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"stoker"}
    held = {name for name in names if name.startswith("stoker/")}
    ours = {str(path.relative_to(REPO)) for path in tracked() if path.is_relative_to(REPO / "stoker")}
    assert held == ours
    assert "stoker/py.typed" in held
    assert any(name.endswith("licenses/LICENSE") for name in names)


def alone(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a folder, with the installed dependencies and without this repository."""
    # -I keeps this repository (an editable install's finder included) from being found first: -S drops site-packages,
    # so they are added again behind ours, as plain folders.
    plain = [entry for entry in sys.path if entry.endswith("site-packages")]
    code = f"import sys; sys.path[:0] = ['']; sys.path += {plain!r}\n" + code
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_wheel_brings_the_recipes_and_what_the_demo_reads(wheel: Path, tmp_path: Path) -> None:
    site, project = tmp_path / "site", tmp_path / "project"
    zipfile.ZipFile(wheel).extractall(site)
    project.mkdir()
    code = (
        f"import sys; sys.path.insert(1, {str(site)!r})\n"
        "from pathlib import Path\n"
        "from stoker.flows import demo\n"
        "from stoker.flows.cli.cli import main\n"
        "print(demo.__file__)\n"
        "for words in (['example'], ['example', 'film'], ['check', 'film.toml', '--store', 'corpora']):\n"
        "    assert main(words) == 0, words\n"
        "for corpus in demo.CORPORA:\n"
        "    demo.recipe_at('http://127.0.0.1:1/', demo.RECIPES / f'{corpus}.toml')\n"
        "from stoker.flows.demo.server import content\n"
        "content(Path('site'), 8747)\n"
    )
    ran = alone(code, project)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(site))
    assert "\nhandbook " in ran.stdout
    assert (project / "film.toml").read_bytes() == (REPO / "recipes" / "film.toml").read_bytes()


def test_the_wheel_works_beside_a_users_own_training_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    project = tmp_path / "project"
    for layer in LAYERS:
        (project / layer).mkdir(parents=True)
        (project / layer / "__init__.py").write_text("mine = True\n")
    code = (
        f"import sys; sys.path.insert(1, {str(site)!r})\n"
        "import flows, pipelines, storage, training\n"
        "assert flows.mine and pipelines.mine and storage.mine and training.mine\n"
        "import stoker, stoker.storage, stoker.pipelines.recipe, stoker.flows.cli.cli\n"
        "from stoker.training import ShardStream\n"
        "print(stoker.__file__)\n"
        "raise SystemExit(stoker.flows.cli.cli.main(['--help']))\n"
    )
    ran = alone(code, project)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(str(site))
    assert "usage: stoker" in ran.stdout
