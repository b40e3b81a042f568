"""A crawl of a site for its images, through the source ``image_urls``."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker.pipelines.errors import RecipeError, SourceBroken, SourceUnavailable
from stoker.pipelines.source import Context
from stoker.pipelines.sources.image_urls import ImageUrls
from stoker.pipelines.web.crawl import CrawlScope, crawl
from tests.pipelines.sources.test_image_urls import WEB, png, read, reasons, refusal
from tests.site import Reply, Site


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    yield Context(root=tmp_path, web=WEB, scratch=tmp_path / "scratch")
    WEB.close()


def figure(number: int, label: str) -> str:
    return f'<figure><img src="/img/{number}.png" alt="no"><figcaption>digit {number}: {label}</figcaption></figure>'


def gallery(site: Site) -> None:
    site.pages["/robots.txt"] = Reply(b"User-agent: *\nDisallow: /private/")
    html = {"Content-Type": "text/html; charset=utf-8"}
    licence = (
        '<link rel="license" href="https://creativecommons.org/licenses/by/4.0/"><meta name="author" content="Ann">'
    )
    links = ["1.html", "/2.html", "/private/3.html", "/gone.html", "http://elsewhere.example/", "/doc.pdf"]
    site.pages["/"] = Reply("".join(f'<a href="{link}">x</a> ' for link in links).encode(), headers=html)
    figures = f"{figure(1, 'seven')}{figure(2, 'two')}<a href='/deep.html'>d</a><img src=/logo.png>"
    site.pages["/1.html"] = Reply(f"<title>One</title>{licence}{figures}".encode(), headers=html)
    site.pages["/2.html"] = [
        Reply(b"", 503),
        Reply(f"<meta name=robots content=noai>{figure(3, 'three')}{figure(2, 'again')}".encode(), headers=html),
    ]
    site.pages["/deep.html"] = Reply(figure(9, "nine").encode(), headers=html)
    site.pages |= {f"/img/{n}.png": png(n) for n in range(10)} | {"/logo.png": png(99)}


def test_every_page_and_image_of_a_site_is_kept_or_rejected(site: Site, context: Context) -> None:
    gallery(site)
    source = ImageUrls(start=site.url("/"), label_pattern=r": (\w+)$", group="page")
    candidates = read(source, context)
    outcome = {
        candidate.sample.record["url"].removeprefix(site.url("")): reason
        for candidate, reason in zip(candidates, reasons(candidates), strict=True)
    }
    assert outcome == {
        "/img/1.png": "",
        "/img/2.png": "",
        "/logo.png": "no_label",
        "/img/3.png": "opted_out",
        "/private/3.html": "robots",
        "/gone.html": "gone",
    }
    record = dict(candidates[0].sample.record)
    record.pop("sha256")
    assert record == {
        "url": site.url("/img/1.png"), "page_url": site.url("/1.html"), "title": "One", "caption": "digit 1: seven",
        "licence": "CC-BY-4.0", "author": "Ann", "label": "seven", "group": site.url("/1.html"),
    }  # fmt: skip
    asked = Counter(site.pages_asked)
    assert asked["/2.html"] == 2, "503 once, then here"
    assert set(asked) == {"/", "/1.html", "/2.html", "/gone.html", "/img/1.png", "/img/2.png"}


def test_depth_number_of_pages_and_patterns_limit_a_crawl(site: Site, context: Context) -> None:
    gallery(site)

    def images(**options: Any) -> list[str]:
        found = read(ImageUrls(start=site.url("/"), **options), context)
        return [candidate.sample.record["url"].rpartition("/")[2] for candidate in found if candidate.rejected is None]

    assert images(follow=0) == []
    assert images(follow=1) == ["1.png", "2.png", "logo.png"]
    assert images(follow=2) == ["1.png", "2.png", "logo.png", "9.png"]
    assert images(follow=2, max_pages=2) == ["1.png", "2.png", "logo.png"]
    assert images(include=("*/img/*",)) == ["1.png", "2.png"]
    assert images(exclude=("*/logo.png", "*/img/1.*")) == ["2.png"]
    assert images(pages=("*/2.html",)) == []


def test_a_start_page_that_cannot_be_fetched_is_named_in_the_error(site: Site, context: Context) -> None:
    site.pages["/text"] = Reply(b"hello", headers={"Content-Type": "text/plain"})
    for path, error in [("/missing", SourceBroken), ("/text", SourceBroken)]:
        with pytest.raises(error, match=path):
            list(ImageUrls(start=site.url(path)).partitions(context))
    site.stop()
    with pytest.raises(SourceUnavailable, match="try again later"):
        list(ImageUrls(start=site.url("/other")).partitions(context))
    with pytest.raises(RecipeError, match="start"):
        list(ImageUrls(start="example.org").partitions(context))


def test_a_private_start_page_names_the_setting_that_allows_it(site: Site, tmp_path: Path) -> None:
    web = replace(WEB, allow_private=False)
    with pytest.raises(SourceBroken, match=r"STOKER_ALLOW_PRIVATE=127\.0\.0\.1$"):
        list(ImageUrls(start=site.url("/")).partitions(Context(root=tmp_path, web=web, scratch=tmp_path)))
    web.close()
    assert site.log == []


def test_an_image_may_be_the_start(site: Site, context: Context) -> None:
    site.pages["/a"] = png()
    assert reasons(read(ImageUrls(start=site.url("/a")), context)) == [""]


def test_a_link_that_leads_to_another_host_is_not_followed(site: Site, context: Context) -> None:
    with Site("127.0.0.2") as other:
        other.pages["/"] = Reply(b'<img src="a.png">', headers={"Content-Type": "text/html"})
        other.pages["/a.png"] = png()
        site.pages["/"] = Reply(b'<a href="/away">x</a>', headers={"Content-Type": "text/html"})
        site.pages["/away"] = Reply(b"", 302, {"Location": other.url("/")})
        found = read(ImageUrls(start=site.url("/")), context)
        assert reasons(found) == ["redirects"]
        assert "to another host" in refusal(found[0])
        assert reasons(read(ImageUrls(start=site.url("/"), other_hosts=True), context)) == [""]


def test_links_of_a_page_whose_header_says_nofollow_are_not_followed(site: Site, context: Context) -> None:
    lines = "Content-Type: text/html\r\nX-Robots-Tag: googlebot: all\r\nX-Robots-Tag: nofollow\r\n"
    page = "<a href=/2.html>x</a><img src=/img/1.png>"
    site.pages["/"] = Reply(raw=f"HTTP/1.1 200 OK\r\n{lines}Content-Length: {len(page)}\r\n\r\n{page}".encode())
    site.pages["/2.html"] = Reply(figure(2, "two").encode(), headers={"Content-Type": "text/html"})
    site.pages |= {f"/img/{n}.png": png(n) for n in range(3)}
    candidates = read(ImageUrls(start=site.url("/")), context)
    assert [candidate.sample.record["url"] for candidate in candidates] == [site.url("/img/1.png")]


def test_a_policy_without_opt_outs_takes_no_notice_of_a_page_either(site: Site) -> None:
    page = "<meta name=robots content=noai><img src=/img/1.png>"
    site.pages["/"] = Reply(page.encode(), headers={"Content-Type": "text/html"})
    for opt_out, rejected in ((True, "opted_out"), (False, "")):
        web = replace(WEB, opt_out=opt_out)
        (result,) = crawl(web, [site.url("/")], CrawlScope(follow=0, max_pages=1))
        assert (result.rejected.reason if result.rejected else "") == rejected
        web.close()
