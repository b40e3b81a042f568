"""What rules would take as one HTML file: the worst and the borderline examples, with small pictures or excerpts."""

import base64
import os
from pathlib import Path
from typing import TYPE_CHECKING

from stoker.flows.logs import note
from stoker.flows.settings import UsageError

if TYPE_CHECKING:
    from stoker.pipelines.stages.views.trial import Trial
    from stoker.storage.stores.store import Store

_PICTURE = 160  # pixels of the longer side


def check_page(page: Path) -> None:
    """Raise UsageError where a new file cannot be written, before anything is decided."""
    if page.exists():
        raise UsageError(f"curate: --page {page}: exists already; name a new file")
    if not page.parent.is_dir():
        raise UsageError(f"curate: --page {page}: {page.parent} is no folder; make it first")
    if not os.access(page.parent, os.W_OK):
        raise UsageError(f"curate: --page {page}: {page.parent} cannot be written to")


def write_page(path: Path, tried: "Trial", store: "Store") -> None:
    """Write the page; it loads nothing, and runs nothing. Raises StorageError, UsageError."""
    from stoker.flows.page.template import PAGES, Templates

    pictures = _pictures(tried, store)
    page = Templates(title="Stoker").render(
        "trial.html", style=(PAGES / "style.css").read_text(encoding="utf-8"), tried=tried, pictures=pictures
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(page)
    except OSError as error:
        raise UsageError(f"curate: --page {path}: {error.strerror}; name another file") from None
    note(f"page: {path}")


def _pictures(tried: "Trial", store: "Store") -> dict[str, str]:
    """Small pictures of the samples of the version as data URLs, by key; of those that have one and can be read."""
    from stoker.flows.page.pictures import ImageRenderer
    from stoker.flows.report.samples import SampleReader
    from stoker.storage.errors import StokerError
    from stoker.storage.versions.manifest import load_manifest

    reader = SampleReader(store)
    renderer = ImageRenderer(reader)
    manifest = load_manifest(store, tried.reference.partition("@")[0]).read_lists()
    examples = [one for rule in tried.rules for one in (*rule.worst, *rule.borderline)]
    found: dict[str, str] = {}
    for key in dict.fromkeys(key for one in examples for key in (one.key, one.witness) if key):
        try:
            payload = renderer.sample_picture(manifest, reader.find(manifest, key), _PICTURE)
        except StokerError:  # a text, or a sample that the version does not hold: its key tells it
            continue
        kind = "png" if payload.startswith(b"\x89PNG") else "webp"
        found[key] = f"data:image/{kind};base64,{base64.b64encode(payload).decode()}"
    return found
