"""Subcommands that run something: what they print, and what they refuse."""

import json

import pytest

from tests.flows.conftest import Cli
from tests.pipelines.sources.test_wikipedia_dump import dump, page

WORDS = ["one", "two", "three"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('corpus = "a"\n[source]\nname = "linse"\npath = "x"', "no source is called 'linse'; did you mean 'lines'?"),
        ('corpus = "a"\n[source]\nname = "lines"\npaht = "x"', "no option 'paht'; did you mean 'path'?"),
        ('corpus = "a"\n[source]\nname = "lines"\npath = "x"\neach = "two"', "each"),
        ('corpus = "A b"\n[source]\nname = "lines"\npath = "x"', "corpus 'A b'"),
        ('corpus = "a"\nstep = []\n[source]\nname = "lines"\npath = "x"', "unknown key 'step'; did you mean 'steps'?"),
        ('corpus = "a', "not TOML"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_says_what_and_where(text: str, expected: str, cli: Cli) -> None:
    (cli.folder / "a.toml").write_text(text)
    for command in ("check", "ingest"):
        line = cli.refused(command, "a.toml")
        assert expected in line
        assert "a.toml" in line


def test_a_recipe_that_is_not_there_is_one_line(cli: Cli) -> None:
    assert cli.refused("ingest", "none.toml") == "stoker: none.toml: no such file; expected a recipe in TOML"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("exact_duplicate", "'exact_duplicate' is decided by a rule, and anew by each run that changes any"),
        ("not_an_imag", "no reason is called 'not_an_imag'; did you mean 'not_an_image'?"),
    ],
)
def test_reasons_that_cannot_be_asked_again_are_wrong_usage(reason: str, expected: str, cli: Cli) -> None:
    text = 'corpus = "a"\n[source]\nname = "local_files"\nfiles = "x"\n[[steps]]\nname = "image"\n'
    (cli.folder / "a.toml").write_text(text + '[[rules]]\nname = "exact_duplicates"\n')
    assert expected in cli.refused("ingest", "a.toml", f"--retry-failed={reason}", code=2)


def test_of_a_source_that_lists_nothing_no_candidate_is_asked_for_by_itself(cli: Cli) -> None:
    (cli.folder / "a.toml").write_text('corpus = "a"\n[source]\nname = "hugging_face"\ndataset = "a/b"\n')
    line = cli.refused("ingest", "a.toml", "--refresh", code=2)
    assert "ingest: --refresh: this recipe's source lists no candidates" in line
    assert "--refresh" in cli.refused("ingest", "a.toml", "--refresh=steps", code=2)


def test_an_age_is_that_of_what_is_refreshed(cli: Cli) -> None:
    (cli.folder / "a.toml").write_text('corpus = "a"\n[source]\nname = "image_urls"\nlists = "x.txt"\n')
    assert "add --refresh" in cli.refused("ingest", "a.toml", "--older-than", "7d", code=2)
    assert "add --refresh" in cli.refused("ingest", "a.toml", "--refresh-megabytes", "7", code=2)
    line = cli.refused("ingest", "a.toml", "--refresh", "--older-than", "soon", code=2)
    assert line == "stoker: --older-than soon: expected an age like 90s, 30m, 24h or 7d"


def test_check_says_what_a_recipe_is_made_of_and_fetches_nothing(cli: Cli) -> None:
    done = cli("check", cli.recipe(WORDS))
    assert done.returncode == 0, done.stderr
    assert "corpus words, source lines" in done.stdout
    assert cli.journal() == []


def test_a_missing_input_is_one_line(served: Cli) -> None:
    recipe = served.recipe(WORDS)
    (served.folder / "words.txt").unlink()
    assert "words.txt: no such file" in served.refused("ingest", recipe)


