"""`stoker gc`: list the objects in the store that nothing needs (orphans); with --delete, remove them."""

import math
import re
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from rich.console import Console

from stoker.flows import logs
from stoker.flows.cli.output import print_json
from stoker.flows.report.format import size_text
from stoker.flows.report.terminal import Sheet
from stoker.flows.settings import UsageError
from stoker.flows.start import load_settings
from stoker.storage.errors import CorruptShard, NotFound
from stoker.storage.plural import plural
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog, orphans
from stoker.storage.versions.orphans import KINDS, PART, Orphan, ReferencedKeys
from stoker.storage.versions.work import CorpusBusy, gc_lease

_AGE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EXAMPLES = 3


@dataclass
class KindTotals:
    """Totals of the orphans of one kind in one corpus; the field names are those of --json."""

    kind: str
    objects: int = 0
    size: int = 0  # bytes
    young: int = 0  # objects that are too young to be removed
    free: int = 0  # bytes that may be removed
    gone: int = 0  # objects that were removed
    gone_size: int = 0  # bytes
    kept: bool = False  # True: never removed, however old, unless --raw asks for it
    oldest: float = math.inf  # seconds since 1970
    youngest: float = -math.inf
    examples: list[str] = field(default_factory=list)

    def add(self, orphan: Orphan, *, old: bool) -> None:
        """Count an orphan."""
        count = len(orphan.keys)
        self.objects += count
        self.size += orphan.size
        self.young += 0 if old else count
        self.free += orphan.size if old and not self.kept else 0
        self.oldest = min(self.oldest, orphan.modified)
        self.youngest = max(self.youngest, orphan.modified)
        if len(self.examples) < _EXAMPLES:
            self.examples.append(orphan.keys[0])

    def add_removed(self, orphan: Orphan) -> None:
        """Count an orphan that was removed."""
        self.gone += len(orphan.keys)
        self.gone_size += orphan.size


@dataclass
class CorpusOrphans:
    """The orphans of a corpus; ``corpus`` is "" for those that belong to no corpus."""

    corpus: str
    kinds: dict[str, KindTotals] = field(default_factory=dict)
    refused: str = ""  # why nothing, or not all, was removed

    def removable(self, listed: Iterable[Orphan], cutoff: float, *, raw: bool) -> Iterator[Orphan]:
        """Count all orphans, and yield those that may be removed."""
        for orphan in listed:
            totals = self.kinds.setdefault(orphan.kind, KindTotals(orphan.kind, kept=orphan.kind == PART and not raw))
            old = orphan.modified <= cutoff
            totals.add(orphan, old=old)
            if old and not totals.kept:
                yield orphan


def gc(arguments: Namespace) -> int:
    """Print the orphans, or remove them. Exit code 1 when the orphans of a corpus could not be removed."""
    older_than_s = seconds_of(arguments.older_than)
    store = load_settings(arguments).open_store(reading=True)
    referenced = ReferencedKeys(store)
    referenced.refresh()
    collected = [
        _collect(store, referenced, corpus, arguments, older_than_s) for corpus in _corpora(store, arguments.corpora)
    ]
    if not arguments.corpora:
        outside = _collect_outside_corpora(store, arguments, older_than_s)
        collected += [outside] if outside.kinds else []
    if arguments.json:
        print_json(_json(store, collected, arguments, older_than_s))
    else:
        _print(store, collected, arguments)
    for corpus in collected:
        if corpus.refused:
            logs.error(corpus.refused)
    return 1 if any(corpus.refused for corpus in collected) else 0


def seconds_of(text: str, option: str = "--older-than") -> float:
    """An age. Raises UsageError.

    >>> seconds_of("24h"), seconds_of("1.5m"), seconds_of("0s")
    (86400.0, 90.0, 0.0)
    """
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{option} {text}: expected an age like 90s, 30m, 24h or 7d")
    return float(match[1]) * _SECONDS[match[2]]


def _corpora(store: Store, names: list[str]) -> list[str]:
    """The corpora that were named; all if none was. Raises NotFound."""
    known = orphans.corpora(store)
    for name in names:
        if name in known:
            continue
        corpus, at, _ = name.partition("@")
        if at:
            raise NotFound(f"{name}: a version has no orphans of its own; name the corpus, {corpus!r}")
        raise NotFound(catalog.missing(store, catalog.parse_reference(name)[0]))
    return sorted(set(names)) or known


