"""What was fetched of candidates that are asked for again: by it a source asks whether they have changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter

import pyarrow as pa

from stoker.pipelines.memory.known import Moment
from stoker.pipelines.rejected import OutcomeClass
from stoker.pipelines.source import Listed
from stoker.pipelines.stages.remembering.outcomes import Row, identity_in
from stoker.pipelines.web.measured import as_payload
from stoker.pipelines.web.policy import EarlierResponse
from stoker.pipelines.web.validators import Validators
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.outcome_class import KEPT
from stoker.storage.versions.memory.outcomes import Outcome

_MAX_PARTS = 64  # whose records are held: candidates of one partition lie in few of them


@dataclass(frozen=True)
class AskedAgain:
    """How many candidates are asked whether they have changed, and how many of them the server gave nothing to ask by.

    >>> str(AskedAgain(12, 2))
    'asked again whether they have changed: 12; without ETag or Last-Modified, so that each costs its bytes: 2'
    """

    earlier: int = 0
    without_validators: int = 0

    def add(self, payload: Mapping[str, Sequence[str]]) -> "AskedAgain":
        """With those of a partition."""
        without = sum(not (etag or last_modified) for etag, last_modified, *_ in payload.values())
        return AskedAgain(self.earlier + len(payload), self.without_validators + without)

    def __str__(self) -> str:
        without = f"; without ETag or Last-Modified, so that each costs its bytes: {self.without_validators:,}"
        asked = f"asked again whether they have changed: {self.earlier:,}"
        return asked + (without if self.without_validators else "")


@dataclass(frozen=True)
class Responses:
    """The responses of before, of candidates that are asked for again.

    Args:
        outcomes: by identity, the one that says what the candidate is, with the validators that were given last.
        rows: the records of a raw part, by its digest.
    """

    outcomes: Mapping[str, Outcome]
    rows: Callable[[str], list[Row]]

    @classmethod
    def of(cls, table: pa.Table, moment: Moment, rows: Callable[[str], list[Row]]) -> "Responses":
        """Those in a table of outcomes that still say what a candidate would be, were its bytes the same."""
        found: dict[str, Outcome] = {}
        last: dict[str, Outcome] = {}
        for one in outcomes.from_table(outcomes.merge(table)):
            last[one.id] = one  # the newest attempt comes last
            if one.definite and _is_of_bytes(one, moment):
                found[one.id] = one
        for identity in found:
            newest = last[identity]
            if newest.kind == KEPT:
                found[identity] = newest
        return cls(found, lru_cache(_MAX_PARTS)(rows))

    def of_partition(self, stamps: Mapping[str, str | None]) -> dict[str, list[str]]:
        """What a partition's payload says of its candidates; ``stamps`` are those of its list as it is now.

        Nothing of those of which the list says other things than before: their record is made anew in any case.
        """
        told = {}
        for identity, stamp in stamps.items():
            one = self._find(identity, stamp)
            if one is None or one.part is None or one.row is None:
                continue
            rows = self.rows(one.part)
            row = rows[one.row] if one.row < len(rows) else {}
            if row and identity_in(row) == identity and row.get("final_url") and row.get("sha256"):
                validators = Validators(one.etag or "", one.last_modified or "")
                told[identity] = as_payload(EarlierResponse(validators, row["final_url"], row["sha256"]))
        return told

    def by_age(self, asked: Sequence[Listed]) -> tuple[list[Listed], int]:
        """Candidates in the order in which a budget is spent, and how many it is spent for.

        First those that cost it nothing, then those of which there is a response, the longest not seen before others.
        """
        found = [(one, self._find(one.identity, one.stamp)) for one in asked]
        free = [one for one, before in found if before is None]
        costly = sorted(((one, before.at) for one, before in found if before is not None), key=itemgetter(1))
        return [*free, *(one for one, _ in costly)], len(costly)

    def _find(self, identity: str, stamp: str | None) -> Outcome | None:
        one = self.outcomes.get(identity)
        return None if one is None or one.stamp not in (None, stamp) else one


def _is_of_bytes(one: Outcome, moment: Moment) -> bool:
    """Whether the same bytes would come to the same outcome: it is kept, or was rejected for what its bytes are."""
    if one.recipe != moment.recipe or moment.again.includes(one.kind, one.reason):
        return False
    return one.kind in (KEPT, OutcomeClass.BYTES)
