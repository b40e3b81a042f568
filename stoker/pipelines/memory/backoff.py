"""When a rejected candidate is worth another try.

What depends on the moment is asked again after waits that double (exponential back-off), so that a site that heals is
found within days, and a dead link costs one request a month. What depends on anything else has no date: it waits for
that to change.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from stoker.pipelines.rejected import OutcomeClass

# Days from the last attempt to the next, by how many in a row failed; the last holds from there on. 0: the next run.
_DAYS = {OutcomeClass.MOMENT: (0, 1, 2, 4, 8, 16, 30), OutcomeClass.SLOW_MOMENT: (7, 14, 30)}


@dataclass(frozen=True, slots=True)
class NextTry:
    """When a candidate is due again, and what else makes it so.

    Args:
        at: a run from then on tries again; None: time alone changes nothing.
        depends_on: what makes it due at once when it changes, in plain words; "" if nothing does.
    """

    at: datetime | None
    depends_on: str


def next_try(outcome_class: OutcomeClass, reason: str, tries: int, last_attempt: datetime) -> NextTry:
    """When to try again after ``tries`` attempts in a row that ended in this class, the last at ``last_attempt``.

    >>> from datetime import UTC
    >>> monday = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)
    >>> [(next_try(OutcomeClass.MOMENT, "gone", tries, monday).at - monday).days for tries in (1, 2, 3, 10)]
    [0, 1, 2, 30]
    >>> next_try(OutcomeClass.RECIPE, "too_small", 1, monday)
    NextTry(at=None, depends_on='the recipe')
    """
    if tries < 1:
        raise ValueError(f"{tries} tries: expected 1 or more, as there was an attempt")
    days = _DAYS.get(outcome_class)
    if days is None:
        return NextTry(None, outcome_class.depends_on)
    at = last_attempt + timedelta(days=days[min(tries, len(days)) - 1])
    return NextTry(at, "its host's robots.txt" if reason == "robots" else "")
