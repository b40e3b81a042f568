"""The pages: each a function of an address that reads from the shelf and fills a template."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Path, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from stoker.flows.page.gallery import held_in, provenance, shot, shots, texts, whole
from stoker.flows.page.pictures import LARGE, THUMB, Pictures
from stoker.flows.page.template import Templates, query
from stoker.flows.report.cache import Cache
from stoker.flows.report.difference import Difference, difference
from stoker.flows.report.format import percent_text
from stoker.flows.report.lineage import Line, life
from stoker.flows.report.reasons import meanings
from stoker.flows.report.refusals import refusals
from stoker.flows.report.report import Report, redacted, report
from stoker.flows.report.samples import Shelf
from stoker.pipelines.stages.why import Story, why
from stoker.storage.errors import StokerError, StorageUnavailable
from stoker.storage.versions.catalog import parse_reference
from stoker.storage.versions.manifest import Manifest

Reference = Annotated[str, Path(max_length=80)]
Key = Annotated[str, Path(max_length=100)]
Version = Annotated[int, Path(ge=1, le=99_999_999)]
Number = Annotated[int, Query(ge=1, le=10_000_000)]
Word = Annotated[str, Query(max_length=300)]
Asked = Annotated[str, Query(max_length=2000)]
Place = Annotated[int, Query(ge=-1, le=10_000_000)]
PAGE = 24  # samples or refusals of a page
STORIES = 20
_CARDS = 60
_REPORTS = 200  # that are held
_HISTORY = 12  # versions of a sparkline
_SHARDS = 200  # shards listed on a page
_FACETS = 3  # filters besides the split


@dataclass(frozen=True, slots=True)
class Card:
    """A corpus on the first page, or why it cannot be read."""

    corpus: str
    report: Report | None
    history: tuple[int, ...]  # samples in the newest versions, oldest first
    versions: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture beside a story, and the page it leads to."""

    address: str
    says: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A story on a page."""

    title: str
    state: str
    life: list[Line]
    link: str
    links: list[tuple[str, object]]
    pictures: list[Shown]
    record: list[tuple[str, object]]


class Site:
    """All pages of one store."""

    def __init__(self, shelf: Shelf, pictures: Pictures, templates: Templates) -> None:
        self._shelf = shelf
        self._pictures = pictures
        self._templates = templates
        self._reports: Cache[Report] = Cache(_REPORTS, lambda one: 1)

    def manifest(self, reference: str) -> Manifest:
        """The version that a reference in an address names. Raises NotFound."""
        return self._shelf.manifest(*parse_reference(reference))

    def report(self, manifest: Manifest) -> Report:
        """The report of a version; the latest ones are held."""
        key = (manifest.reference, manifest.content, manifest.created_at)
        return self._reports.get(key, lambda: report(manifest))

    def page(self, name: str, *, status_code: int = 200, **values: object) -> HTMLResponse:
        """A template as an answer."""
        content = self._templates.render(name, store_url=self._shelf.url, **values)
        return HTMLResponse(content, status_code, headers={"cache-control": "private, no-cache"})

    def corpora(self) -> HTMLResponse:
        """All corpora."""
        names = self._shelf.corpora()
        cards = [self.card(name) for name in names[:_CARDS]]
        return self.page("corpora.html", cards=cards, hidden=max(0, len(names) - _CARDS), total=len(names))

    def card(self, corpus: str) -> Card:
        """A corpus at a glance; one that cannot be read says so and hides no other."""
        versions = self._shelf.versions(corpus)
        try:
            manifests = [self._shelf.manifest(corpus, version) for version in versions[-_HISTORY:]]
            return Card(corpus, self.report(manifests[-1]), tuple(one.samples for one in manifests), len(versions))
        except StorageUnavailable:
            raise
        except StokerError as error:
            return Card(corpus, None, (), len(versions), str(error))

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
        """A version: its report, and its samples a page at a time."""
        manifest = self.manifest(reference)
        found = self.report(manifest)
        asked = {"label": label, "language": language, "licence": licence, "source": source, "author": author}
        where = {column: value for column, value in asked.items() if value}
        samples = self._shelf.page(manifest, split=split, where=where, number=page, size=PAGE)
        versions = self._shelf.versions(manifest.corpus)
        told = [one for one in found.categories if one.distinct > 1 or one.missing]
        return self.page(
            "corpus.html",
            r=found,
            versions=versions[-30:],
            newest=max(versions, default=manifest.version),
            page=samples,
            shots=shots(self._shelf, manifest, samples.entries),
            chosen={name: value for name, value in {"split": split, **where}.items() if value},
            facets=[one for one in told if one.column in asked][:_FACETS],
            tables=told,
            shards=manifest.shards[:_SHARDS],
            recipe=_toml(redacted(manifest.recipe)),
            address=lambda page: f"/c/{manifest.reference}?{query({'split': split, **where, 'page': page})}#samples",
        )

    def sample(self, reference: Reference, key: Key, at: Place = -1) -> HTMLResponse:
        """One sample: what it is, where it comes from, where it is."""
        manifest = self.manifest(reference)
        entry = self._shelf.find(manifest, key, at)
        return self.page(
            "sample.html",
            r=self.report(manifest),
            entry=shot(self._shelf, manifest, entry),
            shard=manifest.shards[entry.shard],
            texts=list(texts(self._shelf, manifest, entry)),
            provenance=provenance(entry.record),
            record=whole(entry.record),
            held=held_in(self._shelf, manifest, entry),
        )

    def rejects(self, reference: Reference, reason: Word = "", page: Number = 1) -> HTMLResponse:
        """What was refused, and why, one by one."""
        manifest = self.manifest(reference)
        return self.page(
            "rejects.html",
            r=self.report(manifest),
            reason=reason,
            page=refusals(self._shelf, manifest, reason=reason, number=page, size=PAGE),
            address=lambda page: f"/c/{manifest.reference}/rejects?{query({'reason': reason, 'page': page})}#list",
        )

    def why(self, reference: Reference, q: Asked = "") -> HTMLResponse:
        """What became of a candidate."""
        manifest = self.manifest(reference)
        found = self.report(manifest)
        asked = q.strip()
        stories = why(self._shelf.store, manifest, asked, most=STORIES) if asked else []
        known = meanings([found.source.name], [one.name for one in found.steps], [one.name for one in found.rules])
        told = [_told(one, manifest.reference, found.holds == "images", known) for one in stories]
        return self.page("why.html", r=found, asked=asked, stories=told)

    def diff(self, corpus: Reference, a: Version, b: Version) -> HTMLResponse:
        """What changed from one version to another."""
        older, newer = self.manifest(f"{corpus}@{a}"), self.manifest(f"{corpus}@{b}")
        found = self.report(newer)
        return self.page(
            "diff.html",
            d=self.difference(older, newer),
            a=self.report(older),
            b=found,
            versions=self._shelf.versions(corpus)[-100:],
            pictures=found.holds == "images",
        )

    def difference(self, older: Manifest, newer: Manifest) -> Difference:
        """The difference, from indexes that are held."""
        return difference(older, newer, self._shelf.store, read=self._shelf.index)

    def diff_form(
        self, corpus: Reference, a: Annotated[int, Query(ge=1)], b: Annotated[int, Query(ge=1)]
    ) -> RedirectResponse:
        """Two versions were chosen in the form."""
        name, _ = parse_reference(corpus)
        return RedirectResponse(f"/c/{name}/diff/{a}/{b}", status_code=303)

    def thumb(self, reference: Reference, key: Key, at: Place = -1, of: Word = "") -> Response:
        """A small picture of a sample."""
        return self._picture(reference, key, at, of, THUMB)

    def picture(self, reference: Reference, key: Key, at: Place = -1, of: Word = "") -> Response:
        """A large picture of a sample."""
        return self._picture(reference, key, at, of, LARGE)

    def raw(self, reference: Reference, part: Key, key: Key) -> Response:
        """A small picture of a sample as a raw part holds it: also of one that a rule left out."""
        return _image(self._pictures.of_raw(self.manifest(reference), part, key, THUMB), lasting=False)

    def _picture(self, reference: str, key: str, at: int, of: str, side: int) -> Response:
        manifest = self.manifest(reference)
        entry = self._shelf.find(manifest, key, at)
        lasting = of == manifest.shards[entry.shard].sha256[:8]
        return _image(self._pictures.of_sample(manifest, entry, side), lasting=lasting)


def _image(payload: bytes, *, lasting: bool) -> Response:
    """A picture that was encoded here; ``lasting``: its address names its content."""
    kind = "image/png" if payload.startswith(b"\x89PNG") else "image/webp"
    keep = "private, max-age=86400, immutable" if lasting else "private, no-cache"
    return Response(payload, media_type=kind, headers={"cache-control": keep})


def _told(story: Story, reference: str, pictures: bool, known: Mapping[str, str]) -> Told:
    shown: list[Shown] = []
    record = story.record
    link = f"/c/{reference}/sample/{story.key}" if story.state == "kept" and story.shard else ""
    if pictures and link:
        shown.append(Shown(f"/c/{reference}/thumb/{story.key}", "the sample", link))
    elif pictures and story.state == "dropped":
        shown.append(Shown(f"/c/{reference}/raw/{story.part}/{story.key}", "left out"))
        if story.witness:
            alike = "" if story.similarity is None else f", {percent_text(story.similarity)} alike"
            where = f"/c/{reference}/sample/{story.witness}"
            shown.append(Shown(f"/c/{reference}/thumb/{story.witness}", f"in its place{alike}", where))
    named = (record.get("caption"), record.get("title")) if pictures else (record.get("title"), record.get("caption"))
    title = str(named[0] or named[1] or story.key)
    links = [(what, record[name]) for name, what in (("url", "file"), ("page_url", "page")) if record.get(name)]
    return Told(title, story.state, life(story, known), link, links, shown, whole(record))


def _toml(value: Any, path: str = "") -> str:  # Any: TOML
    """A recipe as TOML again, as far as a person needs it."""
    import json

    plain = {name: one for name, one in value.items() if not _is_table(one)}
    lines = [f"{name} = {json.dumps(one, ensure_ascii=False, default=str)}" for name, one in plain.items()]
    for name, one in value.items():
        if _is_table(one):
            inner = f"{path}.{name}" if path else name
            for table in one if isinstance(one, list | tuple) else [one]:
                heading = f"[[{inner}]]" if isinstance(one, list | tuple) else f"[{inner}]"
                lines += ["", heading, _toml(table, inner)]
    return "\n".join(lines)


def _is_table(value: object) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(one, Mapping) for one in value)
    return isinstance(value, Mapping)
