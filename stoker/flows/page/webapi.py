"""The JSON API under /api: what the pages show, in one form for every response and one for every error."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import Response

from stoker.flows.page.gallery import memberships
from stoker.flows.page.site import MAX_LINEAGES, Asked, HtmlPages, Key, Number, Place, Reference, Version, Word
from stoker.flows.page.studies import StudyPages
from stoker.flows.page.trainings import Run, RunPages
from stoker.flows.report.json_text import plain
from stoker.flows.report.refusals import refusals
from stoker.flows.report.samples import SampleEntry, SampleReader
from stoker.flows.report.studies import study_json
from stoker.pipelines.stages.why import find_lineages
from stoker.storage.versions import catalog
from stoker.storage.versions.catalog import parse_reference
from stoker.storage.versions.manifest import Manifest
from stoker.training.results.checkpoints import CheckpointInfo
from stoker.training.results.evaluations import evaluations

Size = Annotated[int, Query(ge=1, le=200)]


class JsonApi:
    """The handlers of the API of one store.

    A response is an object with ``ok``: true; an error has ``ok``: false, ``error`` and ``status``.
    """

    def __init__(self, reader: SampleReader, pages: HtmlPages, runs: RunPages, studies: StudyPages) -> None:
        self._reader = reader
        self._pages = pages
        self._runs = runs
        self._studies = studies

    def corpora(self) -> Response:
        """The corpora and their newest versions; ``error`` of the newest one, ``errors`` also of those before it."""
        corpora = []
        for name in self._reader.corpora():
            card = self._pages.card(name)
            fields = ("reference", "version", "created_at", "samples", "masked", "shards", "size")
            newest = None if card.report is None else {field: getattr(card.report, field) for field in fields}
            errors = [card.error] if card.error else list(card.errors)
            about = {"corpus": name, "versions": card.versions, "newest": newest}
            corpora.append(about | {"error": card.error or None, "errors": errors})
        return _success({"corpora": corpora})

    def schedules(self) -> Response:
        """What is scheduled, with its last results, and the last failed runs."""
        return _success(self._pages.schedules().to_json())

    def versions(self, corpus: Reference) -> Response:
        """The versions of a corpus, oldest first, and the numbers of deleted ones."""
        manifest = self._pages.manifest(corpus)
        numbers = catalog.numbers(self._reader.store, manifest.corpus)
        return _success({"corpus": manifest.corpus, "versions": numbers.existing, "deleted": numbers.deleted})

    def report(self, reference: Reference) -> Response:
        """A version: what `stoker show --json` prints."""
        manifest = self._pages.manifest(reference)
        memory = self._pages.remembered(manifest)
        return _success(self._pages.report(manifest).to_json() | ({"memory": memory.to_json()} if memory else {}))

    def samples(
        self,
        reference: Reference,
        split: Word = "",
        label: Word = "",
        language: Word = "",
        licence: Word = "",
        source: Word = "",
        author: Word = "",
        page: Number = 1,
        size: Size = 50,
    ) -> Response:
        """The records of a version's samples, one page of them."""
        manifest = self._pages.manifest(reference)
        filters = {"label": label, "language": language, "licence": licence, "source": source, "author": author}
        where = {column: value for column, value in filters.items() if value}
        result = self._reader.page(manifest, split=split, where=where, number=page, size=size)
        return _success(
            {
                "reference": manifest.reference,
                "page": result.number,
                "pages": result.pages,
                "total": result.total,
                "complete": result.complete,
                "samples": [_sample(manifest, entry) for entry in result.entries],
            }
        )

    def sample(self, reference: Reference, key: Key, at: Place = -1) -> Response:
        """One sample: its record, its shard and the versions that hold it."""
        manifest = self._pages.manifest(reference)
        entry = self._reader.find(manifest, key, at)
        versions = [asdict(membership) for membership in memberships(self._reader, manifest, entry)]
        return _success({"reference": manifest.reference, **_sample(manifest, entry), "versions": versions})

    def rejects(self, reference: Reference, reason: Word = "", page: Number = 1, size: Size = 50) -> Response:
        """What was rejected, one page of it."""
        manifest = self._pages.manifest(reference)
        result = refusals(self._reader, manifest, reason=reason, number=page, size=size)
        return _success(
            {
                "reference": manifest.reference,
                "page": result.number,
                "pages": result.pages,
                "total": result.total,
                "rejects": [refusal.to_json() for refusal in result.entries],
            }
        )

    def why(self, reference: Reference, q: Asked) -> Response:
        """What became of the candidates with this key, URL or SHA-256."""
        manifest = self._pages.manifest(reference)
        lineages = find_lineages(self._reader.store, manifest, q.strip(), most=MAX_LINEAGES)
        stories = [lineage.to_json() for lineage in lineages]
        return _success({"reference": manifest.reference, "asked": q, "stories": stories})

    def diff(self, corpus: Reference, a: Version, b: Version) -> Response:
        """What changed from version ``a`` to ``b``."""
        older, newer = self._pages.manifest(f"{corpus}@{a}"), self._pages.manifest(f"{corpus}@{b}")
        return _success(self._pages.difference(older, newer).to_json())

    def study(self, reference: Reference) -> Response:
        """The studies of a version, as `stoker study --json` prints them."""
        return _success({"studies": [study_json(study) for study in self._studies.find(reference)]})

    def runs(self, corpus: Reference) -> Response:
        """The newest training runs of a corpus, each with its last checkpoint."""
        name, _ = parse_reference(corpus)
        found, total = self._runs.newest(name)
        return _success({"corpus": name, "total": total, "runs": [_run(info) for info in found]})

    def run(self, corpus: Reference, run: Run) -> Response:
        """One training run: its last checkpoint, and what `stoker evaluate` kept."""
        info, (name, _) = self._runs.find(corpus, run), parse_reference(corpus)
        kept = [one.to_json() for one in evaluations(self._reader.store, name, run)]
        return _success({"corpus": name, **_run(info), "evaluations": kept})


def _run(info: CheckpointInfo) -> dict[str, Any]:  # Any: JSON
    names = ("run", "step", "done", "version", "identity", "metrics", "sample")
    return {name: getattr(info, name) for name in names}


def _success(content: Mapping[str, Any]) -> Response:  # Any: JSON
    """A response to a request that succeeded."""
    return _json({"ok": True, **content}, 200)


def failure(message: str, status: int) -> Response:
    """A response to a request that failed."""
    return _json({"ok": False, "error": message, "status": status}, status)


def _json(content: Mapping[str, Any], status: int) -> Response:  # Any: JSON
    # ASCII: no reader meets a raw control character or one that reverses text.
    payload = json.dumps(plain(content), ensure_ascii=True, allow_nan=False)
    return Response(payload, status, {"cache-control": "private, no-cache"}, "application/json")


def _sample(manifest: Manifest, entry: SampleEntry) -> dict[str, Any]:  # Any: JSON
    return {
        "key": entry.key,
        "split": entry.split,
        "shard": manifest.shards[entry.shard].key,
        "members": [member._asdict() for member in entry.members],
        "record": entry.record,
    }
