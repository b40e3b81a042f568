"""Samples as the web page shows them: previews, texts, provenance and the versions that hold them."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from urllib.parse import unquote, urlsplit

from stoker.flows.page.pictures import TINY
from stoker.flows.report.samples import SampleEntry, SampleReader
from stoker.pipelines.images.formats import EXTENSIONS
from stoker.storage.errors import CorruptShard, NotFound, StorageRefused
from stoker.storage.shards.shard import Member
from stoker.storage.versions.manifest import Manifest

TEXTS = ("txt", "cls", "md", "html", "csv", "xml")
_EXCERPT_SIZE = 1600  # bytes of a text that are read for an excerpt
_MAX_TEXT = 65_536  # bytes of a text on the sample's page
_MAX_PROVEN = 2**20  # bytes of a text that is read whole, to compare it with its checksum
_MAX_UNKNOWN = 4096  # bytes of a field that is shown if it decodes as text
_VERSIONS = 20  # the newest ones, in which a sample is searched
_PROVENANCE = (
    ("url", "file"),
    ("page_url", "page"),
    ("title", "title"),
    ("licence", "licence"),
    ("author", "author"),
    ("attribution", "attribution"),
    ("group", "group"),
    ("source", "source"),
    ("sha256", "SHA-256 of the fetched bytes"),
    ("code", "Stoker version"),
    ("recipe", "recipe for fetching"),
    ("part", "raw part"),
)


@dataclass(frozen=True, slots=True)
class SamplePreview:
    """A sample in a grid, or at the top of its own page. All texts are untrusted."""

    key: str
    split: str
    shard: int
    mark: str  # part of the shard's checksum, so that a browser's cache never shows the picture of another store
    members: tuple[Member, ...]
    picture: bool
    proven: bool  # the picture is compared with a checksum of the index when it is shown
    tiny: bool
    title: str
    caption: str
    excerpt: str
    tag: str  # a few words below the picture
    heading: str
    below: str  # a second line, "" if there is none


@dataclass(frozen=True, slots=True)
class TextField:
    """A field that is text; the page shows the first ``shown`` of its ``size`` bytes."""

    extension: str
    text: str
    shown: int
    size: int
    proven: bool = False  # compared with a checksum of the index

    @property
    def cut(self) -> bool:
        """Whether the text is longer than what is shown."""
        return self.shown < self.size


@dataclass(frozen=True, slots=True)
class VersionMembership:
    """Whether a version holds the sample; None: it cannot be read."""

    version: int
    holds: bool | None


def previews(reader: SampleReader, manifest: Manifest, entries: Sequence[SampleEntry]) -> list[SamplePreview]:
    """The previews of a page of samples; excerpts of texts are read concurrently."""
    if not entries:
        return []
    with ThreadPoolExecutor(8, thread_name_prefix="excerpts") as pool:
        return list(pool.map(preview, repeat(reader), repeat(manifest), entries))


def preview(reader: SampleReader, manifest: Manifest, entry: SampleEntry) -> SamplePreview:
    """The preview of one sample, with an excerpt if it is a text."""
    image = entry.member(*EXTENSIONS)
    picture = image is not None
    excerpt = "" if picture else _excerpt(reader, manifest, entry)
    record = entry.record
    sides = [record.get(name) for name in ("width", "height")]
    title, caption = _text(record.get("title")), _text(record.get("caption"))
    label, language = _text(record.get("label")), _text(record.get("language"))
    headings = [text for text in ((caption, title) if picture else (title, caption)) if text]
    return SamplePreview(
        key=entry.key,
        split=entry.split,
        shard=entry.shard,
        mark=manifest.shards[entry.shard].sha256[:8],
        members=entry.members,
        picture=picture,
        proven=image is not None and bool(entry.proof(image, manifest)),
        tiny=all(isinstance(side, int) and side <= TINY for side in sides),
        title=title,
        caption=caption or title,
        excerpt=excerpt,
        tag=label or (caption or _file_name(record.get("url")) if picture else language) or title or entry.key,
        heading=headings[0] if headings else entry.key,
        below=headings[1] if len(headings) == 2 and headings[1] != headings[0] else "",
    )


def _excerpt(reader: SampleReader, manifest: Manifest, entry: SampleEntry) -> str:
    member = entry.member(*TEXTS)
    if member is None:
        return ", ".join(f".{member.extension}" for member in entry.members)
    tar, proof = manifest.shards[entry.shard].key, entry.proof(member, manifest, _MAX_PROVEN)
    try:
        payload = reader.read(tar, member, most=_EXCERPT_SIZE, of=manifest, proof=proof)
    except CorruptShard as error:  # of one sample among many of a page
        return f"damaged: {error}"
    return payload.decode("utf-8", "replace")


def texts(reader: SampleReader, manifest: Manifest, entry: SampleEntry) -> Iterator[TextField]:
    """The sample's text fields: those with a known extension, and short ones that decode as UTF-8."""
    tar = manifest.shards[entry.shard].key
    for member in entry.members:
        if member.extension == "json" or member.extension in EXTENSIONS:
            continue
        known = member.extension in TEXTS
        if not known and member.size > _MAX_UNKNOWN:
            continue
        proof = entry.proof(member, manifest, _MAX_PROVEN)
        payload = reader.read(tar, member, most=_MAX_TEXT, of=manifest, proof=proof)
        if not known and not _is_text(payload):
            continue
        text = payload.decode("utf-8", "replace")
        yield TextField(member.extension, text, len(payload), member.size, bool(proof))


def _is_text(payload: bytes) -> bool:
    try:
        return "\0" not in payload.decode("utf-8")
    except UnicodeDecodeError:
        return False


def provenance(record: Mapping[str, object]) -> list[tuple[str, object]]:
    """Where a sample comes from: labels and values."""
    return [(title, record[name]) for name, title in _PROVENANCE if record.get(name) not in (None, "")]


def columns_of(record: Mapping[str, object]) -> list[tuple[str, object]]:
    """Every column that has a value, sorted by name."""
    return sorted((name, value) for name, value in record.items() if value is not None)


def memberships(reader: SampleReader, manifest: Manifest, entry: SampleEntry) -> list[VersionMembership]:
    """Which of the newest versions hold the sample's key. A shard that versions share is not searched again."""
    versions = reader.versions(manifest.corpus)[-_VERSIONS:]
    own = manifest.shards[entry.shard].identity
    result = []
    for version in versions:
        try:
            other = manifest if version == manifest.version else reader.manifest(manifest.corpus, version)
            if all(shard.identity != own for shard in other.shards):
                reader.find(other, entry.key)
            result.append(VersionMembership(version, True))
        except NotFound:
            result.append(VersionMembership(version, False))
        except (CorruptShard, StorageRefused):  # the page of that version says what is wrong with it
            result.append(VersionMembership(version, None))
    return result


def _file_name(url: object) -> str:
    """The file name in a URL.

    >>> _file_name("https://example.org/a/moon%20rise.png?size=2")
    'moon rise.png'
    """
    try:
        return unquote(urlsplit(str(url or "")).path).rpartition("/")[2]
    except ValueError:
        return ""


def _text(value: object) -> str:
    return "" if value is None else str(value)
