"""The HTML pages: each method answers one address, reads what it needs and fills a template."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from stoker.flows.page.gallery import columns_of, memberships, preview, previews, provenance, texts
from stoker.flows.page.pictures import LARGE, THUMB, ImageRenderer
from stoker.flows.page.template import Templates, query
from stoker.flows.report.cache import LruCache
from stoker.flows.report.difference import Difference, difference
from stoker.flows.report.format import percent_text
from stoker.flows.report.lineage import LineageEvent, events_of
from stoker.flows.report.refusals import refusals
from stoker.flows.report.remembered import memory_text
from stoker.flows.report.report import Report, redacted, report
from stoker.flows.report.samples import SampleReader
from stoker.flows.schedules.overview import Overview
from stoker.pipelines.registry import reasons_of
from stoker.pipelines.rejected import Reason
from stoker.pipelines.stages.remembering.counting import Remembered, count_remembered
from stoker.pipelines.stages.why import Lineage, find_lineages
from stoker.storage.clock import utc_now
from stoker.storage.errors import NotFound, StokerError, StorageUnavailable
from stoker.storage.versions.catalog import parse_reference
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.measured.studies import has_studies
from stoker.storage.versions.memory.ledger import heads

_log = logging.getLogger(__name__)

Schedules = Callable[[], Overview]  # must not wait for a server that is silent
Reference = Annotated[str, Path(max_length=80)]
Key = Annotated[str, Path(max_length=100)]
Version = Annotated[int, Path(ge=1, le=99_999_999)]
Number = Annotated[int, Query(ge=1, le=10_000_000)]
Word = Annotated[str, Query(max_length=300)]
Asked = Annotated[str, Query(max_length=2000)]
Place = Annotated[int, Query(ge=-1, le=10_000_000)]
PAGE = 24  # samples or rejects on a page
MAX_LINEAGES = 20  # on one page
_CARDS = 60  # corpora on the first page
_REPORTS = 200  # cached
_HISTORY = 12  # versions in a sparkline
_SHARDS = 200  # listed on a page
_FACETS = 3  # filters besides the split
_LISTED_VERSIONS, _COMPARABLE_VERSIONS = 30, 100  # the newest ones


@dataclass(frozen=True, slots=True)
class Card:
    """The summary of a corpus on the first page, or why it cannot be read."""

    corpus: str
    report: Report | None
    history: tuple[int, ...]  # samples in the newest versions, oldest first; 0 for one that cannot be read
    versions: int
    error: str = ""
    errors: tuple[str, ...] = ()  # of older versions among them


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture beside a lineage: the image's address, its caption, and the page that it links to."""

    address: str
    caption: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class LineageView:
    """A candidate's lineage as the page shows it."""

    title: str
    state: str
    events: list[LineageEvent]
    link: str  # the sample's page; "" unless it was kept
    links: list[tuple[str, object]]
    pictures: list[Thumbnail]
    record: list[tuple[str, object]]


