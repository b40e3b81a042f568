"""Articles of a MediaWiki dump as plain text."""

import fnmatch
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from stoker.pipelines.errors import RecipeError, SourceBroken, SourceUnavailable
from stoker.pipelines.memory.file_notes import file_notes
from stoker.pipelines.memory.unchanged import NOTHING_KNOWN, KnownSamples
from stoker.pipelines.partition import Partition
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.source import MAX_PREVIEW, Candidate, Context, Source, TooLargeForPreview
from stoker.pipelines.web.downloads import claim
from stoker.pipelines.web.links import normalise_listed, redact
from stoker.pipelines.web.measured import measures_of
from stoker.pipelines.web.policy import Transient
from stoker.pipelines.wikipedia.dump_files import DumpFile, open_dump, scan_dump
from stoker.pipelines.wikipedia.dump_index import check_index, find_index
from stoker.pipelines.wikipedia.export_xml import (
    DumpPage,
    base36_sha1,
    find_id_and_title,
    find_revision,
    find_sha1,
    parse_page,
)
from stoker.pipelines.wikipedia.page_cutter import RawPage
from stoker.pipelines.wikipedia.page_record import page_record, page_structure
from stoker.pipelines.wikipedia.pages import raw_pages
from stoker.pipelines.wikipedia.site import SiteInfo, has_siteinfo, read_siteinfo, site_named
from stoker.pipelines.wikipedia.wikitext.clean import WikiLocale, plain_text, redirect_target
from stoker.pipelines.wikipedia.wikitext.variants import variant_named
from stoker.storage.plain_file import describe_missing
from stoker.storage.shards.sample import Sample

_log = logging.getLogger(__name__)

_WARNED_SHARE, _WARNED_COUNT = 0.05, 5  # of texts that do not match their checksums
_MAX_DOWNLOAD = 256 << 30  # bytes
_MAX_CHECKED_FILES = 100
_SKIPPED = re.compile(r"multistream-index|sums\.txt$|\.(?:json|html|rss|txt|md5|sha1|sha256)$")


