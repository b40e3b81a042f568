"""Frames of videos: of local files, or of URLs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from PIL import Image
from pydantic import Field

from stoker.pipelines.errors import NotAlone, NotAtOnce, SourceBroken, SourceUnavailable
from stoker.pipelines.images.codec import Format, encode
from stoker.pipelines.memory.file_notes import file_notes
from stoker.pipelines.partition import Partition, digest
from stoker.pipelines.rejected import OutcomeClass, Reason, Rejected
from stoker.pipelines.source import (
    AGAIN,
    CHANGED,
    FORGOTTEN,
    MAX_PREVIEW,
    STAMP_END,
    Candidate,
    Context,
    Source,
    TooLargeForPreview,
)
from stoker.pipelines.video.containers import check_library
from stoker.pipelines.video.decoding.selection import FrameTimes
from stoker.pipelines.video.frames import VideoFrame, VideoReader
from stoker.pipelines.video.names import (
    MAX_TEXT,
    Record,
    check_lists,
    check_names,
    clean_name,
    partitions_from_lists,
    partitions_from_names,
    video_key,
)
from stoker.pipelines.video.picture import Hdr, PictureOptions
from stoker.pipelines.video.stretches import Stretch, cut_film
from stoker.pipelines.web.downloads import Measures, claim, discard, first_measures, held, hold
from stoker.pipelines.web.links import normalise_listed
from stoker.pipelines.web.measured import measures_of
from stoker.pipelines.web.pages.licences import spdx_id
from stoker.pipelines.web.policy import Transient, as_final
from stoker.storage.clock import timestamp
from stoker.storage.shards.sample import Sample

_STAMP_DIGITS = 32  # hex digits: 128 bits
_STRETCH = "stretch"  # in the payload of a stretch of a film
_HELD = "held"  # in that of one behind a URL: SHA-256 and measures of what was downloaded
_OF_READING = frozenset({AGAIN, CHANGED, _STRETCH, _HELD})  # in payloads, and nothing of what is read
_LEAST_CUT = 4 << 20  # bytes of a film that may be cut: a smaller one is read soon
_SHARED_BYTES = 16 << 20  # of small files that are one raw part, at most
_LEAST_BYTES = 4 << 10  # that a file counts there: opening one costs as much
_SHARED_URLS = 256  # that are one raw part, at most: their sizes are not known
_ACCEPT = "video/*, */*;q=0.5"


@dataclass(frozen=True)
class VideoFrames(Source):
    """Frames of videos at a chosen rate: for each time the frame that is shown then, each frame at most once.

    A video is a partition, and its frames are one group, which stays in one split. The key of a local file is a hash of
    its path. A long one (mp4, mov, mkv, webm) is read in stretches of about five minutes at the same time, unless its
    frames might be others then; one behind a URL once it is downloaded. A damaged video gives the frames that can be
    decoded, and one reject. So is what matches a pattern and is no file that can be read, or a link that leads out of
    the recipe's folder. Of a list, the columns title, licence, author, attribution, label, caption and page_url go to
    the record.

    A record's ``time_s`` counts from the file's start, as players show it; ``offset_s`` is the time of the video's
    first frame. ``pts`` is the file's own time stamp in units of ``time_base``, a fraction of a second, on a clock that
    shows ``container_start_s`` at the file's start (absent: 0). Where time stamps step back or jump, as in joined
    recordings, times go on one frame after the last one, and ``time_note`` says so, as it does of frames with a time
    at or before that of the frame before. Where the file names its colours,
    they are in ``transfer``, ``primaries``, ``matrix`` and ``range``, by FFmpeg's names; ``bit_depth`` is there above
    8 bits (pictures have 8), ``hdr`` for frames in HDR and ``interlaced`` for interlaced ones.

    Args:
        videos (text or list, default none): paths or globs, relative to the recipe, and http(s) URLs.
        lists (text or list, default none): list files with one video a row (txt, csv, tsv, jsonl, parquet).
        url_column (text, default "url"): column of the lists with the path or URL.
        frames_per_second (number, default 1): frames taken of each second of the video.
        label ("", "folder" or "video", default ""): label where the list gives none: name of the folder or the video.
        start_s (number, default 0): seconds from the file's start at which to begin.
        end_s (number, default 0): seconds from the file's start at which to end; 0: the video's end.
        max_frames (number, default 10000): frames of one video, at most; what would be more is one reject, too_long.
        short_side (number, default 0): pixels; frames with a longer short side are reduced to it; 0: never.
        format ("jpg", "png" or "webp", default "jpg"): format in which the frames are stored.
        quality (number, default 90): quality of jpg and webp, 1 to 100.
        hdr ("tonemap", "reject" or "raw", default "tonemap"): HDR frames are mapped to SDR, rejected, or stored pale.
        deinterlace (true or false, default false): make interlaced frames of one of their two fields, without combs.
        max_megabytes (number, default 2000): size of one video file, at most.
        unreachable ("retry" or "reject", default "retry"): a silent server: fail for a retry, or reject for good.

    Example::

        corpus = "films"

        [source]
        name = "video_frames"
        videos = ["films/*.mp4", "https://example.org/garden.webm"]
        frames_per_second = 1
    """

    tells_all: ClassVar[bool] = True
    path_options: ClassVar[frozenset[str] | None] = frozenset({"videos", "lists"})
    planning: ClassVar[frozenset[str]] = frozenset({"videos", "lists", "url_column"})
    added: ClassVar[frozenset[str]] = frozenset({"hdr", "deinterlace"})
    reasons: ClassVar[Mapping[str, str | Reason]] = {
        "outside": Reason("a link that leads out of the recipe's folder", OutcomeClass.BYTES),
        "unreadable": Reason("a file that cannot be read, or is no ordinary file", OutcomeClass.MOMENT),
    }
    cuts_long: ClassVar[bool] = True
    stretch_s: ClassVar[float] = 300.0  # seconds of a long film that are read at one time, about

    videos: str | tuple[str, ...] = ()
    lists: str | tuple[str, ...] = ()
    url_column: str = "url"
    frames_per_second: Annotated[float, Field(gt=0, le=1000)] = 1.0
    label: Literal["", "folder", "video"] = ""
    start_s: Annotated[float, Field(ge=0, le=10**8)] = 0.0
    end_s: Annotated[float, Field(ge=0, le=10**8)] = 0.0
    max_frames: Annotated[int, Field(ge=1, le=10**9)] = 10_000
    short_side: Annotated[int, Field(ge=0, le=8192)] = 0
    format: Format = "jpg"
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    hdr: Hdr = "tonemap"
    deinterlace: bool = False
    max_megabytes: Annotated[float, Field(gt=0, le=10**6)] = 2000.0
    unreachable: Literal["retry", "reject"] = "retry"

    def __post_init__(self) -> None:
        if not self.videos and not self.lists:
            raise ValueError("expected videos (paths, globs or URLs) or lists (files that name them)")
        if self.end_s and self.end_s <= self.start_s:
            raise ValueError(f"end_s = {self.end_s:g} is not after start_s = {self.start_s:g}")

    def partitions(self, context: Context) -> Iterator[Partition]:
        """See Source."""
        seen: set[str] = set()
        with file_notes(context.notes, f"video_frames {context.root.absolute()} {self.videos} {self.lists}") as notes:
            for partition in chain(
                partitions_from_names(_as_tuple(self.videos), context, notes),
                partitions_from_lists(_as_tuple(self.lists), context, notes, column=self.url_column),
            ):
                if partition.name not in seen:
                    seen.add(partition.name)
                    yield partition

    def plans_from_files(self, context: Context) -> bool:
        """See Source. A URL is one partition, and is not asked for."""
        return True

    def stamp_of_whole(self, partition: Partition) -> str:
        """See Source. Of the video's bytes, or its URL, and of what a list says of it."""
        payload = {name: value for name, value in partition.payload.items() if name not in _OF_READING}
        return digest([payload, partition.fingerprint])[:_STAMP_DIGITS]

    def url_of_whole(self, partition: Partition) -> str:
        """See Source."""
        return "" if {"path", "refused"} & set(partition.payload) else str(partition.payload["url"])

    def stretches(self, partition: Partition, context: Context) -> Sequence[Partition]:
        """See Source."""
        if "path" not in partition.payload:
            return ()  # of a URL they are known once it is downloaded
        path = context.path(partition.payload["path"])
        if not path.is_file() or not _LEAST_CUT <= path.stat().st_size <= self.max_megabytes * 1e6:
            return ()
        return self._cut(partition, path)

    def whole(self, partition: Partition, stretches: Sequence[Partition]) -> Partition:
        """See Source. Of a URL with what was downloaded."""
        kept = {name: value for name, value in stretches[0].payload.items() if name == _HELD}
        return replace(partition, payload={**partition.payload, **kept})

    def release(self, stretches: Sequence[Partition], context: Context) -> None:
        """See Source."""
        for stretch in stretches[:1]:
            if _HELD in stretch.payload:
                discard(context.downloads, stretch.payload["url"], stretch.payload[_HELD]["sha256"])

    def _cut(
        self, partition: Partition, path: Path, held: Mapping[str, Any] | None = None
    ) -> list[Partition]:  # Any: JSON
        """The stretches of a film; ``held``: what was downloaded of it."""
        more = {} if held is None else {_HELD: held}
        stretches = cut_film(path, self._times, seconds=self.stretch_s)
        payloads = ({**partition.payload, **more, _STRETCH: stretch.to_json()} for stretch in stretches)
        return [replace(partition, payload=payload) for payload in payloads]

    def share(self, partition: Partition, context: Context) -> float:
        """See Source. A file by its size, a URL of a list by itself. One that ``videos`` names may be a long film."""
        path = partition.payload.get("path")
        if path is None:
            return 1.0 if partition.payload["url"] in self._named_urls else 1 / _SHARED_URLS
        try:
            return max(_LEAST_BYTES, context.path(path).stat().st_size) / _SHARED_BYTES
        except OSError:  # reading it tells that
            return 1.0

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """See Source. Of a video that is read again the frames that are known are not."""
        whole, is_of_url = self.stamp_of_whole(partition), bool(self.url_of_whole(partition))
        for candidate in self._read(partition, context):
            # The same bytes are the same frames, whatever validator their server sends with them now.
            sha256 = candidate.sample.record.get("sha256") if is_of_url else None
            stamp = f"{whole}{STAMP_END}{sha256[:_STAMP_DIGITS]}" if sha256 else whole
            if candidate.rejected is None and context.known.has(candidate.sample.key, stamp=stamp, always_stamped=True):
                unchanged = Candidate.unchanged(candidate.sample.key, measures=candidate.sample.measures)
                yield replace(unchanged, omitted=candidate.omitted)
            else:
                yield replace(candidate, stamp=stamp)

    def _read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        payload = partition.payload
        key = video_key(payload["identity"])
        record: Record = {
            "url": payload["url"],
            **_label(self.label, payload),
            **payload["record"],
            "group": key,
        }
        bare = Sample(key, {}, record)
        stretch = Stretch.from_json(payload[_STRETCH]) if _STRETCH in payload else None
        if "refused" in payload:
            yield Candidate(bare, Rejected(*payload["refused"]))
        elif "path" in payload:
            path = context.path(payload["path"])
            if not path.is_file():
                raise SourceBroken(f"{partition.name}: the file was there when the run began, and is gone; run again")
            if path.stat().st_size > self.max_megabytes * 1e6:
                yield Candidate(bare, Rejected("too_large", f"{path.stat().st_size} bytes"))
                return
            measures = {"fetched_at": timestamp(context.now())}
            yield from self._frames(path, key, record | {"sha256": partition.fingerprint}, measures, stretch)
        elif context.is_forgotten({**record, "key": key}):
            if stretch is not None:
                raise NotAlone("it was forgotten")
            discard(context.downloads, payload["url"])
            yield Candidate(bare, FORGOTTEN)
        else:
            if _HELD in payload:
                sha256, measures = payload[_HELD]["sha256"], payload[_HELD]["measures"]
                with held(context.downloads, payload["url"], sha256) as download:
                    if download is not None:
                        yield from self._frames(download, key, record | {"sha256": sha256}, measures, stretch)
                        return
            if stretch is not None:
                raise NotAlone("what was downloaded is not there any more")
            yield from self._fetch(partition, bare, context)

    def check(self, context: Context) -> None:
        """See Source."""
        check_library()
        check_names(_as_tuple(self.videos), context)
        check_lists(_as_tuple(self.lists), context, column=self.url_column)

    def preview(self, context: Context) -> Iterator[Candidate]:
        """See Source."""
        limit = min(self.max_megabytes, MAX_PREVIEW / 1e6)
        for partition in self.partitions(context):
            remote = "url" in partition.payload and not {"path", "refused"} & set(partition.payload)
            for candidate in (replace(self, max_megabytes=limit) if remote else self).read(partition, context):
                rejected = candidate.rejected
                if remote and rejected and rejected.reason == "too_large" and limit < self.max_megabytes:
                    url = partition.payload["url"]
                    raise TooLargeForPreview(f"{url}: more than {limit:.0f} MB; download it first to see a sample")
                yield candidate

    def _fetch(self, partition: Partition, bare: Sample, context: Context) -> Iterator[Candidate]:
        url = partition.payload["url"]
        with claim(context.downloads, url) as path:
            limit = int(self.max_megabytes * 1e6)
            answer = context.web.download(url, path, max_size=limit, accept=_ACCEPT, outlasts=True)
            if isinstance(answer, Transient) and self.unreachable == "retry":
                raise SourceUnavailable(
                    f"{url}: {answer.reason} ({answer.detail}); try again later, "
                    "or set unreachable = 'reject' in the recipe to go on without it for good"
                )
            if isinstance(answer, Rejected):
                yield Candidate(bare, as_final(answer))
            else:
                record = {**bare.record, "sha256": answer.sha256}
                measures = first_measures(path, answer.sha256, measures_of(answer))
                if context.may_cut and answer.size >= _LEAST_CUT:
                    stretches = self._cut(partition, path, held={"sha256": answer.sha256, "measures": measures})
                    if stretches and hold(path, answer.sha256, measures):
                        raise NotAtOnce(stretches)
                yield from self._frames(path, bare.key, record, measures)

    @cached_property
    def _named_urls(self) -> frozenset[str]:
        """The URLs that ``videos`` names."""
        urls = set[str]()
        for text in _as_tuple(self.videos):
            with suppress(ValueError):  # reading it tells that
                urls.add(normalise_listed(text))
        return frozenset(urls)

    @property
    def _times(self) -> FrameTimes:
        return FrameTimes(
            per_second=Fraction(str(self.frames_per_second)),
            start=Fraction(str(self.start_s)),
            end=Fraction(str(self.end_s)) if self.end_s else None,
            limit=self.max_frames,
        )

    def _frames(
        self, path: Path, key: str, record: Record, measures: Measures, stretch: Stretch | None = None
    ) -> Iterator[Candidate]:
        video = VideoReader(path, PictureOptions(hdr=self.hdr, deinterlace=self.deinterlace), stretch)
        frames = 0
        last: Candidate | None = None
        for frame in video.frames(self._times):
            if last is not None:
                yield last
            frames += 1
            described = _merge_metadata(video.metadata, record) | video.facts
            last = self._candidate(frame, key, described, measures)
        if last is not None:
            yield replace(last, omitted=_omitted(video, frames))
        fault = video.fault
        if stretch is not None and (fault is not None or not frames):
            raise NotAlone(f"it has {fault or 'no frame'}")
        if fault is None and not frames:
            fault = Rejected("too_short", _describe_span(video, self))
        if fault is not None:
            detail = f"{fault.detail}; {frames} frames were taken" if frames else fault.detail
            sample = Sample(key, {}, _merge_metadata(video.metadata, record), measures)
            omitted = {} if frames else _omitted(video, 0)
            yield Candidate(sample, Rejected(fault.reason, detail), omitted)

    def _candidate(self, frame: VideoFrame, key: str, record: Record, measures: Measures) -> Candidate:
        record = record | {"video": key, "time_s": round(float(frame.time), 6), "pts": frame.pts, **frame.facts}
        name = f"{key}-{round(frame.time * 1000):09d}"
        if isinstance(frame.picture, Rejected):
            return Candidate(Sample(name, {}, record, measures), frame.picture)
        picture = frame.picture
        shorter = min(picture.size)
        if 0 < self.short_side < shorter:
            scale = self.short_side / shorter
            width, height = (max(1, round(side * scale)) for side in picture.size)
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        payload = encode(picture, self.format, quality=self.quality)
        return Candidate(Sample(name, {self.format: payload}, record, measures))