def test_an_ingest_of_a_source_that_lost_a_piece_says_so_and_fails_each_time(served: Cli) -> None:
    (served.folder / "dewiki.xml").write_bytes(
        dump(page(1, "Some text."), page(2, "More text.")).removesuffix(b"</mediawiki>\n")
    )
    (served.folder / "wiki.toml").write_text('corpus = "wiki"\n[source]\nname = "wikipedia_dump"\ndump = "dewiki.xml"')
    for _ in range(2):
        done = served("ingest", "wiki.toml")
        assert done.returncode == 1
        assert "wiki@1: 2 samples" in done.stdout
        assert "lost 1" in done.stdout
        assert "stoker: wiki@1 is not whole: 1 piece of the source could not be read: the dump ends" in done.stderr
    document = json.loads(served("ingest", "wiki.toml", "--json").stdout)
    assert document["rejected"] == {"lost": 1}
    assert "lost\tdewiki-lost-" in served("show", "wiki", "--reason", "lost").stdout


def test_a_schedule_without_services_says_to_start_them(cli: Cli) -> None:
    recipe = cli.recipe(WORDS)
    for words in (("--interval", "1h"), ("--cron", "0 3 * * *")):
        assert "`stoker up` is not running" in cli.refused("schedule", recipe, *words)
    assert "`stoker up` is not running" in cli.refused("schedule", "--list")
    assert "expected five fields" in cli.refused("schedule", recipe, "--cron", "at three")
    assert "for example 90s" in cli.refused("schedule", recipe, "--interval", "soon")
    assert "add --refresh" in cli.refused("schedule", recipe, "--interval", "1d", "--older-than", "7d", code=2)
    assert "Europe/Berlin" in cli.refused("schedule", recipe, "--cron", "0 3 * * *", "--timezone", "Berlin")


def test_down_with_nothing_running_is_no_error(cli: Cli) -> None:
    done = cli("down")
    assert (done.returncode, done.stderr) == (0, "nothing was running\n")


def test_the_command_says_which_settings_it_read_and_which_it_did_not(cli: Cli) -> None:
    (cli.folder / "sub").mkdir()
    (cli.folder / "sub" / "stoker.toml").write_text('home = "of-a-stranger"\n')
    (cli.folder / "words.txt").write_text("one\n")
    (cli.folder / "sub" / "words.txt").write_text("one\n")
    for folder in (cli.folder, cli.folder / "sub"):
        (folder / "words.toml").write_text('corpus = "words"\n[source]\nname = "lines"\npath = "words.txt"\n')
    beside = cli.folder / "sub" / "stoker.toml"
    done = cli("check", "sub/words.toml")
    assert (done.returncode, done.stderr.count("is not read"), done.stderr.count(f"--config {beside}")) == (0, 1, 1)
    done = cli("check", "sub/words.toml", "--config", "sub/stoker.toml")
    assert (done.returncode, done.stderr) == (0, f"settings from {beside}\n")
    assert cli("check", "words.toml").stderr == ""


def test_a_recipe_that_leaves_its_folder_needs_trust(served: Cli) -> None:
    """A stranger's recipe with an own source: `lines` declares no paths, so any option that is one counts."""
    (served.folder / "sub").mkdir()
    recipe = 'corpus = "words"\n[source]\nname = "lines"\npath = "../words.txt"\n'
    (served.folder / "sub" / "words.toml").write_text(recipe)
    served.recipe(WORDS)
    for command in (("check",), ("ingest",), ("schedule", "--interval", "1h")):
        line = served.refused(command[0], "sub/words.toml", *command[1:])
        assert "'../words.txt' leads to" in line
        assert f"outside of the recipe's folder {served.folder / 'sub'}" in line
        assert "--trust" in line
    assert served("check", "sub/words.toml", "--trust").returncode == 0
    done = served("ingest", "sub/words.toml", "--trust", "--runner", "processes")
    assert (done.returncode, done.stdout.splitlines()[0][:19]) == (0, "words@1: 3 samples "), done.stderr
