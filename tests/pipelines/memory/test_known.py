"""What is known of candidates: which are due, told from all rows or from those alone that matter."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.memory.known import COLUMNS, COLUMNS_OF_INTEREST, Known, Moment, hashes_of_interest
from stoker.storage.versions.memory.outcomes import Outcome, to_table

START = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = [("kept", None), ("moment", "gone"), ("recipe", "too_small"), ("setting", "too_large"), ("bytes", "corrupt")]


def outcome(identity: str, kind: tuple[str, str | None], day: int, tries: int, recipe: str | None) -> Outcome:
    return Outcome(
        source="list",
        id=identity,
        definite=kind[0] in ("kept", "recipe", "bytes"),
        kind=kind[0],
        reason=kind[1],
        at=START + timedelta(days=day),
        tries=tries,
        recipe=recipe,
        setting="one",
        stamp="",
        part="p",
    )


OUTCOMES = st.builds(
    outcome,
    st.sampled_from("abcdef"),
    st.sampled_from(KINDS),
    st.integers(0, 20),
    st.integers(1, 5),
    st.sampled_from(["new", "new", "new", "old", None]),
)


@given(st.lists(OUTCOMES, max_size=12), st.integers(0, 40), st.sampled_from(["one", "other"]))
def test_the_rows_of_interest_tell_what_all_rows_tell(told: list[Outcome], day: int, setting: str) -> None:
    table = to_table(told)
    moment = Moment(START + timedelta(days=day), setting, "new")
    hashes = set(hashes_of_interest(table.select(COLUMNS_OF_INTEREST), moment).tolist())
    some = to_table(one for one in told if to_table([one])["hash"][0].as_py() in hashes)
    every, few = (Known("list", [one.select(COLUMNS)], moment, lambda rows: rows) for one in (table, some))
    assert (few.nothing_due, few.made_by_older) == (every.nothing_due, every.made_by_older)
