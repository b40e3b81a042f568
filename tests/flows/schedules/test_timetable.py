"""The times of schedules: five fields of cron that come, zones, intervals."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from stoker.flows.schedules.timetable import check_cron, parse_interval, parse_timetable
from stoker.pipelines.errors import RecipeError

FEW = some.lists(
    some.one_of(
        some.sampled_from(["*", "*/2", "*/015", "*/99"]),
        some.integers(-1, 70).map(str),
        some.tuples(some.integers(0, 40), some.integers(0, 60)).map(lambda ends: f"{ends[0]}-{ends[1]}"),
        some.tuples(some.integers(0, 40), some.integers(0, 60)).map(lambda ends: f"{ends[0]}-{ends[1]}/3"),
        some.sampled_from(["mon", "Jan", "feb", "SUN", "tue-fri", "L", "?", "", "2#1", "5/2", "@daily"]),
    ),
    min_size=1,
    max_size=2,
).map(",".join)


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("at three", "found 2 fields, expected five fields (minute hour day month weekday)"),
        ("0 3 * * * *", "found 6 fields"),
        ("@reboot", "found one field"),
        ("", "found 0 fields"),
        ("0 25 * * *", "hour '25': expected 0 to 23"),
        ("60 * * * *", "minute '60': expected 0 to 59"),
        ("* * 0 * *", "day '0': expected 1 to 31"),
        ("* * * 13 *", "month '13': expected 1 to 12 or jan to dec"),
        ("* * * * 8", "weekday '8': expected 0 to 7 or sun to sat"),
        ("5-1 * * * *", "minute '5-1': the range ends before it begins"),
        ("*/0 * * * *", "minute '*/0': expected"),
        ("*/00 * * * *", "minute '*/00': expected"),
        ("0-9/100 * * * *", "minute '0-9/100': expected"),
        ("5/2 * * * *", "minute '5/2': expected"),
        ("*,, * * * *", "minute '': expected"),
        ("0 3 L * *", "day 'L': expected 1 to 31"),
        ("0 3 * * 2#1", "weekday '2#1': expected"),
        ("0 3 31 2 *", "never comes: no month 2 has a day 31"),
        ("0 3 31 feb,4,jun */2", "never comes"),
        ("\N{ARABIC-INDIC DIGIT ONE} 3 * * *", "minute"),
    ],
)
def test_a_line_that_cannot_be_is_refused(cron: str, message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        check_cron(cron)
    assert str(refused.value).startswith(f"cron {cron!r}: ")
    assert message in str(refused.value)


@given(some.lists(FEW, min_size=5, max_size=5).map(" ".join))
def test_what_is_accepted_comes_as_prefect_reads_it(cron: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.server.schemas.schedules import CronSchedule as Served

    try:
        check_cron(cron)
    except RecipeError:
        return
    assert CronSchedule(cron=cron).cron == cron
    (first,) = Served(cron=cron)._get_dates_generator(n=1, start=datetime(2026, 1, 1, tzinfo=UTC))
    assert first.year <= 2032


@pytest.mark.parametrize("cron", ["0 3 29 2 *", "0 3 31 2 mon", "0 3 31 1,2 *", "*/5 0-23/2 1,15 jan-jun,12 sun,7"])
def test_what_comes_seldom_is_accepted(cron: str) -> None:
    check_cron(cron)


@pytest.mark.parametrize("text", ["", "0s", "-5m", "9999d", "1w", "every day", "1.5.2h", "nan"])
def test_a_wrong_interval_is_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="expected 1s to 366d"):
        parse_interval(text)


def test_a_timetable_is_said_in_words() -> None:
    assert str(parse_timetable(cron="0  3 * * *", timezone="Europe/Berlin")) == "0 3 * * * (Europe/Berlin)"
    assert str(parse_timetable(interval="90s")) == "every 90 s"
    assert str(parse_timetable(interval="5")) == "every 5 s"
    assert str(parse_timetable(interval="6h")) == "every 6 h"


@pytest.mark.parametrize("name", ["Berlin", "", "/etc/passwd", "../UTC", "Europe"])
def test_an_unknown_time_zone_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="unknown; expected a name such as Europe/Berlin"):
        parse_timetable(cron="0 3 * * *", timezone=name)
