"""Breadth-first crawl of a web site for its images.

Pages of one depth are fetched in parallel and evaluated in order, so the same site gives the same images in the same
order. At most ``max_pages`` pages are fetched.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Event
from urllib.parse import urlsplit

from stoker.pipelines.errors import SourceBroken, SourceUnavailable
from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.rejected import REASONS, UNKNOWN, OutcomeClass, Rejected
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.links import host_of
from stoker.pipelines.web.opt_out import directives
from stoker.pipelines.web.ordered import map_in_order
from stoker.pipelines.web.pages import html
from stoker.pipelines.web.pages.html import HtmlPage
from stoker.pipelines.web.policy import Fetched, Transient

MAX_PAGE_SIZE = 5 << 20  # bytes
ACCEPT = "text/html, application/xhtml+xml;q=0.9, */*;q=0.1"
_NOT_PAGES = re.compile(
    r"\.(?:pdf|zip|gz|bz2|xz|7z|rar|tar|tgz|exe|dmg|iso|mp3|mp4|m4a|webm|ogg|ogv|avi|mov|mkv|wav|flac|svg|ico|css|js|"
    r"json|xml|rss|atom|woff2?|ttf|csv|docx?|xlsx?|pptx?|epub)",
    re.IGNORECASE,
)
_MAY_PASS = (OutcomeClass.MOMENT, OutcomeClass.SLOW_MOMENT, OutcomeClass.SETTING)


@dataclass(frozen=True)
class CrawlScope:
    """How far a crawl goes and what it takes. Patterns are shell patterns, matched against whole URLs."""

    follow: int  # depth in links from the start pages; 0: only these
    max_pages: int
    other_hosts: bool = False  # also follow links to hosts that no start page is on
    include: Sequence[str] = ()  # images: one must match, if there are any
    exclude: Sequence[str] = ()  # images and pages: none may match
    pages: Sequence[str] = ()  # pages that are followed: one must match, if there are any
    width: int = 0  # see srcset.choose
    strict: bool = True  # a site that stops answering ends the crawl
    is_forgotten: Callable[[str], bool] = lambda url: False  # pages that are not asked for, start pages among them

    @cached_property
    def _compiled(self) -> tuple[list[re.Pattern[str]], ...]:
        return tuple(
            [re.compile(fnmatch.translate(pattern)) for pattern in patterns]
            for patterns in (self.include, self.exclude, self.pages)
        )

    def includes_image(self, url: str) -> bool:
        """Whether an image of this URL is in scope."""
        include, exclude, _ = self._compiled
        return (not include or _matches_any(include, url)) and not _matches_any(exclude, url)

    def follows_page(self, url: str) -> bool:
        """Whether a page of this URL is followed, as far as its URL tells; its host is not checked."""
        _, exclude, pages = self._compiled
        path = urlsplit(url).path
        if html.is_image_link(url) or _NOT_PAGES.fullmatch(path[path.rfind(".") :] if "." in path else ""):
            return False
        return (not pages or _matches_any(pages, url)) and not _matches_any(exclude, url) and not self.is_forgotten(url)


@dataclass(frozen=True, slots=True)
class CrawlResult:
    """An image that a page shows, or a page or image that was rejected."""

    url: str
    page_url: str
    title: str = ""  # of the page
    caption: str = ""
    licence: str = ""
    author: str = ""
    rejected: Rejected | None = None
    is_page: bool = False  # a page that was rejected


@dataclass(slots=True)
class CrawlReport:
    """What a crawl has not seen: ``is_cut_short`` if pages are left, or failed for a reason that may pass."""

    is_cut_short: bool = False
    unread: int = 0  # pages that failed so

    def note(self, rejected: Rejected | None) -> None:
        """Note what became of a page. One that is gone hides nothing."""
        if rejected is None or rejected.reason == "gone":
            return
        of_reason = rejected.outcome_class or REASONS.get(rejected.reason, UNKNOWN).outcome_class
        if of_reason in _MAY_PASS:
            self.is_cut_short, self.unread = True, self.unread + 1


@dataclass(frozen=True, slots=True)
class _Visit:
    """What a URL led to: a page, an image, a reject, or something else (neither)."""

    url: str
    final_url: str
    page: HtmlPage | None = None
    is_image: bool = False
    rejected: Rejected | None = None


def crawl(
    web: Web, starts: Sequence[str], scope: CrawlScope, report: CrawlReport | None = None
) -> Iterator[CrawlResult]:
    """Every image of the pages in scope once, in breadth-first order; at its end ``report`` tells what was not seen.

    Pages that cannot be fetched are results too, with the reason. Raises SourceUnavailable or SourceBroken when a
    start page cannot be fetched, SourceUnavailable when the site stops answering.
    """
    level = [url for url in dict.fromkeys(starts) if not scope.is_forgotten(url)]
    hosts = {host_of(url) for url in level}
    queued, reported = set(level), set[str]()
    pages_left, report = scope.max_pages, report or CrawlReport()
    report.is_cut_short |= len(level) > pages_left
    for depth in range(scope.follow + 1):
        level, pages_left = level[:pages_left], pages_left - len(level[:pages_left])
        next_level: list[str] = []
        for visit in map_in_order(lambda url, cancel: _visit(web, url, scope, cancel), level, threads=web.threads):
            if depth == 0:
                _check_start(visit)
                hosts.add(host_of(visit.final_url))
            elif scope.strict and isinstance(visit.rejected, Transient) and web.is_down(visit.url):
                raise SourceUnavailable(
                    f"{host_of(visit.url)} stopped answering: {visit.rejected.detail}; try again later"
                )
            report.note(visit.rejected)  # not of a page that leads to another host: it is none of the site's any more
            on_other_host = not scope.other_hosts and host_of(visit.final_url) not in hosts
            if on_other_host and visit.rejected is None:
                visit = replace(visit, page=None, rejected=Rejected("redirects", f"to another host: {visit.final_url}"))
            for result in _results(visit, opt_out=web.opt_out):
                if result.url not in reported and (result.rejected is not None or scope.includes_image(result.url)):
                    reported.add(result.url)
                    yield result
            if visit.page is not None and not visit.page.nofollow:
                for link in visit.page.links if depth < scope.follow else ():
                    allowed_host = scope.other_hosts or host_of(link) in hosts
                    if not allowed_host or link in queued or not scope.follows_page(link):
                        continue
                    if len(next_level) == pages_left:
                        report.is_cut_short = True
                        break
                    queued.add(link)
                    next_level.append(link)
        level = next_level


def _visit(web: Web, url: str, scope: CrawlScope, cancel: Event) -> _Visit:
    fetched = web.get(url, max_size=MAX_PAGE_SIZE, accept=ACCEPT, cancel=cancel)
    if not isinstance(fetched, Fetched):
        return _Visit(url, url, rejected=fetched)
    if "html" in fetched.content_type or (not fetched.content_type and fetched.content.lstrip()[:1] == b"<"):
        charsets = re.findall(r"charset=[\"']?([\w.:-]{1,40})", fetched.headers.get("content-type", ""), re.IGNORECASE)
        page = html.parse_page(fetched.content, fetched.final_url, charset="".join(charsets[-1:]), width=scope.width)
        if any("nofollow" in directives(line) for line in fetched.headers.lines("x-robots-tag")):
            page = replace(page, nofollow=True)
        return _Visit(url, fetched.final_url, page)
    return _Visit(url, fetched.final_url, is_image=isinstance(extension_of(fetched.content), str))


def _check_start(visit: _Visit) -> None:
    if isinstance(visit.rejected, Transient):
        raise SourceUnavailable(f"start page {visit.url}: {visit.rejected.detail}; try again later")
    if visit.rejected is not None:
        reason, hint = f"{visit.rejected.reason} ({visit.rejected.detail})", "expected a page that may be fetched"
        if visit.rejected.reason == "private_address":
            raise SourceBroken(f"start page {visit.url}: {visit.rejected.detail}")
        raise SourceBroken(f"start page {visit.url}: {reason}; {hint}")
    if visit.page is None and not visit.is_image:
        raise SourceBroken(f"start page {visit.url}: not an HTML page; for a list of URLs use the option lists")


def _results(visit: _Visit, *, opt_out: bool) -> Iterator[CrawlResult]:
    if visit.rejected is not None:
        yield CrawlResult(visit.url, visit.url, rejected=visit.rejected, is_page=True)
    elif visit.is_image:
        yield CrawlResult(visit.url, visit.url)
    elif visit.page is not None:
        page = visit.page
        rejected = Rejected("opted_out", f"the page says {page.opt_out}") if page.opt_out and opt_out else None
        for image in page.images:
            yield CrawlResult(
                url=image.url,
                page_url=visit.final_url,
                title=page.title,
                caption=image.caption,
                licence=image.licence or page.licence,
                author=page.author,
                rejected=rejected,
            )


def _matches_any(patterns: Sequence[re.Pattern[str]], url: str) -> bool:
    return any(pattern.match(url) for pattern in patterns)
