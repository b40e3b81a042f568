"""URLs, srcset, pages: what is read out of text that strangers wrote."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stoker.pipelines.web.http.addresses import is_public
from stoker.pipelines.web.links import normalise, shown
from stoker.pipelines.web.opt_out import directives, refusal
from stoker.pipelines.web.pages import html, srcset
from stoker.pipelines.web.pages.html import Image
from stoker.pipelines.web.pages.licences import spdx
from stoker.pipelines.web.pages.markup import events

URLISH = st.text(st.sampled_from('ab/.%:@?#[]\\ 2Eeé\tZ-_~,"<&=+'), max_size=30)


@given(st.sampled_from(["http://h", "https://h.example:8080/", "http:", "//", "http://h/a/b", ""]), URLISH | st.text())
@example("http://h", "/%7e/../%c3%bc?%2f")
def test_the_normal_form_of_a_normal_form_is_itself(start: str, rest: str) -> None:
    try:
        normal = normalise(start + rest, "http://base.example/x/y")
    except ValueError:
        return
    assert normalise(normal) == normal
    assert normal.isascii()
    assert normal.isprintable()
    assert " " not in normal
    assert "#" not in normal


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("HTTP://EXAMPLE.com", "http://example.com/"),
        ("http://example.com:80/", "http://example.com/"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("https://example.com:80/a", "https://example.com:80/a"),
        ("http://example.com/%7euser/%c3%a9", "http://example.com/~user/%C3%A9"),
        ("http://example.com/a b.jpg", "http://example.com/a%20b.jpg"),
        ("http://bücher.example/ü", "http://xn--bcher-kva.example/%C3%BC"),
        ("http://example.com./a/./b/../c", "http://example.com/a/c"),
        ("http://example.com\\@evil.example/a", "http://example.com/@evil.example/a"),
        ("  http://example.com/a\n.jpg ", "http://example.com/a.jpg"),
        ("http://example.com/a,b;c.jpg?x=1,2&y=%2F#frag", "http://example.com/a,b;c.jpg?x=1,2&y=%2F"),
        ("http://[2001:DB8::1]:80/", "http://[2001:db8::1]/"),
    ],
)
def test_urls_that_mean_the_same_have_one_form(written: str, normal: str) -> None:
    assert normalise(written) == normal


@given(
    st.text(st.sampled_from("abc:/@?#\\ "), max_size=20), st.sampled_from(["http://", "https://", "//", "ftp://", ""])
)
def test_what_is_shown_never_holds_a_password(noise: str, scheme: str) -> None:
    assert "s3cret" not in shown(f"{scheme}me:s3cret@host/{noise}")


@given(
    st.lists(
        st.tuples(
            st.text(st.sampled_from("ab/.:,()?="), min_size=1).filter(lambda u: u.strip(",") == u), st.integers(1, 9999)
        ),
        max_size=6,
    )
)
def test_a_srcset_comes_apart_into_what_it_was_made_of(made: list[tuple[str, int]]) -> None:
    text = ", ".join(f"{url} {width}w" for url, width in made)
    assert [(one.url, one.width) for one in srcset.parse(text)] == made


@given(st.text(st.sampled_from("ab,. 12wxh()\t"), max_size=60))
def test_any_srcset_is_read_in_bounded_time_without_an_error(text: str) -> None:
    for one in srcset.parse(text):
        assert one.url
        assert not one.url.endswith(",")


def test_of_several_sizes_the_wanted_one_is_chosen() -> None:
    choices = srcset.parse("s.jpg 320w, m.jpg 640w, l.jpg 1280w")
    assert srcset.choose(choices, 0) == "l.jpg"
    assert srcset.choose(choices, 500) == "m.jpg"
    assert srcset.choose(choices, 5000) == "l.jpg"
    assert srcset.choose(srcset.parse("a.jpg, b.jpg 2x"), 100) == "b.jpg"
    assert srcset.choose([], 0) is None


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


def test_a_page_is_read_as_a_person_would() -> None:
    page = html.read(PAGE, "http://example.com/index.html")
    base = "http://example.com/gallery/"
    assert page.title == "Birds of prey"
    assert page.author == "A. Nonymous"
    assert page.licence == "https://creativecommons.org/licenses/by/4.0/"
    assert page.images == (
        Image(base + "kite.jpg", "Red kite & sky"),
        Image(base + "kite-full.jpg", "Red kite & sky"),
        Image(base + "owl.png", "", "https://creativecommons.org/publicdomain/zero/1.0/"),
        Image(base + "h,2.webp", "hawk"),
        Image(base + "lazy.jpg", "lazy one"),
        Image(base + "scan.TIF", "a scan"),
        Image("http://example.com/share.jpg"),
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
    assert html.decoded(content, charset).endswith(text)


@given(st.text(st.sampled_from("<>/!-?ab='\" &#;"), max_size=80) | st.binary(max_size=80))
def test_any_bytes_are_a_page(content: str | bytes) -> None:
    html.read(content if isinstance(content, bytes) else content.encode(), "http://example.com/")


@pytest.mark.parametrize("piece", ["<a ", "<!--", "<", "</a", "<a b='", "<![", "<figure><figcaption>x", "&#x", "<?"])
def test_a_page_made_to_be_slow_is_read_in_no_time(piece: str) -> None:
    began = time.process_time()
    html.read((piece * (500_000 // len(piece))).encode(), "http://example.com/")
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
    page = html.read(element.encode(), "http://example.com/")
    assert page.refusal == refused
    assert page.nofollow == ("nofollow" in element)


def test_events_are_tags_and_texts_in_order() -> None:
    kinds = [one if isinstance(one, str) else type(one).__name__ for one in events("a<b c>d</b><!>e<<f")]
    assert kinds == ["a", "Start", "d", "End", "e", "<"]


def test_directives_for_other_robots_are_not_ours() -> None:
    assert directives("googlebot: noindex, nofollow, stoker: noai") == {"noai"}
    assert refusal({"x-robots-tag": "max-image-preview: none"}) == ""


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0", "192.168.1.1", "172.16.0.1", "224.0.0.1", "255.255.255.255", "::", "fe80::1%eth0", "2002:7f00:1::",
     "fec0::1", "::7f00:1", "not an address", "192.0.2.1"],
)  # fmt: skip
def test_an_address_outside_of_the_open_internet_is_known(address: str) -> None:
    assert not is_public(address)


def test_licences_have_their_spdx_names() -> None:
    assert spdx("//creativecommons.org/licenses/by-nc-nd/2.0/") == "CC-BY-NC-ND-2.0"
    assert (
        spdx("https://example.com/creativecommons.org/licenses/by/4.0/")
        == "https://example.com/creativecommons.org/licenses/by/4.0/"
    )
