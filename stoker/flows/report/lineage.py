"""A candidate's lineage as short sentences, for the terminal and the web page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stoker.flows.report.format import listed, number_text, percent_text, size_text, time_text, visible
from stoker.pipelines.rejected import UNKNOWN, OutcomeClass, Reason
from stoker.pipelines.stages.remembering.former import Former
from stoker.pipelines.stages.why import Lineage
from stoker.storage.clock import timestamp
from stoker.storage.versions.manifest import Manifest
from stoker.storage.versions.memory.outcome_class import KNOWN, VANISHED


@dataclass(frozen=True, slots=True)
class LineageEvent:
    """One event in the life of a candidate; ``mark`` is "" for an event on the way, and says how the last one ended."""

    title: str
    text: str
    mark: Literal["", "kept", "lost"] = ""


def events_of(lineage: Lineage, reasons: Mapping[str, Reason]) -> list[LineageEvent]:
    """What happened to a candidate, in order. The text is untrusted: show it through ``visible``.

    Args:
        lineage: what became of the candidate.
        reasons: what each reject reason means.
    """
    if lineage.withdrawn:
        text = (
            f"Taken out of the corpus on {lineage.withdrawn}. Its content is not shown, and it is not asked for again."
        )
        return [LineageEvent("withdrawn", text, "lost")]
    record = lineage.record
    source = str(record.get("source") or "its source")
    events = [LineageEvent("found", _origin(lineage, source))]
    if record.get("fetched_at"):
        events.append(LineageEvent("fetched", time_text(str(record["fetched_at"])) + _redirected(record)))
    events += _attempts(lineage)
    if lineage.state == "rejected":
        rejected_by = lineage.rejected_by or source
        text = f"{_reason(lineage, reasons)} Rejected by {rejected_by}.{_depends(lineage)}{_next_try(lineage)}"
        events.append(LineageEvent("rejected", text, "lost"))
        return events
    events.append(LineageEvent("processed", f"It passed every step{_measures(record)}."))
    if lineage.state == "dropped":
        text = f"{_reason(lineage, reasons)} Rejected by the rule {lineage.rejected_by}.{_depends(lineage)}"
        events.append(LineageEvent("rejected", text, "lost"))
        if lineage.duplicate_of:
            is_kept = lineage.stays == lineage.duplicate_of and lineage.reason != "label_conflict"
            events.append(LineageEvent("kept instead" if is_kept else "its counterpart", _duplicate_of(lineage)))
            if lineage.stays and not is_kept:
                way = f", by way of {listed(lineage.chain[:-1])}" if len(lineage.chain) > 1 else ""
                events.append(LineageEvent("kept instead", f"{lineage.stays}{way}"))
            elif not lineage.stays:
                events.append(LineageEvent("kept instead", "None: its counterpart was rejected, too."))
        return events
    if lineage.shard:
        text = f"In split {lineage.split}, in shard {lineage.shard}."
    else:
        text = "No shard holds it: the store and the manifest disagree; run stoker verify."
    events.append(LineageEvent("kept", text, "kept" if lineage.shard else "lost"))
    return events


def former_text(former: Former, manifest: Manifest, text: str) -> str:
    """A candidate that only other versions know, as one line."""
    lineage, last = former.lineage, former.versions[-1]
    what = f"kept, in split {lineage.split}" if lineage.state == "kept" else f"{lineage.state} as {lineage.reason}"
    versions = listed([f"{manifest.corpus}@{version}" for version in former.versions], most=5)
    return visible(
        f"{manifest.reference} does not have {text}: {former.because}. It was in {versions}; in the last of them "
        f"{what}. More: stoker why {manifest.corpus}@{last} {lineage.key}"
    )


def _attempts(lineage: Lineage) -> list[LineageEvent]:
    """Each attempt that the ledger remembers, where there were several."""
    events, before = [], ""
    for one in lineage.attempts.made if len(lineage.attempts.made) > 1 else ():
        what = f"{one.reason} ({one.detail})" if one.detail else one.reason or "kept"
        if one.reason == KNOWN:
            what = "there again" if before == VANISHED else "unchanged"
        elif one.reason == VANISHED:
            what = "its source has it no more"
        before = one.reason
        times = f", attempt {one.tries} in a row without a lasting answer" if one.tries > 1 else ""
        events.append(LineageEvent("tried", f"{time_text(timestamp(one.at))}: {what}{times}."))
    return events


def _next_try(lineage: Lineage) -> str:
    """When it is asked for again; empty if nothing is remembered of it."""
    coming = lineage.attempts.next
    if coming is None or lineage.outcome_class == OutcomeClass.OWNER:
        return ""
    if coming.at is None:
        return f" It is asked for again by stoker ingest RECIPE --retry-failed={lineage.reason}."
    also = f", or when {coming.depends_on} changed" if coming.depends_on else ""
    return f" The next ingest from {time_text(timestamp(coming.at))} on asks for it again{also}."


def _origin(lineage: Lineage, source: str) -> str:
    url, page_url = lineage.record.get("url"), lineage.record.get("page_url")
    text = f"By {source}"
    text += f", at {url or page_url}" if url or page_url else ""
    text += f", on the page {page_url}" if url and page_url and page_url != url else ""
    # Last, and called a name: that of a partition of many files is the path of its first.
    return f"{text}. Read in the partition with the name {lineage.partition}."


def _redirected(record: Mapping[str, object]) -> str:
    """Where redirects led; empty if there were none."""
    final_url = record.get("final_url")
    return f", redirected to {final_url}" if final_url and final_url != record.get("url") else ""


def _measures(record: Mapping[str, object]) -> str:
    texts = []
    if isinstance(record.get("width"), int) and isinstance(record.get("height"), int):
        texts.append(f"{record['width']} × {record['height']} pixels")
    for name in ("characters", "words"):
        value = record.get(name)
        if isinstance(value, int | float):
            texts.append(f"{number_text(value)} {name}")
    size = record.get("size")
    if isinstance(size, int | float):
        texts.append(size_text(size))
    return f": {listed(texts, most=4)}" if texts else ""


def _reason(lineage: Lineage, reasons: Mapping[str, Reason]) -> str:
    meaning = reasons.get(lineage.reason, UNKNOWN).meaning
    text = f"{lineage.reason}: {meaning}" if meaning else lineage.reason
    text += f" ({lineage.detail})" if lineage.detail else ""
    return text + "."


def _depends(lineage: Lineage) -> str:
    return f" It depends on {lineage.outcome_class.depends_on}." if lineage.outcome_class else ""


def _duplicate_of(lineage: Lineage) -> str:
    similarity = "" if lineage.similarity is None else f", {percent_text(lineage.similarity)} similar"
    return lineage.duplicate_of + similarity + (", verified exactly" if lineage.verified else "")
