"""Exit codes of the command line, one line for what is wrong, and flags before and after the subcommand."""

import shlex

import pytest

from stoker.flows.cli.cli import main, parser
from tests.flows.conftest import Cli

# What is typed, and what the one line on standard error says; the exit code is 2.
WRONG = {
    "": "required: COMMAND",
    "ingset a.toml": "no command is called 'ingset'; did you mean 'ingest'?",
    "--hoem x list": "unknown option --hoem; did you mean '--home'?",
    "list --hoem x": "list: unknown option --hoem; did you mean '--home'?",
    "ingest": "required: RECIPE",
    "ingest a.toml --runer ray": "did you mean '--runner'?",
    "ingest --runer=ray": "did you mean '--runner'?",
    "ingest a.toml --runner treads": "did you mean 'threads'?",
    "ingest a.toml --runner x": "expected one of: threads, processes, ray, dask",
    "ingest a.toml --workers many": "--workers: found 'many', expected a whole number",
    "ingest a.toml --workers -1": "--workers: found '-1', expected a whole number",
    "ingest a.toml --store": "--store: expected one argument",
    "ingest a.toml b.toml": "unexpected argument 'b.toml'",
    "list --home ''": "--home: found '', expected text",
    "--store x up": "up: --store means nothing to this command; set STOKER_STORE, or store in stoker.toml",
    "--store x down": "down: --store means nothing to this command",
    "check a.toml --sample 0": "'0': expected a whole number from 1 to 1000",
    "check a.toml --sample ten": "'ten': expected a whole number from 1 to 1000",
    "schedule": "name a RECIPE",
    "schedule --list --pause x": "not allowed with argument --list",
    "index x --as x@2": "expected a name without a version",
    "index x --as 'Bad Name'": "expected a name like 'digits'",
    "index x --split 'Tr ain'": "split 'Tr ain'; expected a short lower-case word",
    "index x --workers none": "--workers: found 'none'",
    "index x --to a --store b": "two stores",
    "gc --older-than soon": "expected an age like 90s",
    "stream d --limit -3": "'-3': expected a whole number of 0 or more",
    "stream d --seed x": "'x': expected a whole number",
    "stream d --window 0": "'0': expected a whole number of 1 or more",
    "stream d --batch-size 0": "'0': expected a whole number of 1 or more",
    "stream d --workers 0": "'0': expected a whole number from 1",
    "stream d --seconds nan": "'nan': expected a number above 0",
    "stream d --rate 0": "'0': expected a number above 0",
    "stream d --like resnt50": "no network is called 'resnt50'; did you mean 'resnet50'?",
    "stream d --like resnet18@h100": "resnet18 on 'h100': no figure is known; there are: rtx3090, here",
    "stream d --size 0": "'0': expected a whole number from 1",
    "train": "required: MODEL, CORPUS[@V]",
    "train cnm d": "no model is called 'cnm'; did you mean 'cnn'?",
    "train cnn d --set width": "--set width: expected NAME=VALUE",
    "train cnn d --set widht=3": "did you mean 'width'?",
    "train cnn d --set width=wide": "width = 'wide'; expected a whole number",
    "train cnn d --set width=0": "width = 0; expected 1 to 1024",
    "train cnn d --epochs 0": "expected 1 or more",
    "train cnn d --epochs x": "epochs = 'x'; expected a whole number",
    "train cnn d --optimiser adamm": "did you mean 'adam'?",
    "train cnn d --learning-rate nan": "expected 0 or more",
    "train cnn d --batchsize 3": "did you mean '--batch-size'?",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_usage_ends_with_2_and_one_line(
    line: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(cli.folder)
    cli.recipe(["one"], name="a")
    try:
        code: object = main(shlex.split(line))
    except SystemExit as end:
        code = end.code
    out, message = capfd.readouterr()
    assert (code, out, message.count("\n")) == (2, "", 1), message
    assert message.startswith("stoker: ")
    assert WRONG[line] in message
    assert cli.objects() == {}


@pytest.mark.parametrize(
    "line",
    [
        "list",
        "show d",
        "diff d e",
        "why d k",
        "gc d",
        "verify d",
        "stream d",
        "check none.toml",
        "ingest none.toml",
        "index none",
        "train lstm d",
        "open",
        "list --config none.toml",
    ],
)
def test_what_is_refused_ends_with_1_and_one_line(
    line: str, cli: Cli, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(cli.folder)
    (cli.folder / "file").touch()
    words = shlex.split(line)
    if line == "list":
        words += ["--home", "file/home"]  # below a file
    assert main(words) == 1
    out, message = capfd.readouterr()
    assert (out, message.count("stoker: ")) == ("", 1), message
    assert message.splitlines()[-1].startswith("stoker: ")


def test_shared_flags_stand_before_or_after_the_command_and_the_last_one_counts() -> None:
    for line in ("--home h --store s --config c list", "list --home h --store s --config c", "--home=h list --store s"):
        found = parser().parse_args(line.split())
        assert (found.home, found.store) == ("h", "s")
    assert parser().parse_args(["--home", "a", "list", "--home", "b"]).home == "b"
    found = parser().parse_args(["up"])
    assert (found.home, found.store, found.config) == (None, None, None)


def test_a_flag_s_value_is_no_flag() -> None:
    assert parser().parse_args(["list", "--home", "-5"]).home == "-5"
    assert parser().parse_args(["why", "d", "--", "--key"]).text == "--key"


def test_a_message_holds_no_control_characters(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["\x1b[31mred"])
    assert "\x1b" not in capfd.readouterr().err
