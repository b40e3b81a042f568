"""What was fetched of candidates that are asked for again: by it a source asks whether they have changed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter

import pyarrow as pa

from stoker.pipelines.memory.known import Moment
from stoker.pipelines.memory.originals import Original
from stoker.pipelines.rejected import OutcomeClass
from stoker.pipelines.source import Listed
from stoker.pipelines.stages.remembering.outcomes import Row, identity_in
from stoker.pipelines.web.measured import as_payload, original_in
from stoker.pipelines.web.policy import EarlierResponse
from stoker.pipelines.web.validators import Validators
from stoker.storage.versions.memory import outcomes
from stoker.storage.versions.memory.outcome_class import GONE, KEPT
from stoker.storage.versions.memory.outcomes import Outcome

_MAX_PARTS = 64  # whose records are held: candidates of one partition lie in few of them


@dataclass(frozen=True)
class AskedAgain:
    """How many candidates are asked whether they have changed, and how many of them the server gave nothing to ask by.

    And how many are made anew of their originals. False where there is nothing to say.

    >>> str(AskedAgain(12, 2))
    'asked again whether they have changed: 12; without ETag or Last-Modified, so that each costs its bytes: 2'
    >>> str(AskedAgain(originals=7)), bool(AskedAgain())
    ('made anew of the originals, without a request: 7', False)
    """

    earlier: int = 0
    without_validators: int = 0
    originals: int = 0

    def __bool__(self) -> bool:
        return bool(self.earlier or self.originals)

    def add(self, payload: Mapping[str, Sequence[str]]) -> "AskedAgain":
        """With those of a partition."""
        without = sum(not (etag or last_modified) for etag, last_modified, *_ in payload.values())
        return AskedAgain(self.earlier + len(payload), self.without_validators + without, self.originals)

    def __str__(self) -> str:
        without = f"; without ETag or Last-Modified, so that each costs its bytes: {self.without_validators:,}"
        asked = f"asked again whether they have changed: {self.earlier:,}"
        asked += without if self.without_validators else ""
        made = f"made anew of the originals, without a request: {self.originals:,}"
        return "; ".join([asked] * bool(self.earlier) + [made] * bool(self.originals))


@dataclass(frozen=True)
class Responses:
    """The responses of before, of candidates that are asked for again.

    Args:
        outcomes: by identity, the one that says what the candidate is, with the validators that were given last.
        rows: the records of a raw part, by its digest.
        remade: the same of those that are asked for because another recipe made or rejected them.
    """

    outcomes: Mapping[str, Outcome]
    rows: Callable[[str], list[Row]]
    remade: Mapping[str, Outcome] = field(default_factory=dict)

    @classmethod
    def of(
        cls, table: pa.Table, moment: Moment, rows: Callable[[str], list[Row]], *, drops_gone: bool = False
    ) -> "Responses":
        """Those in a table of outcomes that still say what a candidate would be, were its bytes the same.

        ``drops_gone``: what the server has no more leaves the corpus, so that its original does not bring it back.
        """
        found: dict[str, Outcome] = {}
        last: dict[str, Outcome] = {}
        remade: dict[str, Outcome] = {}
        for one in outcomes.from_table(outcomes.merge(table)):
            last[one.id] = one  # the newest attempt comes last
            if one.definite and _is_of_bytes(one, moment):
                found[one.id] = one
            if one.definite and _is_of_recipe(one, moment):
                remade[one.id] = one
        for identity in found:
            newest = last[identity]
            if newest.kind == KEPT:
                found[identity] = newest
        if drops_gone:
            remade = {identity: one for identity, one in remade.items() if last[identity].reason != GONE}
        return cls(found, lru_cache(_MAX_PARTS)(rows), remade)

    def of_partition(self, stamps: Mapping[str, str | None]) -> dict[str, list[str]]:
        """What a partition's payload says of its candidates; ``stamps`` are those of its list as it is now.

        Nothing of those of which the list says other things than before: their record is made anew in any case.
        """
        told = {}
        for identity, stamp in stamps.items():
            one = self._find(identity, stamp)
            row = {} if one is None else self._row(one)
            if one is not None and row.get("final_url") and row.get("sha256"):
                validators = Validators(one.etag or "", one.last_modified or "")
                told[identity] = as_payload(EarlierResponse(validators, row["final_url"], row["sha256"]))
        return told

    def originals_of_partition(self, identities: Iterable[str]) -> dict[str, Original]:
        """The originals that candidates of a partition are made anew of."""
        found = ((identity, self.remade[identity]) for identity in identities if identity in self.remade)
        originals = ((identity, original_in(self._row(one))) for identity, one in found)
        return {identity: original for identity, original in originals if original is not None}

    def _row(self, one: Outcome) -> Row:
        """The record that an outcome is of; {} if it is not there."""
        rows = self.rows(one.part) if one.part is not None and one.row is not None else []
        row = rows[one.row] if one.row is not None and one.row < len(rows) else {}
        return row if row and identity_in(row) == one.id else {}

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


def _is_of_recipe(one: Outcome, moment: Moment) -> bool:
    """Whether the same bytes may come to another outcome, because the recipe is another one."""
    if one.recipe == moment.recipe or moment.again.includes(one.kind, one.reason):
        return False
    return one.kind == OutcomeClass.RECIPE or (one.kind == KEPT and moment.again.older_recipe)
