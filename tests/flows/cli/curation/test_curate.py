"""`stoker curate` as people run it."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from stoker.flows.cli.curation import curate
from stoker.flows.report.terminal import Sheet
from stoker.pipelines.stages.views.trial import Example, RuleTrial, Trial
from tests.flows.conftest import Cli
from tests.system.old_store.inputs import picture

RECIPE = 'corpus = "notes"\n[source]\nname = "local_files"\nfiles = "notes/*.txt"\n'
TEXT = " ".join(f"word{number}" for number in range(60))


@pytest.fixture
def notes(cli: Cli) -> Cli:
    """A corpus of 12 texts, of which three are near each other."""
    folder = cli.folder / "notes"
    folder.mkdir()
    for number in range(9):
        Path(folder, f"{number}.txt").write_text(" ".join(f"own{number}x{place}" for place in range(60)))
    for number in range(3):
        Path(folder, f"near{number}.txt").write_text(f"{TEXT} {number}")
    (cli.folder / "notes.toml").write_text(RECIPE)
    cli.ingest("notes.toml")
    return cli


def test_rules_are_tried_and_then_decide_and_give_back_what_they_took(notes: Cli) -> None:
    near = ("--set", "near_duplicate_texts.similarity=0.8")
    before = notes.objects()
    tried = notes("curate", "notes", *near, "--dry-run")
    assert tried.returncode == 0, tried.stderr
    assert notes.objects() == before
    assert "near_duplicate 2" in tried.stdout
    assert "would leave   2" in tried.stdout
    assert "would come    0\n" in tried.stdout
    assert "the number: how similar it is to the sample that it is like; 1 is equal" in tried.stdout
    assert re.search(r"word\d+ …$", tried.stdout, re.MULTILINE)
    told = json.loads(notes("curate", "notes", *near, "--dry-run", "--json").stdout)
    assert (told["samples"], told["after"], told["leaving"], told["returning"]) == (12, 10, 2, 0)
    done = notes("curate", "notes", *near)
    assert done.stdout.splitlines()[0].startswith("notes@2: 10 samples")
    assert "2 left, 0 came" in done.stdout
    assert "write these rules into the recipe" in done.stderr
    assert notes("verify", "notes@2").returncode == 0
    (notes.folder / "notes.toml").write_text(f'{RECIPE}[[rules]]\nname = "near_duplicate_texts"\nsimilarity = 0.8\n')
    assert "nothing changed" in notes("ingest", "notes.toml").stderr
    tried = notes("curate", "notes", "--without", "near_duplicate_texts", "--dry-run")
    came = re.findall(r"comes into \w+; it was left out as near_duplicate, by near_duplicate_texts", tried.stdout)
    assert len(came) == 2
    assert len(re.findall(r"like \w+, which is in, too$", tried.stdout, re.MULTILINE)) == 2
    assert "would come    2 that notes@2 left out" in tried.stdout
    back = json.loads(notes("curate", "notes", "--without", "near_duplicate_texts", "--json").stdout)
    assert (back["reference"], back["samples"], back["left"], back["came"]) == ("notes@3", 12, 0, 2)


def test_examples_of_what_rules_would_take_are_shown_on_a_page(notes: Cli) -> None:
    near = ("curate", "notes", "--set", "near_duplicate_texts.similarity=0.8", "--dry-run", "--page", "tried.html")
    done = notes(*near)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == "page: tried.html"
    text = (notes.folder / "tried.html").read_text()
    (rule,) = [one for one in json.loads(notes(*near[:-2], "--json").stdout)["rules"] if one["worst"]]
    for example in rule["worst"]:
        assert f">{example['key']}</b>leaves {example['before']}: near_duplicate, by near_duplicate_texts, " in text
        assert f'similarity {example["similarity"]:.3f}<br>like <span dir="auto">{example["witness"]}</span>, ' in text
        assert (example["stays"], example["after"]) == (example["witness"], "")
    assert "word1 word2" in text
    assert not re.search(r"<script|https?://|url\(", text)
    assert "exists already" in notes(*near).stderr
    assert "give both" in notes("curate", "notes", "--page", "other.html").stderr


def test_pictures_of_what_rules_would_take_are_on_the_page(cli: Cli) -> None:
    (cli.folder / "pictures").mkdir()
    for number in range(3):
        (cli.folder / "pictures" / f"{number}.jpg").write_bytes(picture(number))
        (cli.folder / "pictures" / f"{number}-again.jpg").write_bytes(picture(number))
    (cli.folder / "p.toml").write_text('corpus = "p"\n[source]\nname = "local_files"\nfiles = "pictures/*.jpg"\n')
    cli.ingest("p.toml")
    done = cli("curate", "p", "--set", "exact_duplicates", "--dry-run", "--page", "tried.html")
    assert done.returncode == 0, done.stderr
    text = (cli.folder / "tried.html").read_text()
    assert text.count('src="data:image/png;base64,') == text.count("<img ") == 6  # three, each beside what stays
    assert (text.count('<figure class="goes">'), text.count('<figure class="stays">')) == (3, 3)
    assert (text.count("<figcaption>dropped: exact_duplicate<"), text.count("<figcaption>stays<")) == (3, 3)


def test_samples_that_change_their_split_neither_leave_nor_come(notes: Cli) -> None:
    (notes.folder / "notes.toml").write_text(f"{RECIPE}[splits]\ntrain = 10\ntest = 90\n")
    tried = notes("curate", "notes.toml", "--resplit", "--dry-run")
    ran = notes("curate", "notes.toml", "--resplit", "--json")
    assert ran.returncode == 0, ran.stderr
    done = json.loads(ran.stdout)
    assert (done["samples"], done["left"], done["came"]) == (12, 0, 0)
    assert done["moved"] > 0
    assert notes("verify", "notes").returncode == 0  # validation, a split that the recipe has no more, is masked
    assert f"would move    {done['moved']} to another split" in tried.stdout
    assert re.search(r"moves from \w+ to test", tried.stdout)
    assert re.search(r"^  moves  \w+$", tried.stdout, re.MULTILINE)


def test_a_terminal_of_80_columns_cuts_nothing() -> None:
    key, witness, stays = ("0123456789abcdef-" + letter * 32 for letter in "abc")
    example = Example(
        key, "label_conflict", "near_duplicate_texts", witness, 0.9, stays, "train", "", {}, "word " * 30, {}
    )
    rule = RuleTrial(
        "a_rule_of_a_package_with_a_long_name",
        {"near_duplicate": 12345, "label_conflict": 678},
        9,
        10,
        0,
        (example,),
        (),
    )
    elders = RuleTrial("elders", {}, 0, 0, 7, (), ())
    tried = Trial("c@1", 10, 9, 1, 0, 0, (rule, elders), (), (("train", 100.0, 100.0),), (), ())
    written = io.StringIO()
    curate.print_trial(tried, Sheet(Console(file=written, force_terminal=True, width=80, color_system=None)))
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    text = "".join("".join(lines).split())  # what is wrapped is whole
    for part in (key, f"like {witness}, which goes, too", f"stays: {stays}", "label_conflict 678", rule.rule):
        assert part.replace(" ", "") in text
    assert "…" not in text
    assert "keepthesplitofearlierversions,whichisnotthatoftheirgroup'sname:7" in text
    assert "elders" not in text


def test_rules_of_one_name_are_told_as_one_and_not_set(notes: Cli) -> None:
    names = [f'[[rules]]\nname = "where"\nwhere = "url != \'file:{file}.txt\'"\n' for file in range(2)]
    (notes.folder / "notes.toml").write_text(RECIPE + "".join(names))
    told = json.loads(notes("curate", "notes.toml", "--dry-run", "--json").stdout)
    (where,) = [rule for rule in told["rules"] if rule["rule"] == "where"]
    assert (where["dropped"], where["alone"]) == ({"not_wanted": 2}, 2)
    assert "there are 2 rules where" in notes("curate", "notes.toml", "--set", "where.reason=other").stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("notes", "--set", "near_duplicate_texts.similarity=7"), "less than or equal to 1, found 7"),
        (("notes", "--set", "=7"), "expected RULE.OPTION=VALUE"),
        (("notes", "--set", "no_such_rule"), "no_such_rule"),
        (("notes", "--without", "exact_duplicates"), "the recipe has no such rule"),
        (("notes@1",), "name the corpus, 'notes'"),
        (("other",), "no corpus is called 'other'"),
        (("other.toml",), "no such file"),
    ],
)
def test_what_is_wrong_is_one_line_and_makes_no_version(notes: Cli, words: tuple[str, ...], said: str) -> None:
    before = notes.objects()
    done = notes("curate", *words)
    assert done.returncode in (1, 2)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("stoker: ")]
    assert said in line
    assert "Traceback" not in done.stderr
    assert notes.objects() == before