def _as_tuple(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _omitted(video: VideoReader, frames: int) -> Mapping[str, int]:
    """The frames of a video that were read and not taken; a packet counts as a frame."""
    counts = {
        "video frame not decoded, at no wanted time": video.left_out,
        "video frame decoded, at no wanted time": video.packets - video.left_out - frames,
    }
    return {name: count for name, count in counts.items() if count > 0}


def _describe_span(video: VideoReader, source: VideoFrames) -> str:
    """Why no frame lies within the bounds of the recipe."""
    begin, end = video.facts.get("offset_s", 0.0), float(video.length)
    if source.end_s and begin >= source.end_s:
        return f"it begins at {begin:.3f} s, not before end_s = {source.end_s:g}"
    return f"it ends at {end:.3f} s, before start_s = {source.start_s:g}"


def _merge_metadata(metadata: Mapping[str, str], record: Record) -> Record:
    """The record, completed from the video file's metadata; what the record has already stays."""
    copyright_text = metadata.get("copyright") or ""
    is_licence = copyright_text.startswith(("CC", "https://creativecommons.org/", "http://creativecommons.org/"))
    values = {
        "title": metadata.get("title") or Path(str(record["url"]).split("?")[0].removeprefix("file:")).stem,
        "author": metadata.get("artist") or metadata.get("author") or "",
        "licence": spdx_id(metadata.get("license") or (copyright_text if is_licence else "")),
        "attribution": "" if is_licence else copyright_text,
    }
    clean = {name: " ".join(text.split())[:MAX_TEXT] for name, text in values.items()}
    return {name: text for name, text in clean.items() if text} | record


def _label(kind: str, payload: Mapping[str, Any]) -> Record:
    """The label from a video's path or URL: the name of its folder, or its own name."""
    # A file outside of the recipe's folder has a URL without folders; its path has them.
    text = payload.get("path") or unquote(urlsplit(payload["url"]).path)
    path = PurePosixPath(text)
    label = path.parent.name if kind == "folder" else path.stem if kind == "video" else ""
    return {"label": clean_name(label)} if label else {}
