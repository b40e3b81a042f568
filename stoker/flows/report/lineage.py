"""The life of a candidate as a few sentences: the terminal and the page tell the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stoker.flows.report.format import listed, number_text, percent_text, size_text, time_text
from stoker.pipelines.stages.why import Story


@dataclass(frozen=True, slots=True)
class Line:
    """One event: ``mark`` says whether it ended well, badly, or was but a step."""

    title: str
    text: str
    mark: Literal["", "kept", "lost"] = ""


def life(story: Story, meanings: Mapping[str, str]) -> list[Line]:
    """What happened to a candidate, in order. The text is foreign: show it through ``visible``."""
    record = story.record
    source = str(record.get("source") or "its source")
    lines = [Line("found", _found(story, source))]
    if record.get("fetched_at"):
        lines.append(Line("fetched", _fetched(record)))
    if story.state == "rejected":
        refused_by = story.by if story.by and story.by != source else source
        lines.append(Line("rejected", _reason(story, meanings) + f" So said {refused_by}.", "lost"))
        return lines
    lines.append(Line("washed", f"It passed every step{_looks(record)}."))
    if story.state == "dropped":
        lines.append(Line("dropped", _reason(story, meanings) + f" So decided the rule {story.by}.", "lost"))
        if story.witness:
            other = "its counterpart" if story.reason == "label_conflict" else "in its place"
            lines.append(Line(other, _witness(story)))
        return lines
    if story.shard:
        text = f"In split {story.split}, in the shard {story.shard}."
    else:
        text = "No shard holds it: the store and the manifest disagree; run stoker verify."
    lines.append(Line("kept", text, "kept" if story.shard else "lost"))
    return lines


def _found(story: Story, source: str) -> str:
    record = story.record
    place = record.get("url") or record.get("page_url")
    also = record.get("page_url") if record.get("url") and record.get("page_url") != record.get("url") else None
    text = f"By {source}, in partition {story.partition}"
    text += f", at {place}" if place else ""
    return text + (f", on the page {also}." if also else ".")


def _fetched(record: Mapping[str, object]) -> str:
    return time_text(str(record["fetched_at"]))


def _looks(record: Mapping[str, object]) -> str:
    said = []
    if isinstance(record.get("width"), int) and isinstance(record.get("height"), int):
        said.append(f"{record['width']} × {record['height']} pixels")
    for name in ("characters", "words"):
        value = record.get(name)
        if isinstance(value, int | float):
            said.append(f"{number_text(value)} {name}")
    size = record.get("size")
    if isinstance(size, int | float):
        said.append(size_text(size))
    return f": {listed(said, most=4)}" if said else ""


def _reason(story: Story, meanings: Mapping[str, str]) -> str:
    meaning = meanings.get(story.reason)
    text = f"{story.reason}: {meaning}" if meaning else story.reason
    text += f" ({story.detail})" if story.detail else ""
    return text + "."


def _witness(story: Story) -> str:
    return story.witness + (f", {percent_text(story.similarity)} alike" if story.similarity is not None else "")