@dataclass(frozen=True)
class WikipediaDump(Source):
    """Pages of a MediaWiki dump (``pages-articles``, also multistream and ``pages-meta``), cleaned to plain text.

    A dump is XML, plain or compressed as .bz2 or .gz. Plain XML and bz2 of many streams are read in partitions, other
    files as one partition each. A damaged page is rejected as ``corrupt``, a piece of the dump of which nobody knows
    how many pages it held as ``lost``: a bz2 block that does not decode, or the end of a dump that is cut short. Where
    the first block is damaged, which names the wiki, another file of the same wiki tells, or ``wiki`` and ``language``,
    or the file's name. A file that is no dump (empty, a web page) is an error. An index beside a multistream dump tells
    which pages a block held. Of several revisions the newest counts. Each page
    outside of ``namespaces``, each redirect and each page whose text does not match the dump's own checksum is rejected
    and counted. The content behind a URL is assumed not to change, as for dated dumps.

    With ``sha1 = "mark"`` a text that differs is kept, with ``sha1_matches`` false in its record. Texts of Wikimedia's
    wikis are CC-BY-SA-4.0 since 2023-06-07, before CC-BY-SA-3.0. ``wiki`` and ``language`` may be tables of patterns of
    files' names: ``wiki = {"en*" = "enwiki", "*" = "dewiki"}``; the first that fits counts.

    Chinese, Serbian and some other wikis mark what is written differently in variants of their language. Without
    ``variant`` a Chinese page is read as in "zh", which takes the simplified form of a mark that has no form for it
    ("zh-hans", then "zh-hant"); other text stays in the script its author wrote, so pages of both scripts come out.
    Serbian: "sr", then Cyrillic. With ``variant`` the record names it. The report of a version tells which templates
    were dropped most.

    Args:
        dump (text or list): paths or globs, relative to the recipe, and http(s) URLs.
        namespaces (list of numbers, default [0]): namespaces whose pages are kept; []: all.
        redirects (true or false, default false): keep each redirect as a sample whose text is the target's title.
        tables (true or false, default false): keep the cells of tables in the text.
        sha1 (text, default "reject"): "reject", "mark" or "ignore" texts that differ from the dump's own checksums.
        licence (text, default by date): licence of all pages; by default that of Wikimedia on the revision's day.
        wiki (text or table, default none): database name such as "enwiki", for dumps that do not give it.
        language (text or table, default none): language code, for dumps that do not give it.
        variant (text, default the wiki's first): variant to read where a wiki marks several, such as "zh-hant".
        partition_megabytes (number, default 16): about so much of a file is one partition.

    Example::

        [source]
        name = "wikipedia_dump"
        dump = "simplewiki-20260101-pages-articles-multistream.xml.bz2"
    """

    version: ClassVar[int] = 2
    path_options: ClassVar[frozenset[str] | None] = frozenset({"dump"})
    planning: ClassVar[frozenset[str]] = frozenset({"dump", "partition_megabytes"})
    tells_all: ClassVar[bool] = True

    dump: str | tuple[str, ...]
    namespaces: tuple[int, ...] = (0,)
    redirects: bool = False
    tables: bool = False
    sha1: Literal["reject", "mark", "ignore"] = "reject"
    licence: str = ""
    wiki: str | Mapping[str, str] = ""
    language: str | Mapping[str, str] = ""
    variant: str = ""
    partition_megabytes: Annotated[int, Field(ge=1, le=10**6)] = 16

    def __post_init__(self) -> None:
        for wiki in self.wiki.values() if isinstance(self.wiki, Mapping) else [self.wiki]:
            if wiki and not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", wiki):
                raise ValueError(f"wiki {wiki!r}: expected the name of its database, such as enwiki")
        if self.variant and not variant_named(self.variant):
            raise ValueError(
                f"variant {self.variant!r}: expected one that MediaWiki converts, such as zh-hant or sr-el"
            )

    def partitions(self, context: Context) -> Iterator[Partition]:
        """See Source."""
        files = self._files(context)
        for url in self._urls():
            yield Partition(url.rpartition("/")[2] or url, {"url": url})
        with file_notes(
            context.notes, f"wikipedia_dump {context.root.absolute()} {self.dump} {self.partition_megabytes}"
        ) as notes:
            for name, path in files.items():
                read = [path, *([index] if (index := find_index(path)) else [])]
                scanned = notes.of(f"ranges of {self.partition_megabytes}", read, partial(self._scanned, path))
                moved, ranges = scanned["moved"], scanned["ranges"]
                for start, stop in ranges:
                    partition_name = f"{name}@{start:012d}" if len(ranges) > 1 else name
                    payload = {"file": name, "start": start, "stop": stop} | moved
                    yield Partition(partition_name, payload, scanned["fingerprint"])

    def plans_from_files(self, context: Context) -> bool:
        """See Source. A URL is one partition, and is not asked for."""
        return True

    def url_of_whole(self, partition: Partition) -> str:
        """See Source."""
        return str(partition.payload.get("url", ""))

    def _scanned(self, path: Path) -> dict[str, Any]:  # Any: JSON values
        """What the partitions of a file are made of."""
        dump = scan_dump(path)
        return {
            "moved": {} if check_index(dump) else {"moved": True},
            "ranges": dump.byte_ranges(self.partition_megabytes << 20),
            "fingerprint": f"{dump.size}-{dump.sha256}",
        }

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        """See Source."""
        payload = partition.payload
        if "url" not in payload:
            path = self._files(context).get(payload["file"])
            if path is None:
                raise SourceBroken(f"{payload['file']}: the file was there when the work was planned, and is gone")
            dump = open_dump(path)
            if dump.size != int(partition.fingerprint.partition("-")[0]):
                raise SourceBroken(f"{path}: it has changed since the work was planned; run the same command again")
            raws = raw_pages(dump, payload["start"], payload["stop"], moved=payload.get("moved", False))
            yield from self._candidates(dump, raws, self._site(dump, context), context.known)
            return
        yield from self._download(payload["url"], context, max_size=_MAX_DOWNLOAD)

    def _download(self, url: str, context: Context, *, max_size: int) -> Iterator[Candidate]:
        """The candidates of the dump at a URL."""
        with claim(context.downloads, url) as path:
            fetched = context.web.download(url, path, max_size=max_size, outlasts=True)
            if isinstance(fetched, Rejected):
                if fetched.reason == "too_large" and max_size < _MAX_DOWNLOAD:
                    raise TooLargeForPreview(
                        f"{url}: more than {max_size >> 20} MiB; download it first to see a sample"
                    )
                error = SourceUnavailable if isinstance(fetched, Transient) else SourceBroken
                raise error(f"{url}: {fetched.reason}: {fetched.detail}")
            dump = open_dump(path)
            site, measures = self._site(dump, context), measures_of(fetched)
            for candidate in self._candidates(dump, raw_pages(dump, 0, dump.size), site, context.known):
                yield replace(candidate, sample=replace(candidate.sample, measures=measures))

    def check(self, context: Context) -> None:
        """See Source."""
        for url in self._urls():
            try:
                normalise_listed(url)
            except ValueError as error:
                raise RecipeError(f"source 'wikipedia_dump': dump {redact(url)!r}: {error}; expected a URL") from None
        for path in islice(self._files(context).values(), _MAX_CHECKED_FILES):
            self._site(open_dump(path), context)

    def describe_input(self, context: Context) -> Iterator[str]:
        """See Source. Which files are damaged at their beginning."""
        for path in islice(self._files(context).values(), _MAX_CHECKED_FILES):
            if damage := (dump := open_dump(path)).damage:
                site = self._site(dump, context)
                yield f"{path.name}: {damage}; what is behind it is read as of {site.wiki}, language {site.language}"

    def preview(self, context: Context) -> Iterator[Candidate]:
        """See Source. The first pages of each file, without a look at the rest."""
        for path in self._files(context).values():
            dump = open_dump(path)
            yield from self._candidates(dump, raw_pages(dump, 0, dump.size), self._site(dump, context))
        for url in self._urls():
            yield from self._download(url, context, max_size=MAX_PREVIEW)

    @property
    def _dumps(self) -> tuple[str, ...]:
        return (self.dump,) if isinstance(self.dump, str) else self.dump

    def _urls(self) -> list[str]:
        return [dump for dump in self._dumps if _is_url(dump)]

    def _files(self, context: Context) -> Mapping[str, Path]:
        """The local files by name, sorted with numbers in names by value."""
        paths: list[Path] = []
        for dump in self._dumps:
            if not _is_url(dump):
                paths += _matching_files(dump, context)
        if not paths and not self._urls():
            raise RecipeError("source 'wikipedia_dump': dump: none of the files is a dump; expected .xml, .bz2 or .gz")
        ordered = sorted(set(paths), key=lambda path: (_natural(path.name), str(path)))
        names = [path.name for path in ordered]
        return {
            path.name if names.count(path.name) == 1 else f"{path.parent.name}/{path.name}": path for path in ordered
        }

    def _site(self, dump: DumpFile, context: Context) -> SiteInfo:
        """The wiki of a dump; of one whose siteinfo is damaged, from another file of it or by name."""
        name = dump.path.name
        wiki, language = _for_file(self.wiki, name), _for_file(self.language, name)
        is_lost = dump.damage != "" and not has_siteinfo(dump.head)
        if is_lost:
            info = self._site_of_other_file(dump.path, context) or site_named(wiki or name, language)
        else:
            info = read_siteinfo(dump.head, wiki or name)
        info = replace(info, wiki=wiki or info.wiki, language=language or info.language)
        if is_lost and not info.is_known:
            raise SourceBroken(
                f"{name}: {dump.damage}: it does not tell the wiki that it is of, nor does its name or another file; "
                'download it again, or set wiki = "..." (such as "dewiki") and language = "..."'
            )
        return info

    def _site_of_other_file(self, damaged: Path, context: Context) -> SiteInfo | None:
        """The siteinfo of the first other file of the same wiki that has one."""
        wiki = self._wiki_of_name(damaged.name)
        for path in islice(self._files(context).values(), _MAX_CHECKED_FILES):
            if path == damaged or not wiki or self._wiki_of_name(path.name) != wiki:
                continue
            with suppress(SourceBroken):  # it is told where that file itself is read
                head = open_dump(path).head
                info = read_siteinfo(head, path.name)
                if has_siteinfo(head) and info.wiki == wiki:
                    return info
        return None

    def _wiki_of_name(self, name: str) -> str:
        """The wiki that a file is of by the recipe or its name; empty if neither tells."""
        named = site_named(name)
        return _for_file(self.wiki, name) or (named.wiki if named.is_known else "")

    def revision_of(self, record: Mapping[str, Any]) -> int | None:
        """See Source."""
        return record.get("revision_id") or None

    def stamp_of(self, record: Mapping[str, Any]) -> str | None:
        """See Source. A revision that a wiki hides, or whose text it alters, has another checksum in the next dump."""
        return record.get("revision_sha1") or None

    def _candidates(
        self, dump: DumpFile, raws: Iterator[RawPage], info: SiteInfo, known: KnownSamples = NOTHING_KNOWN
    ) -> Iterator[Candidate]:
        name = dump.path.name
        locale = info.locale(variant_named(self.variant))
        checked = Counter[bool]()  # texts by whether they match their checksums
        for raw in raws:
            if known.path is not None and raw.fault is None and (found := find_revision(raw.xml)) is not None:
                key = f"{info.wiki}-{found[0]}"
                if known.has(key, revision=found[1], stamp=find_sha1(raw.xml)):
                    yield Candidate.unchanged(key)
                    continue
            yield self._candidate(raw, info, locale, checked)
        if checked[False] >= max(_WARNED_COUNT, _WARNED_SHARE * checked.total()):
            _log.warning(
                "%s: %d of %d texts do not match the dump's own SHA-1: something changed the dump after it was made; "
                'download it again, or keep them by sha1 = "mark" (%s now)',
                *(name, checked[False], checked.total(), self.sha1),
            )

    def _candidate(self, raw: RawPage, info: SiteInfo, locale: WikiLocale, checked: Counter[bool]) -> Candidate:
        page = raw.fault or parse_page(raw.xml)
        if isinstance(page, Rejected):
            page_id, title = find_id_and_title(raw.xml)
            key = f"{info.wiki}-{page_id or raw.place or f'at-{raw.offset}'}"
            partial = {"title": title, "url": info.url(title)} if title else {}
            return Candidate(Sample(key, {}, partial), page)
        if page.redirect is None:
            page.redirect = redirect_target(page.text or "")
        if page.namespace is None:
            page.namespace = info.namespace_of(page.title)
        record = page_record(page, info, licence=self.licence, cleaner=self.version)
        if self.variant and locale.variant:
            record["variant"] = locale.variant
        key = record["group"]
        fault = self._fault(page)
        if fault is None and self.sha1 != "ignore" and page.sha1:
            fault = _check_sha1(page)
            checked[fault is None] += 1
            if self.sha1 == "mark":
                record["sha1_matches"], fault = fault is None, None
        if fault is not None:
            return Candidate(Sample(key, {}, record), fault)
        dropped = Counter[str]()
        if page.redirect is not None:
            text = page.redirect
        else:
            text = plain_text(page.text or "", locale, tables=self.tables, dropped=dropped)
        if not text:
            return Candidate(Sample(key, {}, record), Rejected("empty", "nothing is left beside markup"))
        if page.redirect is None:
            record |= page_structure(page.text or "", locale)
        omitted = {f"template {name}": count for name, count in dropped.items()}
        return Candidate(Sample(key, {"txt": text.encode("utf-8", "replace")}, record), omitted=omitted)

    def _fault(self, page: DumpPage) -> Rejected | None:
        """Why a well-formed page is rejected, whatever its checksum says."""
        if self.namespaces and page.namespace not in self.namespaces:
            return Rejected("namespace", f"namespace {page.namespace}")
        if page.redirect is not None and not self.redirects:
            return Rejected("redirect", f"to {page.redirect}")
        if page.content_model != "wikitext":
            return Rejected("unsupported_format", f"content model {page.content_model}, expected wikitext")
        if page.text is None:
            return Rejected("empty", "the dump does not hold its text")
        return None


def _check_sha1(page: DumpPage) -> Rejected | None:
    """Compare a page's text with its checksum."""
    actual = base36_sha1(page.text or "")
    if actual == page.sha1:
        return None
    return Rejected("sha1_mismatch", f"the text's SHA-1 is {actual}, the dump says {page.sha1}")


def _for_file(option: str | Mapping[str, str], name: str) -> str:
    """The value of an option that may hold one for each pattern of files' names."""
    if isinstance(option, str):
        return option
    return next((value for pattern, value in option.items() if fnmatch.fnmatchcase(name, pattern)), "")


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _matching_files(dump: str, context: Context) -> list[Path]:
    """The file, or the dumps that match a glob. Raises RecipeError if nothing matches."""
    if context.path(dump).is_file():
        return [context.path(dump)]
    matches = [path for path in context.glob(dump) if path.is_file()]
    if not matches:
        problem = describe_missing(context.path(dump))
        raise RecipeError(f"source 'wikipedia_dump': dump {dump!r}: {problem}; expected a dump file, a glob or a URL")
    return [match for match in matches if not _SKIPPED.search(match.name)]


def _natural(name: str) -> list[tuple[int, str]]:
    """A sort key that compares digits as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
