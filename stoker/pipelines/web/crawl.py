"""The images of a web site, found by following links from its start pages, breadth first."""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Event
from urllib.parse import urlsplit

from stoker.pipelines.errors import SourceBroken, SourceUnavailable
from stoker.pipelines.images.formats import extension_of
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.links import host_of
from stoker.pipelines.web.ordered import in_order
from stoker.pipelines.web.pages import html
from stoker.pipelines.web.pages.html import Page
from stoker.pipelines.web.policy import Fetched, Transient

MAX_PAGE = 5 << 20  # bytes of one page
ACCEPT = "text/html, application/xhtml+xml;q=0.9, */*;q=0.1"
_NO_PAGES = re.compile(
    r"\.(?:pdf|zip|gz|bz2|xz|7z|rar|tar|tgz|exe|dmg|iso|mp3|mp4|m4a|webm|ogg|ogv|avi|mov|mkv|wav|flac|svg|ico|css|js|"
    r"json|xml|rss|atom|woff2?|ttf|csv|docx?|xlsx?|pptx?|epub)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Scope:
    """How far a crawl goes. Patterns are shell patterns, matched against whole URLs."""

    follow: int  # links away from the start pages
    max_pages: int
    other_hosts: bool = False  # also follow links to hosts that no start page is on
    include: Sequence[str] = ()  # images: one must match, if there are any
    exclude: Sequence[str] = ()  # images and pages: none may match
    pages: Sequence[str] = ()  # pages that are followed: one must match, if there are any
    width: int = 0  # see srcset.choose
    strict: bool = True  # a site that stops answering ends the crawl

    @cached_property
    def _compiled(self) -> tuple[list[re.Pattern[str]], ...]:
        return tuple(
            [re.compile(fnmatch.translate(one)) for one in patterns]
            for patterns in (self.include, self.exclude, self.pages)
        )

    def wants_image(self, url: str) -> bool:
        """Whether an image of this URL is asked for."""
        include, exclude, _ = self._compiled
        return (not include or _any(include, url)) and not _any(exclude, url)

    def wants_page(self, url: str) -> bool:
        """Whether a page of this URL is followed, whatever its host."""
        _, exclude, pages = self._compiled
        path = urlsplit(url).path
        if html.is_image_link(url) or _NO_PAGES.fullmatch(path[path.rfind(".") :] if "." in path else ""):
            return False
        return (not pages or _any(pages, url)) and not _any(exclude, url)


@dataclass(frozen=True, slots=True)
class Found:
    """An image that a page shows, or a page or image that may not or cannot be had."""

    url: str
    page_url: str
    title: str = ""  # of the page
    caption: str = ""
    licence: str = ""
    author: str = ""
    refused: Rejected | None = None


@dataclass(frozen=True, slots=True)
class _Visit:
    """What was behind a link: a page, an image, something else (neither), or a reject."""

    url: str
    final_url: str
    page: Page | None = None
    is_image: bool = False
    rejected: Rejected | None = None


def crawl(web: Web, starts: Sequence[str], scope: Scope) -> Iterator[Found]:
    """Every image of the pages in scope once, in the order in which a breadth-first reader meets them.

    Pages that cannot be had are found, too, with the reason. Raises SourceUnavailable, SourceBroken when a start
    page cannot be had, SourceUnavailable when the site stops answering.
    """
    level = list(dict.fromkeys(starts))
    hosts = {host_of(url) for url in level}
    known, shown = set(level), set[str]()
    left = scope.max_pages
    for depth in range(scope.follow + 1):
        level, left = level[:left], left - len(level[:left])
        following: list[str] = []
        for visit in in_order(lambda url, cancel: _visit(web, url, scope, cancel), level, threads=web.threads):
            if depth == 0:
                _check_start(visit)
                hosts.add(host_of(visit.final_url))
            elif scope.strict and isinstance(visit.rejected, Transient) and web.is_down(visit.url):
                raise SourceUnavailable(
                    f"{host_of(visit.url)} stopped answering: {visit.rejected.detail}; try again later"
                )
            elsewhere = not scope.other_hosts and host_of(visit.final_url) not in hosts
            if elsewhere and visit.rejected is None:
                visit = replace(visit, page=None, rejected=Rejected("redirects", f"to another host: {visit.final_url}"))
            for found in _findings(visit):
                if found.url not in shown and (found.refused is not None or scope.wants_image(found.url)):
                    shown.add(found.url)
                    yield found
            if visit.page is not None and not visit.page.nofollow:
                for link in visit.page.links:
                    inside = scope.other_hosts or host_of(link) in hosts
                    if inside and link not in known and scope.wants_page(link):
                        known.add(link)
                        following.append(link)
        level = following


def _visit(web: Web, url: str, scope: Scope, cancel: Event) -> _Visit:
    fetched = web.get(url, max_size=MAX_PAGE, accept=ACCEPT, cancel=cancel)
    if not isinstance(fetched, Fetched):
        return _Visit(url, url, rejected=fetched)
    if "html" in fetched.content_type or (not fetched.content_type and fetched.content.lstrip()[:1] == b"<"):
        match = re.search(r"charset=[\"']?([\w.:-]{1,40})", fetched.headers.get("content-type", ""), re.IGNORECASE)
        charset = match[1] if match else ""
        page = html.read(fetched.content, fetched.final_url, charset=charset, width=scope.width)
        return _Visit(url, fetched.final_url, page)
    return _Visit(url, fetched.final_url, is_image=isinstance(extension_of(fetched.content), str))


def _check_start(visit: _Visit) -> None:
    if isinstance(visit.rejected, Transient):
        raise SourceUnavailable(f"start page {visit.url}: {visit.rejected.detail}; try again later")
    if visit.rejected is not None:
        reason = f"{visit.rejected.reason} ({visit.rejected.detail})"
        raise SourceBroken(f"start page {visit.url}: {reason}; expected a page that may be fetched")
    if visit.page is None and not visit.is_image:
        raise SourceBroken(f"start page {visit.url}: not an HTML page; for a list of URLs use the option lists")


def _findings(visit: _Visit) -> Iterator[Found]:
    if visit.rejected is not None:
        yield Found(visit.url, visit.url, refused=visit.rejected)
    elif visit.is_image:
        yield Found(visit.url, visit.url)
    elif visit.page is not None:
        page = visit.page
        refused = Rejected("opted_out", f"the page says {page.refusal}") if page.refusal else None
        for image in page.images:
            yield Found(
                url=image.url,
                page_url=visit.final_url,
                title=page.title,
                caption=image.caption,
                licence=image.licence or page.licence,
                author=page.author,
                refused=refused,
            )


def _any(patterns: Sequence[re.Pattern[str]], url: str) -> bool:
    return any(pattern.match(url) for pattern in patterns)