class HtmlPages:
    """The handlers of all HTML pages of one store."""

    def __init__(
        self, reader: SampleReader, pictures: ImageRenderer, templates: Templates, schedules: Schedules | None = None
    ) -> None:
        self._schedules = schedules
        self._reader = reader
        self._pictures = pictures
        self._templates = templates
        self._reports: LruCache[Report] = LruCache(_REPORTS, lambda report: 1)
        self._memories: LruCache[Remembered | None] = LruCache(_REPORTS, lambda remembered: 1)

    def manifest(self, reference: str) -> Manifest:
        """The version that a reference in an address names. Raises NotFound."""
        return self._reader.manifest(*parse_reference(reference))

    def report(self, manifest: Manifest, existing: Sequence[int] | None = None) -> Report:
        """The report of a version, cached. ``existing``: see ``report``."""
        parent_is_there = existing is None or manifest.parent in existing
        key = (manifest.reference, manifest.content, manifest.created_at, parent_is_there)
        return self._reports.get(key, lambda: report(manifest, existing))

    def remembered(self, manifest: Manifest) -> Remembered | None:
        """What the corpus remembers of its candidates; None of any version but the newest.

        Counted anew when an ingest has written to memory, and every hour: how many are due depends on the time.
        """
        store, corpus, now = self._reader.store, manifest.corpus, utc_now()
        if manifest.version != max(self._reader.versions(corpus), default=0):
            return None
        key = (corpus, *heads(store, corpus)[-1:], now.replace(minute=0, second=0, microsecond=0))
        return self._memories.get(key, lambda: count_remembered(store, corpus, now))

    def _memory_text(self, manifest: Manifest) -> str:
        """``remembered`` as a sentence. What is damaged of it hides no samples. Raises StorageUnavailable."""
        try:
            remembered = self.remembered(manifest)
        except StorageUnavailable:
            raise
        except StokerError as error:
            return f"What is remembered cannot be read: {error}"
        return memory_text(remembered).capitalize() if remembered else ""

    def page(self, name: str, *, status_code: int = 200, **values: object) -> HTMLResponse:
        """A response with a rendered template."""
        content = self._templates.render(name, store_url=self._reader.url, **values)
        return HTMLResponse(content, status_code, headers={"cache-control": "private, no-cache"})

    def corpora(self) -> HTMLResponse:
        """All corpora."""
        names = self._reader.corpora()
        cards = [self.card(name) for name in names[:_CARDS]]
        hidden, overview = max(0, len(names) - _CARDS), self._schedules() if self._schedules else None
        return self.page("corpora.html", cards=cards, hidden=hidden, total=len(names), overview=overview)

    def schedules(self) -> Overview:
        """The schedules and the last failed runs. Raises NotFound where this page knows of none."""
        if self._schedules is None:
            raise NotFound("this page shows corpora alone; that of `stoker up` shows schedules")
        return self._schedules()

    def card(self, corpus: str) -> Card:
        """The summary of a corpus; one that cannot be read has an error and hides no other."""
        versions: list[int] = []
        try:
            versions = self._reader.versions(corpus)
            newest = self._reader.manifest(corpus, versions[-1] if versions else None)
            older = [self._readable(corpus, version) for version in versions[-_HISTORY:-1]]
            history = [0 if isinstance(one, str) else one.samples for one in older] + [newest.samples]
            errors = tuple(f"version {one}" for one in older if isinstance(one, str))
            return Card(corpus, self.report(newest), tuple(history), len(versions), errors=errors)
        except StorageUnavailable:
            raise
        except StokerError as error:
            return Card(corpus, None, (), len(versions), str(error))
        except (
            Exception
        ) as error:  # a bug, which must not take the other corpora's cards away; logged with its traceback
            _log.exception("%s: its report cannot be made", corpus)
            message = f"{corpus}: its report cannot be made: an error inside Stoker ({type(error).__name__}); "
            return Card(corpus, None, (), len(versions), message + "its traceback is in the log of `stoker up`")

    def _readable(self, corpus: str, version: int) -> Manifest | str:
        """A version's manifest, or its number and what is wrong with it. Raises StorageUnavailable."""
        try:
            return self._reader.manifest(corpus, version)
        except StorageUnavailable:
            raise
        except StokerError as error:
            return f"{version}: {error}"

    def corpus(
        self,
        reference: Reference,
        split: Word = "",
        label: Word = "",
        language: Word = "",
        licence: Word = "",
        source: Word = "",
        author: Word = "",
        page: Number = 1,
    ) -> HTMLResponse:
        """A version: its report, and one page of its samples."""
        manifest = self.manifest(reference)
        versions = self._reader.versions(manifest.corpus)
        summary = self.report(manifest, versions)
        filters = {"label": label, "language": language, "licence": licence, "source": source, "author": author}
        where = {column: value for column, value in filters.items() if value}
        samples = self._reader.page(manifest, split=split, where=where, number=page, size=PAGE)
        tables = [column for column in summary.categories if column.distinct > 1 or column.missing]
        return self.page(
            "corpus.html",
            r=summary,
            memory=self._memory_text(manifest),
            versions=versions[-_LISTED_VERSIONS:],
            newest=max(versions, default=manifest.version),
            page=samples,
            previews=previews(self._reader, manifest, samples.entries),
            chosen={name: value for name, value in {"split": split, **where}.items() if value},
            facets=[column for column in tables if column.column in filters][:_FACETS],
            tables=tables,
            shards=manifest.shards[:_SHARDS],
            recipe=_toml(redacted(manifest.recipe)),
            studied=has_studies(self._reader.store, manifest.corpus, manifest.version),
            address=lambda page: f"/c/{manifest.reference}?{query({'split': split, **where, 'page': page})}#samples",
        )

    def sample(self, reference: Reference, key: Key, at: Place = -1) -> HTMLResponse:
        """One sample: its content, where it comes from and which versions hold it."""
        manifest = self.manifest(reference)
        entry = self._reader.find(manifest, key, at)
        return self.page(
            "sample.html",
            r=self.report(manifest),
            entry=preview(self._reader, manifest, entry),
            shard=manifest.shards[entry.shard],
            texts=list(texts(self._reader, manifest, entry)),
            provenance=provenance(entry.record),
            record=columns_of(entry.record),
            held=memberships(self._reader, manifest, entry),
        )

    def rejects(self, reference: Reference, reason: Word = "", page: Number = 1) -> HTMLResponse:
        """What was rejected and why, one candidate a row."""
        manifest = self.manifest(reference)
        return self.page(
            "rejects.html",
            r=self.report(manifest),
            reason=reason,
            page=refusals(self._reader, manifest, reason=reason, number=page, size=PAGE),
            address=lambda page: f"/c/{manifest.reference}/rejects?{query({'reason': reason, 'page': page})}#list",
        )

    def why(self, reference: Reference, q: Asked = "") -> HTMLResponse:
        """What became of a candidate."""
        manifest = self.manifest(reference)
        summary = self.report(manifest)
        asked = q.strip()
        lineages = find_lineages(self._reader.store, manifest, asked, most=MAX_LINEAGES) if asked else []
        known = reasons_of(manifest.recipe)
        pictures = bool(summary.kinds["images"])
        views = [_lineage_view(lineage, manifest.reference, pictures, known) for lineage in lineages]
        return self.page("why.html", r=summary, asked=asked, lineages=views)

    def diff(self, corpus: Reference, a: Version, b: Version) -> HTMLResponse:
        """What changed from one version to another."""
        older, newer = self.manifest(f"{corpus}@{a}"), self.manifest(f"{corpus}@{b}")
        summary = self.report(newer)
        return self.page(
            "diff.html",
            d=self.difference(older, newer),
            a=self.report(older),
            b=summary,
            versions=self._reader.versions(corpus)[-_COMPARABLE_VERSIONS:],
            pictures=bool(summary.kinds["images"]),
        )

    def difference(self, older: Manifest, newer: Manifest) -> Difference:
        """The difference between two versions, from cached indexes."""
        return difference(older, newer, self._reader.store, read=self._reader.index)

    def diff_form(
        self, corpus: Reference, a: Annotated[int, Query(ge=1)], b: Annotated[int, Query(ge=1)]
    ) -> RedirectResponse:
        """Redirect from the form in which two versions are chosen."""
        name, _ = parse_reference(corpus)
        return RedirectResponse(f"/c/{name}/diff/{a}/{b}", status_code=303)

    def thumb(self, reference: Reference, key: Key, at: Place = -1, of: Word = "") -> Response:
        """A small picture of a sample."""
        return self._picture(reference, key, at, of, THUMB)

    def picture(self, reference: Reference, key: Key, at: Place = -1, of: Word = "") -> Response:
        """A large picture of a sample."""
        return self._picture(reference, key, at, of, LARGE)

    def raw(self, reference: Reference, part: Key, key: Key) -> Response:
        """A small picture of a sample in a raw part, also of one that a rule dropped."""
        return _image(self._pictures.raw_picture(self.manifest(reference), part, key, THUMB), immutable=False)

    def _picture(self, reference: str, key: str, at: int, of: str, side: int) -> Response:
        manifest = self.manifest(reference)
        entry = self._reader.find(manifest, key, at)
        immutable = of == manifest.shards[entry.shard].sha256[:8]
        return _image(self._pictures.sample_picture(manifest, entry, side), immutable=immutable)


