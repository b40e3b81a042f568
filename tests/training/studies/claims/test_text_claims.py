"""The claims about texts: every row can be built."""

import pytest

from stoker.training.run.options import parse_options
from stoker.training.studies.claims.text_claims import text_claims


@pytest.mark.parametrize("quick", [True, False])
def test_every_row_is_one_that_can_be_measured(quick: bool) -> None:
    claims = text_claims({"train": 1_000_000, "test": 100_000}, quick=quick)
    rows = {row.name: row for claim in claims for row in claim.rows}
    assert all(row == rows[row.name] for claim in claims for row in claim.rows)
    for row in rows.values():
        if row.method == "lstm":
            parse_options("lstm", {**row.options, **row.training})
        else:
            assert 1 <= row.options["order"] <= 7
    for claim in claims:
        names = {row.name for row in claim.rows}
        assert all({expect.row, expect.other} - {""} <= names for expect in claim.expects)
