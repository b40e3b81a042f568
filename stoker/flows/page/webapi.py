"""The same as JSON, under /api: one form of answer, one form of error."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import Response

from stoker.flows.page.gallery import held_in
from stoker.flows.page.site import STORIES, Asked, Key, Number, Place, Reference, Site, Version, Word
from stoker.flows.report.refusals import refusals
from stoker.flows.report.samples import Entry, Shelf
from stoker.pipelines.stages.why import why
from stoker.storage.versions.manifest import Manifest

Size = Annotated[int, Query(ge=1, le=200)]


class Api:
    """All answers of one store. Each is an object with ``ok``: true; an error has ``ok``: false, error, status."""

    def __init__(self, shelf: Shelf, site: Site) -> None:
        self._shelf = shelf
        self._site = site

    def corpora(self) -> Response:
        """The corpora and their newest versions."""
        found = []
        for name in self._shelf.corpora():
            card = self._site.card(name)
            one = card.report
            newest = (
                None
                if one is None
                else {
                    "reference": one.reference,
                    "version": one.version,
                    "created_at": one.created_at,
                    "samples": one.samples,
                    "shards": one.shards,
                    "size": one.size,
                }
            )
            found.append({"corpus": name, "versions": card.versions, "newest": newest, "error": card.error or None})
        return answer({"corpora": found})

    def versions(self, corpus: Reference) -> Response:
        """The versions of a corpus, oldest first."""
        manifest = self._site.manifest(corpus)
        return answer({"corpus": manifest.corpus, "versions": self._shelf.versions(manifest.corpus)})

    def report(self, reference: Reference) -> Response:
        """A version: what `stoker show --json` prints."""
        return answer(self._site.report(self._site.manifest(reference)).to_json())

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
        """The records of a version's samples, a page at a time."""
        manifest = self._site.manifest(reference)
        asked = {"label": label, "language": language, "licence": licence, "source": source, "author": author}
        where = {column: value for column, value in asked.items() if value}
        found = self._shelf.page(manifest, split=split, where=where, number=page, size=size)
        return answer(
            {
                "reference": manifest.reference,
                "page": found.number,
                "pages": found.pages,
                "total": found.total,
                "complete": found.complete,
                "samples": [_sample(manifest, entry) for entry in found.entries],
            }
        )

    def sample(self, reference: Reference, key: Key, at: Place = -1) -> Response:
        """One sample's record, where it lies, and the versions that hold it."""
        manifest = self._site.manifest(reference)
        entry = self._shelf.find(manifest, key, at)
        held = [asdict(one) for one in held_in(self._shelf, manifest, entry)]
        return answer({"reference": manifest.reference, **_sample(manifest, entry), "versions": held})

    def rejects(self, reference: Reference, reason: Word = "", page: Number = 1, size: Size = 50) -> Response:
        """What was refused, a page at a time."""
        manifest = self._site.manifest(reference)
        found = refusals(self._shelf, manifest, reason=reason, number=page, size=size)
        return answer(
            {
                "reference": manifest.reference,
                "page": found.number,
                "pages": found.pages,
                "total": found.total,
                "rejects": [asdict(one) for one in found.entries],
            }
        )

    def why(self, reference: Reference, q: Asked) -> Response:
        """What became of the candidates with this key, URL or SHA-256."""
        manifest = self._site.manifest(reference)
        stories = why(self._shelf.store, manifest, q.strip(), most=STORIES)
        return answer({"reference": manifest.reference, "asked": q, "stories": [asdict(one) for one in stories]})

    def diff(self, corpus: Reference, a: Version, b: Version) -> Response:
        """What changed from version ``a`` to ``b``."""
        older, newer = self._site.manifest(f"{corpus}@{a}"), self._site.manifest(f"{corpus}@{b}")
        return answer(self._site.difference(older, newer).to_json())


def answer(content: Mapping[str, Any]) -> Response:  # Any: JSON
    """An answer that went well."""
    return _json({"ok": True, **content}, 200)


def failure(message: str, status: int) -> Response:
    """An answer that did not."""
    return _json({"ok": False, "error": message, "status": status}, status)


def _json(content: Mapping[str, Any], status: int) -> Response:  # Any: JSON
    # ASCII: no reader of any kind meets a raw control or reversing character.
    payload = json.dumps(_plain(content), ensure_ascii=True, allow_nan=False)
    return Response(payload, status, {"cache-control": "private, no-cache"}, "application/json")


def _plain(value: Any) -> Any:  # Any: Parquet values in, JSON out
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, str | int | bool | None) else str(value)


def _sample(manifest: Manifest, entry: Entry) -> dict[str, Any]:  # Any: JSON
    return {
        "key": entry.key,
        "split": entry.split,
        "shard": manifest.shards[entry.shard].key,
        "members": [one._asdict() for one in entry.members],
        "record": entry.record,
    }
