"""Small pictures of what rules would take, for the page of a dry run."""

import base64
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stoker.pipelines.stages.views.trial import Trial
    from stoker.storage.stores.store import Store

_PICTURE = 160  # pixels of the longer side


def pictures_of(tried: "Trial", store: "Store") -> dict[str, str]:
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
