"""What versions of before tell of a candidate that a version does not know any more, and why it does not.

Price: the lookups of these versions are asked; where they have none, the records of all their raw parts are read, once.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stoker.pipelines.memory.identity import identity_of
from stoker.pipelines.stages.remembering.attempts import find_attempts
from stoker.pipelines.stages.why import Lineage, Search, find_lineages, matches
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.shards.kinds import RECORDS
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog
from stoker.storage.versions.lookups.finding import Finder
from stoker.storage.versions.manifest import Manifest, Part, load_manifest
from stoker.storage.versions.memory.ledger import newest_head
from stoker.storage.versions.memory.outcome_class import VANISHED
from stoker.storage.versions.verified import verified_table


@dataclass(frozen=True, slots=True)
class Former:
    """A candidate that other versions know.

    Args:
        versions: which ones, oldest first.
        lineage: what became of it in the last of them.
        because: why the version that was asked for does not know it; a clause.
    """

    versions: tuple[int, ...]
    lineage: Lineage
    because: str

    def to_json(self) -> dict[str, Any]:  # Any: JSON, Parquet values
        """As the API writes it."""
        return {"versions": list(self.versions), "because": self.because, "story": self.lineage.to_json()}


def find_former(store: Store, manifest: Manifest, text: str, finder: Finder | None = None) -> Former | None:
    """What other versions tell of the candidate that a text names; None if none does. Raises StorageError.

    ``finder``: of a search in the version itself, if there was one.
    """
    finder = finder or Finder(store)
    found: list[tuple[Manifest, Lineage]] = []
    holding: dict[str, bool] = {}  # by raw part: whether it has the candidate
    for other in _others(store, manifest):
        may_hold = finder.may_hold(other, text)
        parts = [part for part in other.parts if may_hold(part.records)]
        for part in parts:
            if part.digest not in holding:
                holding[part.digest] = _holds(store, part, text)
        if any(holding[part.digest] for part in parts):
            with suppress(CorruptShard, NotFound):
                found += [(other, lineage) for lineage in Search(store, other, finder).lineages(text, most=1)]
    if not found:
        return None
    last, lineage = found[-1]
    return Former(tuple(other.version for other, _ in found), lineage, _because(store, manifest, last, lineage))


def _holds(store: Store, part: Part, text: str) -> bool:
    """Whether a raw part has the candidate; not if it is damaged or gone."""
    with suppress(CorruptShard, NotFound):
        table = verified_table(store, part.records, RECORDS, sha256=part.records_sha256)
        return next(matches(table, text), None) is not None
    return False


def _others(store: Store, manifest: Manifest) -> Iterator[Manifest]:
    """The other versions of a corpus that can be read, oldest first."""
    for number in catalog.versions(store, manifest.corpus):
        if number == manifest.version:
            continue
        try:
            other = load_manifest(store, manifest.corpus, number).read_lists()
        except (CorruptShard, NotFound):
            continue
        if not other.is_indexed:
            yield other


def _because(store: Store, manifest: Manifest, last: Manifest, lineage: Lineage) -> str:
    if lineage.withdrawn:
        return f"it was taken out of the corpus on {lineage.withdrawn}"
    if last.version > manifest.version:
        return "its source offered it later"
    if content := lineage.record.get("content_sha256"):
        for now in find_lineages(store, manifest, str(content), most=1):
            if now.state == "kept":
                return f"its content is there under the key {now.key}"
            return f"its content is there as {now.key}, {now.state} as {now.reason} by {now.rejected_by}"
    head = newest_head(store, manifest.corpus)
    attempts = find_attempts(store, head, *identity_of(lineage.record)).made if head else ()
    if attempts and attempts[-1].reason == "moved":
        return f"it lies under another name, {attempts[-1].detail}"
    if attempts and attempts[-1].reason == VANISHED:
        return f"its source has it no more, seen first on {attempts[-1].at:%Y-%m-%d}"
    before, source = (str(one.recipe.get("source", {}).get("name")) for one in (last, manifest))
    if before != source:
        return f"the recipe's source is {source} now, and was {before}"
    if last.recipe != manifest.recipe:
        return "the recipe has changed since, and its source did not offer it then"
    return "its source did not offer it any more"
