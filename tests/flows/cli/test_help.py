"""`stoker help`, and the help of each command."""

import json
import shlex

import pytest

from stoker.flows.cli.cli import main, parser
from stoker.flows.cli.usage.examples import EXAMPLES

COMMANDS = parser().subcommands()


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    return capfd


def test_all_names_are_listed(shown: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    out = shown.readouterr().out
    for words in ("Commands\n", "  ingest ", "Sources\n", "  image_urls ", "Rules\n", "Models\n", "  cnn "):
        assert words in out
    assert main(["help", "--json"]) == 0
    assert set(json.loads(shown.readouterr().out)) == {"commands", "sources", "steps", "rules", "models"}


def test_a_part_is_shown_with_its_options_and_example(shown: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "local_files"]) == 0
    out = shown.readouterr().out
    assert "  files: text; needed\n" in out
    assert '  name = "local_files"' in out
    assert main(["help", "lstm", "--json"]) == 0
    found = json.loads(shown.readouterr().out)
    assert (found["kind"], "hidden" in [option["name"] for option in found["options"]]) == ("model", True)


def test_a_command_s_help_and_a_misspelt_name(shown: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "ingest"]) == 0
    assert shown.readouterr().out.startswith("usage: stoker ingest")
    assert main(["help", "imag_urls"]) == 2
    assert "did you mean 'image_urls'?" in shown.readouterr().err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_s_help_has_examples_that_parse(name: str) -> None:
    assert COMMANDS[name].format_help().count("\n  stoker ") >= len(EXAMPLES[name]) > 0
    for line in EXAMPLES[name]:
        assert parser().parse_args(shlex.split(line)[1:]).command == name
