"""Artifacts of a run in Prefect's UI: a progress bar, a table of what was kept and rejected, a link to the web page."""

import time
from collections.abc import Sequence
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)

from stoker.flows import running
from stoker.flows.report.format import size_text, visible
from stoker.flows.settings import Settings
from stoker.pipelines.registry import reasons_of
from stoker.pipelines.rejected import UNKNOWN
from stoker.storage.versions.manifest import Manifest


class PartitionProgress:
    """A progress artifact: the share of partitions that are done, updated at most every ``every_s`` seconds."""

    def __init__(self, corpus: str, total: int, done: int, *, every_s: float) -> None:
        self._total, self._every_s, self._last = total, every_s, time.monotonic()
        self._artifact = create_progress_artifact(
            self._percent(done), key=key(corpus, "progress"), description=f"Partitions of {corpus} that are done"
        )

    def update(self, done: int) -> None:
        """Update the artifact if the last update is long enough ago."""
        if time.monotonic() - self._last >= self._every_s:
            self.close(done)

    def close(self, done: int) -> None:
        """Update the artifact now."""
        self._last = time.monotonic()
        assert isinstance(self._artifact, UUID)  # not awaited: this is no coroutine
        update_progress_artifact(self._artifact, self._percent(done))

    def _percent(self, done: int) -> float:
        return 100.0 * done / self._total


def create_version_artifacts(manifest: Manifest, settings: Settings, *, new: bool) -> None:
    """Create the table of a version, and a link to its page if the web page runs."""
    create_markdown_artifact(
        _version_markdown(manifest, new=new),
        key=key(manifest.corpus, "version"),
        description=f"What {manifest.reference} holds and what was rejected",
    )
    page = running.load(settings.home).find_alive("web")
    if page is not None:
        create_link_artifact(
            f"{page.url}/c/{manifest.reference}",
            link_text=f"{manifest.reference} on Stoker's page",
            key=key(manifest.corpus, "page"),
            description="Samples, statistics, rejects and versions",
        )


def _version_markdown(manifest: Manifest, *, new: bool) -> str:
    splits = [
        (name, f"{split.samples:,}", f"{split.shards:,}", size_text(split.size))
        for name, split in manifest.splits.items()
    ]
    rejected = sorted(manifest.rejected.items(), key=lambda pair: (-pair[1], pair[0]))
    lines = [
        f"# {manifest.reference}",
        "" if new else "Nothing changed: this version held the same already.",
        f"{manifest.read:,} candidates read, **{manifest.samples:,} samples kept** "
        f"({size_text(manifest.size)}), {sum(manifest.rejected.values()):,} rejected"
        f"{f', known {manifest.known:,}' if manifest.known else ''}.",
        "## Splits",
        *_table(("split", "samples", "shards", "size"), splits),
        "## Rejected",
        *_table(("reason", "candidates", "meaning", "depends on"), _reasons(manifest, rejected)),
        "## Licences",
        *_table(("licence", "samples"), [(name, f"{n:,}") for name, n in manifest.licences.items()]),
        f"Next: `stoker show {manifest.reference}`, `stoker why {manifest.corpus} KEY-or-URL`",
    ]
    return "\n\n".join(line for line in lines if line)


def _reasons(manifest: Manifest, rejected: Sequence[tuple[str, int]]) -> list[tuple[str, ...]]:
    known = reasons_of(manifest.recipe)
    found = [(name, count, known.get(name, UNKNOWN)) for name, count in rejected]
    return [(name, f"{count:,}", reason.meaning, reason.outcome_class.depends_on) for name, count, reason in found]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return ["none"]
    lines = [head, ("---",) * len(head), *rows]
    return ["\n".join("| " + " | ".join(escape(cell) for cell in line) + " |" for line in lines)]


def escape(text: str) -> str:
    """Foreign text made safe for a cell of a Markdown table."""
    plain = visible(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join("\\" + letter if letter in "\\|`[]*_" else letter for letter in plain)


def key(corpus: str, kind: str) -> str:
    """An artifact's key; Prefect takes lower-case letters, digits and dashes.

    >>> key("my_digits-./Net.py:build", "trained")
    'my-digits-net-py-build-trained'
    """
    name = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in corpus.lower())
    return f"{'-'.join(filter(None, name.split('-')))}-{kind}"
