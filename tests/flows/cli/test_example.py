"""`stoker example`: recipes to start from."""

import json

from tests.flows.conftest import Cli


def test_a_recipe_is_written_once_and_is_right(cli: Cli) -> None:
    listed = cli("example")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["digits", "film", "handbook"]
    assert json.loads(cli("example", "--json").stdout)["digits"].startswith("Images from a web site")
    assert cli("example", "digits").stdout == "digits.toml\n"
    (cli.folder / "digits.toml").write_text("mine")
    assert "it is there already and stays as it is" in cli.refused("example", "digits")
    assert (cli.folder / "digits.toml").read_text() == "mine"


def test_an_unknown_example_names_those_there_are(cli: Cli) -> None:
    assert "there are digits, film, handbook" in cli.refused("example", "../digits")