def _collect(
    store: Store, referenced: ReferencedKeys, corpus: str, arguments: Namespace, older_than_s: float
) -> CorpusOrphans:
    collected = CorpusOrphans(corpus)
    try:
        if not arguments.delete:
            listed = orphans.find(store, corpus, referenced.of(corpus))
            for _ in collected.removable(listed, time.time() - older_than_s, raw=arguments.raw):
                pass
            return collected
        with gc_lease(store, corpus, older_than_s=older_than_s) as lease:
            cutoff = lease.check() - older_than_s
            referenced.refresh()
            listed = orphans.find(store, corpus, referenced.of(corpus), own_lease=lease.key)
            removable = collected.removable(listed, cutoff, raw=arguments.raw)
            for orphan in orphans.remove(lease, referenced, removable):
                collected.kinds[orphan.kind].add_removed(orphan)
    except (CorpusBusy, CorruptShard) as error:
        collected.refused = str(error)
    return collected


def _collect_outside_corpora(store: Store, arguments: Namespace, older_than_s: float) -> CorpusOrphans:
    """The orphans that belong to no corpus: uploads that never ended."""
    collected = CorpusOrphans("")
    cutoff = time.time() - older_than_s
    for orphan in collected.removable(orphans.find_outside_corpora(store), cutoff, raw=False):
        if arguments.delete:
            orphans.remove_outside_corpora(store, orphan)
            collected.kinds[orphan.kind].add_removed(orphan)
    return collected


def _print(store: Store, collected: list[CorpusOrphans], arguments: Namespace) -> None:
    sheet = Sheet(Console())
    if not any(corpus.kinds or corpus.refused for corpus in collected):
        sheet.say(f"{store.url}: no orphans; every object there belongs to a version or a run")
        return
    for corpus in collected:
        rows = list(corpus.kinds.values())
        if rows:
            sheet.title(corpus.corpus or store.url, plural(sum(row.objects for row in rows), "object"))
            sheet.table(("", "objects>", "size>", "age>"), [_line(row) for row in rows])
            _print_notes(sheet, corpus)
    rows = [row for corpus in collected for row in corpus.kinds.values()]
    young = sum(row.young for row in rows if not row.kept)
    removed, free = sum(row.gone for row in rows), sum(row.free for row in rows)
    if young:
        sheet.say(f"{plural(young, 'object')} younger than {arguments.older_than} stay: an ingest may need them")
    if arguments.delete:
        size = size_text(sum(row.gone_size for row in rows))
        sheet.say(f"removed {plural(removed, 'object')}, {size}" if removed else "nothing was removed")
    elif free:
        sheet.say(f"{size_text(free)} can go: the same command with --delete removes them")


def _print_notes(sheet: Sheet, corpus: CorpusOrphans) -> None:
    for row in corpus.kinds.values():
        sheet.note(f"for example {row.examples[0]}")
    part = corpus.kinds.get(PART)
    if part is None:
        return
    if part.kept:
        sheet.note(
            f"raw parts of no version ({size_text(part.size)}) stay: the next ingest of the same recipe uses them "
            "again; --raw removes them too, and they would be fetched again"
        )
    else:
        sheet.note(f"raw parts of no version ({size_text(part.size)}): an ingest that needs them fetches them again")


def _line(row: KindTotals) -> tuple[str, str, str, str]:
    kind = KINDS[row.kind] + (" (stay)" if row.kept else "")
    return kind, f"{row.objects:,}", size_text(row.size), _ages(row)


def _ages(row: KindTotals) -> str:
    now = time.time()
    ages = [_age(now - moment) for moment in (row.youngest, row.oldest) if math.isfinite(moment)]
    return "to ".join(dict.fromkeys(ages)) if ages else "unknown"


def _age(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if seconds >= _SECONDS[unit]:
            return f"{seconds / _SECONDS[unit]:.0f} {unit} "
    return f"{max(seconds, 0):.0f} s "


def _json(
    store: Store, collected: list[CorpusOrphans], arguments: Namespace, older_than_s: float
) -> dict[str, object]:  # JSON values
    corpora = [
        {
            "corpus": corpus.corpus,
            "refused": corpus.refused,
            "kinds": [_totals_json(totals) for totals in corpus.kinds.values()],
        }
        for corpus in collected
    ]
    return {"store": store.url, "delete": arguments.delete, "older_than_s": older_than_s, "corpora": corpora}


def _totals_json(totals: KindTotals) -> dict[str, object]:
    moments = {
        name: datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds") if math.isfinite(moment) else None
        for name, moment in (("oldest", totals.oldest), ("youngest", totals.youngest))
    }
    return asdict(totals) | moments
