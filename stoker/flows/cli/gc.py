"""`stoker gc`: what lies in the store that no version needs, and with --delete, its end."""

import json
import math
import re
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from rich.console import Console

from stoker.flows.report.format import plural, size_text, visible
from stoker.flows.report.terminal import Sheet
from stoker.flows.settings import UsageError
from stoker.flows.start import settings_of
from stoker.storage.errors import NotFound
from stoker.storage.stores.store import Store
from stoker.storage.versions import catalog, orphans
from stoker.storage.versions.orphans import KINDS, PART, Orphan, ReferencedKeys
from stoker.storage.versions.work import CorpusBusy, gc_lease

_AGE = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_EXAMPLES = 3


@dataclass
class Row:
    """The orphans of one kind in one corpus."""

    kind: str
    objects: int = 0
    size: int = 0  # bytes
    young: int = 0  # objects of these that are too young to go
    free: int = 0  # bytes of those that may go
    gone: int = 0  # objects that were removed
    gone_size: int = 0  # bytes
    kept: bool = False  # they stay, however old, unless asked for
    oldest: float = math.inf  # seconds since 1970
    youngest: float = -math.inf
    examples: list[str] = field(default_factory=list)

    def add(self, orphan: Orphan, *, old: bool) -> None:
        """Count one."""
        count = len(orphan.keys)
        self.objects += count
        self.size += orphan.size
        self.young += 0 if old else count
        self.free += orphan.size if old and not self.kept else 0
        self.oldest = min(self.oldest, orphan.modified)
        self.youngest = max(self.youngest, orphan.modified)
        if len(self.examples) < _EXAMPLES:
            self.examples.append(orphan.keys[0])

    def go(self, orphan: Orphan) -> None:
        """Count one that was removed."""
        self.gone += len(orphan.keys)
        self.gone_size += orphan.size


@dataclass
class Found:
    """What was found, and maybe removed, of a corpus; ``corpus`` is empty for what is none's."""

    corpus: str
    rows: dict[str, Row] = field(default_factory=dict)
    refused: str = ""  # why nothing, or not all, was removed

    def see(self, those: Iterable[Orphan], cutoff: float, *, raw: bool) -> Iterator[Orphan]:
        """Count orphans on their way, and let those through that may go."""
        for one in those:
            row = self.rows.setdefault(one.kind, Row(one.kind, kept=one.kind == PART and not raw))
            old = one.modified <= cutoff
            row.add(one, old=old)
            if old and not row.kept:
                yield one


def gc_command(arguments: Namespace) -> int:
    """Show the orphans, or remove them."""
    older_than_s = seconds_of(arguments.older_than)
    store = settings_of(arguments).open_store()
    referenced = ReferencedKeys(store)
    referenced.refresh()
    found: list[Found] = []
    for corpus in _named(store, arguments.corpora):
        _collect(store, referenced, corpus, found, arguments, older_than_s)
    if not arguments.corpora:
        _collect_elsewhere(store, found, arguments, older_than_s)
    if arguments.json:
        print(json.dumps(_json(store, found, arguments, older_than_s), indent=1, ensure_ascii=False))
    else:
        _show(store, found, arguments)
    for one in found:
        if one.refused:
            print(f"stoker: {visible(one.refused)}", file=sys.stderr)
    return 1 if any(one.refused for one in found) else 0


def seconds_of(text: str) -> float:
    """An age. Raises UsageError.

    >>> seconds_of("24h"), seconds_of("1.5m"), seconds_of("0s")
    (86400.0, 90.0, 0.0)
    """
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"--older-than {text}: expected an age like 90s, 30m, 24h or 7d")
    return float(found[1]) * _SECONDS[found[2]]


def _named(store: Store, names: list[str]) -> list[str]:
    there = orphans.corpora(store)
    for name in names:
        if name not in there:
            raise NotFound(
                catalog.missing(store, catalog.parse_reference(name)[0]) if "@" not in name else _whole(name)
            )
    return sorted(set(names)) or there


def _whole(name: str) -> str:
    return f"{name}: a version has no orphans of its own; name the corpus, {name.partition('@')[0]!r}"


