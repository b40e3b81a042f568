"""The claims about texts: every row can be built, and all of them hold on a real text."""

from pathlib import Path

import pytest

from stoker.storage.stores.memory import MemoryStore
from stoker.training.run.options import parse_options
from stoker.training.studies.claims.text_claims import text_claims
from stoker.training.studies.study import study
from tests.training import corpora


@pytest.mark.parametrize("quick", [True, False])
def test_every_row_is_one_that_can_be_measured(quick: bool) -> None:
    claims = text_claims({"train": 1_000_000, "test": 100_000}, quick=quick)
    rows = {row.name: row for claim in claims for row in claim.rows}
    assert all(row == rows[row.name] for claim in claims for row in claim.rows)
    for row in rows.values():
        if row.method == "lstm":
            parse_options("lstm", {**row.options, **row.training})
        else:
            assert 1 <= row.options["order"] <= 9
    for claim in claims:
        names = {row.name for row in claim.rows}
        assert all({expect.row, expect.other} - {""} <= names for expect in claim.expects)


@pytest.mark.parametrize(
    ("train", "copied", "quick", "reason"),
    [
        (5_000_000, 0.39, False, "39% of the held-out text is in the training text word for word"),
        (300_000, 0.0, False, "2,000,000 bytes to train on; there are 300,000"),
        (5_000_000, 0.0, True, "it takes a full study"),
        (5_000_000, 0.001, False, ""),
    ],
)
def test_long_n_grams_are_compared_where_the_text_is_new_and_long(
    train: int, copied: float, quick: bool, reason: str
) -> None:
    claims = {claim.name: claim for claim in text_claims({"train": train, "copied": copied}, quick=quick)}
    claim = claims["counts"]
    assert reason in claim.inapplicable
    assert bool(claim.inapplicable) is bool(reason)
    assert {expect.other for expect in claim.expects} == (set() if reason else {"5-gram", "7-gram", "9-gram"})
    assert {row.name for row in claim.rows} == (set() if reason else {"5-gram", "7-gram", "9-gram", "LSTM, Muon"})


@pytest.mark.nightly
def test_every_claim_holds_on_the_handbook_of_python_in_minutes(tmp_path: Path) -> None:
    store, topics = MemoryStore(), corpora.texts()
    splits = {"train": [topic for number, topic in enumerate(topics) if number % 5], "validation": topics[::5]}
    manifest = corpora.version(store, tmp_path, splits, corpus="handbook", per_shard=50)
    found = study(store, manifest, quick=True, cache=tmp_path / "cache")
    verdicts = {claim["name"]: (claim["verdict"], claim["reason"]) for claim in found.claims}
    verdict, reason = verdicts.pop("counts")
    assert verdict == "not applicable"
    assert "word for word" in reason  # chapters of the handbook quote each other
    assert [(name, *found) for name, found in verdicts.items() if found[0] != "held"] == []
