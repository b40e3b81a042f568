"""The examples of a dry run: their headings, what becomes of each, and small pictures for its page."""

import base64
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stoker.pipelines.stages.views.trial import Example, Trial
    from stoker.storage.stores.store import Store

_PICTURE = 160  # pixels of the longer side


def example_sections(tried: "Trial") -> Iterator[tuple[str, "Sequence[Example]"]]:
    """The examples under their headings: what rules would take, what would come and what would move."""
    for rule in tried.rules:
        for title, examples in (("most similar", rule.worst), ("least similar", rule.borderline)):
            if examples:
                yield f"{rule.rule}: {'examples' if examples[0].similarity is None else title}", examples
    if tried.come:
        yield "Would come: examples", tried.come
    if tried.move:
        yield "Would move to another split: examples", tried.move


def fate_of(example: "Example") -> str:
    """What would become of a sample, in a few words."""
    if example.before and example.after:
        return f"moves from {example.before} to {example.after}"
    because = f"{example.reason}, by {example.rule}" if example.reason else ""
    if example.after:
        return f"comes into {example.after}" + (f"; it was left out as {because}" if because else "")
    return f"leaves {example.before}: {because}"


def fate_of_witness(example: "Example") -> str:
    """What would become of the sample that one is like, in a few words."""
    is_in = example.stays == example.witness
    if example.after:  # it comes, and the version may hold the other one or not
        return "is in, too" if is_in else "is out"
    return "stays" if is_in else "goes, too"


def pictures_of(tried: "Trial", store: "Store") -> dict[tuple[str, str], str]:
    """Small pictures of the examples and of what stays in their place, as data URLs, of those that have one.

    They are by key and raw part: samples of several parts may have one key.

    They are read from the raw parts, which also have what the version does not hold.
    """
    from stoker.flows.page.pictures import ImageRenderer
    from stoker.flows.report.samples import SampleReader
    from stoker.storage.errors import StokerError
    from stoker.storage.versions.manifest import load_manifest

    renderer = ImageRenderer(SampleReader(store))
    manifest = load_manifest(store, tried.reference.partition("@")[0]).read_lists()
    by_rule = [one for rule in tried.rules for one in (*rule.worst, *rule.borderline)]
    samples = dict.fromkeys(place for one in (*by_rule, *tried.come, *tried.move) for place in one.parts.items())
    found: dict[tuple[str, str], str] = {}
    for key, part in samples:
        try:
            payload = renderer.raw_picture(manifest, part, key, _PICTURE)
        except StokerError:  # a text, or what is damaged: its key tells it
            continue
        kind = "png" if payload.startswith(b"\x89PNG") else "webp"
        found[key, part] = f"data:image/{kind};base64,{base64.b64encode(payload).decode()}"
    return found
