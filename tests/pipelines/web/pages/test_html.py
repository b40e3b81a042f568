"""URLs, srcset, pages: what is read out of text that strangers wrote."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.pipelines.web.pages import html
from stoker.pipelines.web.pages.html import PageImage

PAGE = b"""<!doctype html><html><head><title> Birds  of
 prey </title><base href="/gallery/"><meta name=author content="A. Nonymous">
<link rel="license" href="https://creativecommons.org/licenses/by/4.0/"><meta property="og:image" content="/share.jpg">
</head><body>
<figure><a href="kite-full.jpg"><img src="kite.jpg" alt="a kite"></a>
<figcaption>Red <i>kite</i> &amp; sky</figcaption></figure>
<figure><img src="owl.png"><a rel=license href="https://creativecommons.org/publicdomain/zero/1.0/">CC0</a></figure>
<picture><source type="image/avif" srcset="h.avif 2000w"><source srcset="h,1.webp 800w, h,2.webp 1600w">
<img src="h.jpg" alt="hawk"></picture>
<img src="data:image/gif;base64,R0" data-src="lazy.jpg" title="lazy one"><noscript><img src="lazy.jpg"></noscript>
<a href="more.html?p=2#x">more</a> <a href="scan.TIF">a scan</a> <a href="javascript:void(0)">x</a>
<!-- <img src="commented.jpg"> --><script>document.write('<img src="script.jpg">')</script>
</body></html>"""


def test_a_page_gives_its_images_links_and_metadata() -> None:
    page = html.parse_page(PAGE, "http://example.com/index.html")
    base = "http://example.com/gallery/"
    assert page.title == "Birds of prey"
    assert page.author == "A. Nonymous"
    assert page.licence == "https://creativecommons.org/licenses/by/4.0/"
    assert page.images == (
        PageImage(base + "kite.jpg", "Red kite & sky"),
        PageImage(base + "kite-full.jpg", "Red kite & sky"),
        PageImage(base + "owl.png", "", "https://creativecommons.org/publicdomain/zero/1.0/"),
        PageImage(base + "h,2.webp", "hawk"),
        PageImage(base + "lazy.jpg", "lazy one"),
        PageImage(base + "scan.TIF", "a scan"),
        PageImage("http://example.com/share.jpg"),
    )
    assert page.links == (base + "more.html?p=2",)


@pytest.mark.parametrize(
    ("content", "charset", "text"),
    [
        ("é".encode(), "", "é"),
        ("é".encode("latin-1"), "", "é"),
        ("é".encode("latin-1"), "iso-8859-1", "é"),
        (b'<meta charset="shift_jis">' + "鳥".encode("shift_jis"), "", "鳥"),
        ("é".encode("utf-16"), "", "é"),
        ("é".encode(), "no-such-charset", "é"),
        (b"e", "zip", "e"),
    ],
)
def test_the_charset_is_found(content: bytes, charset: str, text: str) -> None:
    assert html.decode_page(content, charset).endswith(text)


@given(st.text(st.sampled_from("<>/!-?ab='\" &#;"), max_size=80) | st.binary(max_size=80))
def test_any_bytes_are_parsed_without_an_error(content: str | bytes) -> None:
    html.parse_page(content if isinstance(content, bytes) else content.encode(), "http://example.com/")


@pytest.mark.parametrize("piece", ["<a ", "<!--", "<", "</a", "<a b='", "<![", "<figure><figcaption>x", "&#x", "<?"])
def test_a_page_made_to_be_slow_is_parsed_in_linear_time(piece: str) -> None:
    began = time.process_time()
    html.parse_page((piece * (500_000 // len(piece))).encode(), "http://example.com/")
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("element", "refused"),
    [
        ('<meta name="robots" content="index, noai">', "noai"),
        ('<META NAME=ROBOTS CONTENT="NOIMAGEINDEX">', "noimageindex"),
        ('<meta name="tdm-reservation" content="1">', "tdm-reservation"),
        ('<meta name="otherbot" content="noai">', ""),
        ('<meta name="robots" content="nofollow">', ""),
    ],
)
def test_a_page_may_opt_out(element: str, refused: str) -> None:
    page = html.parse_page(element.encode(), "http://example.com/")
    assert page.opt_out == refused
    assert page.nofollow == ("nofollow" in element)
