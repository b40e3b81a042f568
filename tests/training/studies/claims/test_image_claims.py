"""The claims about images: every row can be built, and all of them hold on real digits."""

from pathlib import Path

import pytest

from stoker.storage.stores.memory import MemoryStore
from stoker.training.run.options import parse_options
from stoker.training.studies.claims.image_claims import image_claims
from stoker.training.studies.shallow import METHODS
from stoker.training.studies.study import study
from tests.training import corpora

ABOUT = {"train": 1400, "test": 400}
TESTED = 5  # every fifth digit


@pytest.mark.parametrize("quick", [True, False])
def test_every_row_is_one_that_can_be_measured(quick: bool) -> None:
    claims = image_claims(ABOUT, quick=quick)
    rows = {row.name: row for claim in claims for row in claim.rows}
    assert len(rows) >= 18
    assert all(row == rows[row.name] for claim in claims for row in claim.rows)  # one name, one row
    for row in rows.values():
        if row.method == "cnn":
            parse_options("cnn", {**row.options, **row.training})
        else:
            assert row.options["model"] in METHODS
    for claim in claims:
        names = {row.name for row in claim.rows}
        assert all({expect.row, expect.other} - {""} <= names for expect in claim.expects)
        assert claim.expects or claim.inapplicable


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", ["pretraining", "thousand", "depth-20", "depth-110", "depth-1001"])
def test_rows_that_are_to_fail_have_the_steps_and_the_rate_of_those_that_are_to_learn(name: str, quick: bool) -> None:
    claim = next(claim for claim in image_claims(ABOUT, quick=quick) if claim.name == name)
    assert len(claim.rows) > 1
    assert all(row.training == claim.rows[0].training for row in claim.rows)


@pytest.mark.parametrize("quick", [True, False])
def test_optimisers_are_compared_without_decay_which_means_another_thing_to_each(quick: bool) -> None:
    claim = next(claim for claim in image_claims(ABOUT, quick=quick) if claim.name == "optimisers")
    assert {row.training["weight_decay"] for row in claim.rows} == {0.0}
    assert len({row.training["max_steps"] for row in claim.rows}) == 1


def test_where_one_percent_is_too_few_to_learn_from_that_claim_does_not_apply() -> None:
    data = next(claim for claim in image_claims({"train": 150, "test": 50}, quick=True) if claim.name == "data")
    assert data.inapplicable.startswith("150 samples to train on")


@pytest.mark.nightly
def test_every_claim_holds_on_the_digits_of_scikit_learn_in_minutes(tmp_path: Path) -> None:
    store, digits = MemoryStore(), corpora.digits()
    train = [sample for number, sample in enumerate(digits) if number % TESTED]
    splits = {"train": train, "validation": digits[::TESTED]}
    manifest = corpora.version(store, tmp_path, splits, corpus="digits", per_shard=500)
    found = study(store, manifest, quick=True, cache=tmp_path / "cache")
    verdicts = {claim["name"]: (claim["verdict"], claim["reason"]) for claim in found.claims}
    assert [claim for claim in verdicts.items() if claim[1][0] not in ("held", "not applicable")] == []
    assert len(found.rows) >= 18
    spent = sum(run["cpu_s"] + run["test_cpu_s"] for row in found.rows for run in row["runs"])
    assert spent < 600  # on one core; two have six minutes
