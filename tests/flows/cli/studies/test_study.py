"""`stoker study` as people run it."""

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tests.flows.conftest import Cli

RECIPE = (
    'corpus = "digits"\n[source]\nname = "local_files"\nfiles = "digits"\nlabel = "folder"\n'
    "[splits]\ntrain = 60\nvalidation = 40\n"
)


@pytest.fixture
def digits(cli: Cli) -> Cli:
    """A corpus of 120 digits."""
    found = load_digits()
    for number, (pixels, digit) in enumerate(zip(found.images[:120], found.target, strict=False)):
        folder = cli.folder / "digits" / str(digit)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype(np.uint8)).save(folder / f"{number}.png")
    (cli.folder / "digits.toml").write_text(RECIPE)
    cli.ingest("digits.toml")
    return cli


def test_a_study_is_printed_kept_verified_and_not_measured_twice(digits: Cli) -> None:
    only = ("--only", "linear SVM", "--only", "random forest")
    done = digits("study", "digits", "--quick", *only)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("digits@1, quick study")
    assert "linear SVM" in done.stdout
    assert "not measured" not in done.stdout, "of claims that were not wanted nothing is said"
    rows = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    assert max(map(len, rows)) <= 80
    told = json.loads(digits("study", "digits", "--quick", *only, "--json").stdout)
    assert told["reference"] == "digits@1"
    by_name = {row["name"]: row for row in told["rows"]}
    assert set(by_name) == {"linear SVM", "random forest"}
    assert by_name["random forest"]["spread"] is not None
    assert told["verdicts"]["unfinished"] >= 1
    assert digits("verify", "digits").returncode == 0
    refused = digits("study", "digits", "--only", "no such")
    assert refused.returncode == 2
    assert "no claim or row is called 'no such'; there are claims " in refused.stderr
    assert "random forest" in refused.stderr
