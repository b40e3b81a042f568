"""`stoker evaluate` through the real command line."""

import io
import json

from rich.console import Console

from stoker.flows.cli.models.evaluate import _print_classes
from stoker.flows.report.terminal import Sheet
from tests.flows.conftest import Cli


def test_a_person_gets_tables_and_is_told_of_other_classes(trained: Cli) -> None:
    done = trained("evaluate", "cnn", "others")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "digits/cnn-0001 on others@1, split test   step 10, trained on digits@1"
    for heading in ("Recall by class", "Confusion: rows are the class, columns what the model said"):
        assert heading in lines
    assert max(map(len, lines)) <= 80
    assert "classes of others@1 that the model does not know, left out: x" in done.stderr
    assert "digits/runs/cnn-0001/evaluations/others@1-test-000000010.json" in done.stderr


def test_a_program_gets_one_document(trained: Cli) -> None:
    done = trained("evaluate", "digits/cnn-0001", "digits@1", "--checkpoint", "last", "--json", "-q")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["run"], found["corpus"], found["reference"]) == ("cnn-0001", "digits", "digits@1")
    assert found["metrics"]["samples"] == 50
    assert len(found["metrics"]["confusion"]) == len(found["metrics"]["classes"]) == 10
    assert set(found["metrics"]["wrong"][0]) == {"key", "expected", "predicted", "probability"}


def test_of_many_classes_a_person_sees_recall_and_the_pairs() -> None:
    text = io.StringIO()
    metrics = {"recall": {"cat": 0.25, "dog": 1.0}, "confused": [["cat", "dog", 12]], "wrong": []}
    _print_classes(Sheet(Console(file=text, width=80)), ["cat", "dog", "owl"], metrics, width=80)
    words = text.getvalue().split()
    assert " ".join(words).startswith("Recall by class class recall cat 25 %")
    assert " ".join(words).endswith("Taken for another class, most often class taken for samples cat dog 12")


def test_what_is_wrong_is_one_line(trained: Cli) -> None:
    for words, expected in (
        (("cnm-0001", "digits"), "did you mean 'cnn-0001'?"),
        (("cnn", "digit"), "did you mean 'digits'?"),
        (("cnn", "digits", "--split", "test"), "its splits: train (150), validation (50)"),
        (("cnn", "digits", "--device", "tpu"), "device 'tpu'"),
        (("cnn", "digits", "--skip-budget", "many"), "option skip_budget = 'many'"),
    ):
        done = trained("evaluate", *words, "-q")
        assert (done.returncode, done.stdout) == (1, "")
        assert len(done.stderr.splitlines()) == 1
        assert expected in done.stderr