def _image(payload: bytes, *, immutable: bool) -> Response:
    """A response with an encoded picture; ``immutable``: its address changes when its content does."""
    media_type = "image/png" if payload.startswith(b"\x89PNG") else "image/webp"
    caching = "private, max-age=86400, immutable" if immutable else "private, no-cache"
    return Response(payload, media_type=media_type, headers={"cache-control": caching})


def _lineage_view(lineage: Lineage, reference: str, pictures: bool, known: Mapping[str, Reason]) -> LineageView:
    record = lineage.record
    titles = (record.get("caption"), record.get("title")) if pictures else (record.get("title"), record.get("caption"))
    link = (
        f"/c/{reference}/sample/{lineage.key}"
        if lineage.state == "kept" and lineage.shard and not lineage.withdrawn
        else ""
    )
    return LineageView(
        title=str(titles[0] or titles[1] or lineage.key),
        state=lineage.state,
        events=events_of(lineage, known),
        link=link,
        links=[(label, record[name]) for name, label in (("url", "file"), ("page_url", "page")) if record.get(name)],
        pictures=_thumbnails(lineage, reference, link) if pictures and not lineage.withdrawn else [],
        record=columns_of(record),
    )


def _thumbnails(lineage: Lineage, reference: str, link: str) -> list[Thumbnail]:
    """A kept sample; or a dropped one, and the sample kept instead."""
    if link:
        return [Thumbnail(f"/c/{reference}/thumb/{lineage.key}", "the sample", link)]
    if lineage.state != "dropped":
        return []
    thumbnails = [Thumbnail(f"/c/{reference}/raw/{lineage.part}/{lineage.key}", "rejected")]
    if lineage.stays:
        is_measured = lineage.similarity is not None and lineage.stays == lineage.duplicate_of
        similarity = f", {percent_text(lineage.similarity or 0.0)} similar" if is_measured else ""
        page = f"/c/{reference}/sample/{lineage.stays}"
        address = f"/c/{reference}/thumb/{lineage.stays}"
        thumbnails.append(Thumbnail(address, f"kept instead{similarity}", page))
    return thumbnails


def _toml(table: Mapping[str, Any], path: str = "") -> str:  # Any: TOML
    """A recipe as TOML text for people to read."""
    plain = {name: value for name, value in table.items() if not _is_table(value)}
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False, default=str)}" for name, value in plain.items()]
    for name, value in table.items():
        if _is_table(value):
            inner_path = f"{path}.{name}" if path else name
            heading = f"[[{inner_path}]]" if isinstance(value, list | tuple) else f"[{inner_path}]"
            for inner in value if isinstance(value, list | tuple) else [value]:
                lines += ["", heading, _toml(inner, inner_path)]
    return "\n".join(lines)


def _is_table(value: object) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(table, Mapping) for table in value)
    return isinstance(value, Mapping)
