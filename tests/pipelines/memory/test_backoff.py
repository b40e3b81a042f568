"""When a rejected candidate is asked for again."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.memory.backoff import next_try
from stoker.pipelines.rejected import REASONS, OutcomeClass

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
OF_TIME = (OutcomeClass.MOMENT, OutcomeClass.SLOW_MOMENT)
NIGHT = timedelta(days=1)


@given(st.sampled_from(OF_TIME), st.sampled_from(sorted(REASONS)), st.integers(1, 10**9), MOMENTS)
def test_waits_grow_with_each_try_up_to_a_month(kind: OutcomeClass, reason: str, tries: int, last: datetime) -> None:
    first, second = next_try(kind, reason, tries, last).at, next_try(kind, reason, tries + 1, last).at
    assert first is not None
    assert second is not None
    assert last <= first <= second <= last + timedelta(days=30)
    assert (first - last == timedelta(days=30)) == (first == second)


@given(st.sampled_from(sorted(REASONS)), st.integers(1, 10**9), MOMENTS)
def test_what_a_server_refuses_waits_longer_than_a_fault(reason: str, tries: int, last: datetime) -> None:
    quick, slow = (next_try(kind, reason, tries, last).at for kind in OF_TIME)
    assert quick is not None
    assert slow is not None
    assert slow >= quick
    assert slow >= last + timedelta(days=7)


@given(st.sampled_from(list(OutcomeClass)), st.sampled_from(sorted(REASONS)), st.integers(1, 99), MOMENTS)
def test_what_does_not_depend_on_time_says_what_it_depends_on(
    kind: OutcomeClass, reason: str, tries: int, last: datetime
) -> None:
    due = next_try(kind, reason, tries, last)
    assert (due.at is None) == (kind not in OF_TIME)
    assert due.at is not None or due.depends_on == kind.depends_on


def test_a_link_that_is_dead_for_a_year_is_asked_for_a_few_times() -> None:
    """One run a night, as a schedule makes them."""
    begin = datetime(2026, 1, 1, 2, tzinfo=UTC)
    asked, last = [0], begin
    for night in range(1, 365):
        due = next_try(OutcomeClass.MOMENT, "gone", len(asked), last).at
        assert due is not None
        if due <= begin + night * NIGHT:
            asked.append(night)
            last = begin + night * NIGHT
    assert asked[:8] == [0, 1, 2, 4, 8, 16, 32, 62]
    assert len(asked) == 18


def test_a_refusal_of_robots_is_also_due_when_that_file_changes() -> None:
    last = datetime(2026, 1, 1, tzinfo=UTC)
    assert next_try(OutcomeClass.SLOW_MOMENT, "robots", 1, last).depends_on == "its host's robots.txt"
    assert next_try(OutcomeClass.SLOW_MOMENT, "forbidden", 1, last).depends_on == ""


def test_without_an_attempt_there_is_no_next_one() -> None:
    with pytest.raises(ValueError, match="0 tries: expected 1 or more"):
        next_try(OutcomeClass.MOMENT, "gone", 0, datetime(2026, 1, 1, tzinfo=UTC))