def _collect(
    store: Store, referenced: ReferencedKeys, corpus: str, found: list[Found], arguments: Namespace, older_than_s: float
) -> None:
    own = Found(corpus)
    found.append(own)
    if not arguments.delete:
        for _ in own.see(orphans.find(store, corpus, referenced.keys), time.time() - older_than_s, raw=arguments.raw):
            pass
        return
    try:
        with gc_lease(store, corpus, older_than_s=older_than_s) as lease:
            cutoff = lease.check() - older_than_s
            referenced.refresh()
            those = orphans.find(store, corpus, referenced.keys, own_lease=lease.key)
            for gone in orphans.remove(lease, referenced, own.see(those, cutoff, raw=arguments.raw)):
                own.rows[gone.kind].go(gone)
    except CorpusBusy as error:
        own.refused = str(error)


def _collect_elsewhere(store: Store, found: list[Found], arguments: Namespace, older_than_s: float) -> None:
    own = Found("")
    cutoff = time.time() - older_than_s
    for one in own.see(orphans.find_outside_corpora(store), cutoff, raw=False):
        if arguments.delete:
            orphans.remove_outside_corpora(store, one)
            own.rows[one.kind].go(one)
    if own.rows:
        found.append(own)


def _show(store: Store, found: list[Found], arguments: Namespace) -> None:
    sheet = Sheet(Console())
    free, gone, size, young = 0, 0, 0, 0
    for one in found:
        rows = list(one.rows.values())
        if not rows:
            continue
        sheet.title(one.corpus or store.url, plural(sum(row.objects for row in rows), "object"))
        sheet.table(("", "objects>", "size>", "age>"), [_line(row) for row in rows])
        free += sum(row.free for row in rows)
        gone += sum(row.gone for row in rows)
        size += sum(row.gone_size for row in rows)
        young += sum(row.young for row in rows if not row.kept)
        _notes(sheet, one)
    if not any(one.rows for one in found):
        sheet.say(f"{store.url}: no orphans; all that lies there belongs to a version or a run")
        return
    if young:
        sheet.say(f"{plural(young, 'object')} younger than {arguments.older_than} stay: an ingest may be at it")
    if arguments.delete:
        sheet.say(f"removed {plural(gone, 'object')}, {size_text(size)}" if gone else "nothing was removed")
    elif free:
        sheet.say(f"{size_text(free)} can go: the same command with --delete removes them")


def _notes(sheet: Sheet, one: Found) -> None:
    for row in one.rows.values():
        sheet.note(f"for example {row.examples[0]}")
    part = one.rows.get(PART)
    if part is None:
        return
    if part.kept:
        sheet.note(
            f"raw parts of no version ({size_text(part.size)}) stay: the next ingest of the same recipe takes them "
            "as they are; --raw counts them in, and they would be fetched again"
        )
    else:
        sheet.note(f"raw parts of no version ({size_text(part.size)}): an ingest that needs them fetches them again")


def _line(row: Row) -> tuple[str, str, str, str]:
    words = KINDS[row.kind] + (" (stay)" if row.kept else "")
    return words, f"{row.objects:,}", size_text(row.size), _ages(row)


def _ages(row: Row) -> str:
    now = time.time()
    ages = [_age(now - moment) for moment in (row.youngest, row.oldest) if math.isfinite(moment)]
    return "to ".join(dict.fromkeys(ages)) if ages else "unknown"


def _age(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if seconds >= _SECONDS[unit]:
            return f"{seconds / _SECONDS[unit]:.0f} {unit} "
    return f"{max(seconds, 0):.0f} s "


def _json(
    store: Store, found: list[Found], arguments: Namespace, older_than_s: float
) -> dict[str, object]:  # JSON values
    corpora = [
        {"corpus": one.corpus, "refused": one.refused, "kinds": [_row_json(row) for row in one.rows.values()]}
        for one in found
    ]
    return {"store": store.url, "delete": arguments.delete, "older_than_s": older_than_s, "corpora": corpora}


def _row_json(row: Row) -> dict[str, object]:
    moments = {
        name: datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds") if math.isfinite(moment) else None
        for name, moment in (("oldest", row.oldest), ("youngest", row.youngest))
    }
    return asdict(row) | moments
