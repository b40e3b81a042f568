"""Frames of video files and of videos on the web."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from PIL import Image
from pydantic import Field

from stoker.pipelines.errors import SourceBroken, SourceUnavailable
from stoker.pipelines.images.codec import Format, encode
from stoker.pipelines.partition import Partition
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import Candidate, Context, Source
from stoker.pipelines.video.frames import FrameTimes, VideoFrame, VideoReader
from stoker.pipelines.video.names import MAX_TEXT, Record, partitions_from_lists, partitions_from_names, video_key
from stoker.pipelines.web.pages.licences import spdx
from stoker.pipelines.web.policy import Transient
from stoker.storage.shards.sample import Sample

_ACCEPT = "video/*, */*;q=0.5"


@dataclass(frozen=True)
class VideoFrames(Source):
    """Frames of videos at a chosen rate: for each time the frame that is then being shown, and each frame once.

    ``videos`` are paths or globs, relative to the recipe, and http(s) URLs; ``lists`` name them one a row (txt, csv,
    tsv, jsonl, parquet), where columns called title, licence, author, label or caption are carried along. A video is
    a partition, and its frames are one group, which no split tears apart. A file's key is that of its path.

    Example::

        corpus = "films"

        [source]
        name = "video_frames"
        videos = ["films/*.mp4", "https://example.org/garden.webm"]
        frames_per_second = 1
    """

    planning: ClassVar[frozenset[str]] = frozenset({"videos", "lists", "url_column"})

    videos: str | tuple[str, ...] = ()
    lists: str | tuple[str, ...] = ()
    url_column: str = "url"
    frames_per_second: Annotated[float, Field(gt=0, le=1000)] = 1.0
    label: Literal["", "folder", "video"] = ""  # of frames whose list says none: the folder's name, the video's name
    start_s: Annotated[float, Field(ge=0)] = 0.0
    end_s: Annotated[float, Field(ge=0)] = 0.0  # 0: the video's end
    max_frames: Annotated[int, Field(ge=1)] = 10_000  # of one video
    short_side: Annotated[int, Field(ge=0, le=8192)] = 0  # pixels; larger frames are shrunk to it; 0: as they are
    format: Format = "jpg"
    quality: Annotated[int, Field(ge=1, le=100)] = 90
    max_megabytes: Annotated[float, Field(gt=0)] = 2000.0  # of one video file
    unreachable: Literal["retry", "reject"] = "retry"  # a server that does not answer at all: fail and retry, or go on

    def __post_init__(self) -> None:
        if not self.videos and not self.lists:
            raise ValueError("expected videos (paths, globs or URLs) or lists (files that name them)")
        if self.end_s and self.end_s <= self.start_s:
            raise ValueError(f"end_s = {self.end_s:g} is not behind start_s = {self.start_s:g}")

    def partitions(self, context: Context) -> Iterator[Partition]:
        """See Source."""
        seen: set[str] = set()
        for partition in (
            *partitions_from_names(_each(self.videos), context.root),
            *partitions_from_lists(_each(self.lists), context.root, column=self.url_column),
        ):
            if partition.name not in seen:
                seen.add(partition.name)
                yield partition

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """See Source."""
        asked = partition.payload
        key = video_key(asked["identity"])
        record: Record = {"url": asked["url"], **_label(self.label, asked["url"]), **asked["record"], "group": key}
        bare = Sample(key, {}, record)
        if "refused" in asked:
            yield Candidate(bare, Rejected(*asked["refused"]))
        elif "path" in asked:
            path = context.root / asked["path"]
            if not path.is_file():
                raise SourceBroken(f"{partition.name}: the file was there when the run began, and is gone; run again")
            if path.stat().st_size > self.max_megabytes * 1e6:
                yield Candidate(bare, Rejected("too_large", f"{path.stat().st_size} bytes"))
                return
            fetched_at = datetime.now(UTC).isoformat(timespec="seconds")
            yield from self._frames(path, key, record | {"sha256": partition.fingerprint}, fetched_at)
        else:
            yield from self._fetched(asked["url"], bare, context)

    def _fetched(self, url: str, bare: Sample, context: Context) -> Iterator[Candidate]:
        path = context.scratch / f"{bare.key}.video"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            answer = context.web.download(url, path, max_size=int(self.max_megabytes * 1e6), accept=_ACCEPT)
            if isinstance(answer, Transient) and self.unreachable == "retry":
                raise SourceUnavailable(
                    f"{url}: {answer.reason} ({answer.detail}); try again later, "
                    "or set unreachable = 'reject' in the recipe to go on without it"
                )
            if isinstance(answer, Rejected):
                yield Candidate(bare, answer)
            else:
                record = {**bare.record, "sha256": answer.sha256}
                yield from self._frames(path, bare.key, record, answer.fetched_at)
        finally:
            path.unlink(missing_ok=True)

    def _frames(self, path: Path, key: str, record: Record, fetched_at: str) -> Iterator[Candidate]:
        video = VideoReader(path)
        times = FrameTimes(
            per_second=Fraction(str(self.frames_per_second)),
            start=Fraction(str(self.start_s)),
            end=Fraction(str(self.end_s)) if self.end_s else None,
            limit=self.max_frames,
        )
        found = 0
        for frame in video.frames(times):
            found += 1
            told = _told(video.metadata, record)
            yield self._candidate(frame, key, told, fetched_at)
        fault = video.fault
        if fault is None and not found:
            fault = Rejected("too_short", f"it ends at {float(video.length):.3f} s, before start_s = {self.start_s:g}")
        if fault is not None:
            note = f"{fault.detail}; {found} frames were taken" if found else fault.detail
            measures = {"fetched_at": fetched_at}
            yield Candidate(Sample(key, {}, _told(video.metadata, record), measures), Rejected(fault.reason, note))

    def _candidate(self, frame: VideoFrame, key: str, record: Record, fetched_at: str) -> Candidate:
        record = record | {"video": key, "time_s": round(float(frame.time), 6), "pts": frame.pts}
        name = f"{key}-{round(frame.time * 1000):09d}"
        measures = {"fetched_at": fetched_at}
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


def _each(one_or_many: str | tuple[str, ...]) -> tuple[str, ...]:
    return (one_or_many,) if isinstance(one_or_many, str) else one_or_many


def _told(metadata: Mapping[str, str], record: Record) -> Record:
    """The record, with what the file says of itself where nothing better is known."""
    owner = metadata.get("copyright") or ""
    free = owner.startswith(("CC", "https://creativecommons.org/", "http://creativecommons.org/"))
    said = {
        "title": metadata.get("title") or Path(str(record["url"]).split("?")[0].removeprefix("file:")).stem,
        "author": metadata.get("artist") or metadata.get("author") or "",
        "licence": spdx(metadata.get("license") or (owner if free else "")),
        "attribution": "" if free else owner,
    }
    clean = {name: " ".join(text.split())[:MAX_TEXT] for name, text in said.items()}
    return {name: text for name, text in clean.items() if text} | record


def _label(kind: str, url: str) -> Record:
    """What the frames of a video are examples of, as its URL or path tells."""
    path = PurePosixPath(unquote(urlsplit(url).path or url.removeprefix("file:")))
    label = path.parent.name if kind == "folder" else path.stem if kind == "video" else ""
    return {"label": label} if label else {}
