"""URLs: one normal form, and no password in logs."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stoker.pipelines.web import links
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.links import normalise, normalise_listed, redact
from tests.site import reason

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
        ("http://fa\u00df.example/", "http://xn--fa-hia.example/"),
        ("http://FA\u1e9e.example/", "http://xn--fa-hia.example/"),
        ("http://\u03b2\u03cc\u03bb\u03bf\u03c2.example/", "http://xn--nxasmm1c.example/"),
        ("http://i\u2764.example/", "http://xn--i-7iq.example/"),
        ("http://\uff21\u3002example/", "http://a.example/"),
        ("http://\uff11\uff12\uff17.0.0.1/", "http://127.0.0.1/"),
        ("http://r3---sn-a.example/", "http://r3---sn-a.example/"),
        ("http://a_b.b\u00fccher.example/", "http://a_b.xn--bcher-kva.example/"),
        ("http://example.com./a/./b/../c", "http://example.com/a/c"),
        ("http://example.com\\@evil.example/a", "http://example.com/@evil.example/a"),
        ("  http://example.com/a\n.jpg ", "http://example.com/a.jpg"),
        ("http://example.com/a,b;c.jpg?x=1,2&y=%2F#frag", "http://example.com/a,b;c.jpg?x=1,2&y=%2F"),
        ("http://[2001:DB8::1]:80/", "http://[2001:db8::1]/"),
        ("http://[::FFFF:1.2.3.4]:8080/", "http://[::ffff:102:304]:8080/"),
        ("http://[::1]:/", "http://[::1]/"),
        ("http://example.com:/", "http://example.com/"),
        ("http://example.com:080/", "http://example.com/"),
        ("http://example.com:65535/", "http://example.com:65535/"),
        ("http://0x7f.1/", "http://0x7f.1/"),
    ],
)
def test_urls_that_mean_the_same_have_one_form(written: str, normal: str) -> None:
    assert normalise(written) == normal


@pytest.mark.parametrize("control", ["\n", "\r\n", "\r", "\t", "\0", "\x7f", "\x85", "\u2028"])
def test_a_url_of_a_list_holds_no_control_character(control: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        normalise_listed(f"http://a.example/1{control}http://a.example/2")
    assert normalise_listed("\r\n http://a.example/1\t\n") == "http://a.example/1"
    assert "s3cret" not in redact(f"http://a.example/{control}http://me:s3cret@b.example/")


@given(
    st.text(st.sampled_from("abc:/@?#\\ "), max_size=20), st.sampled_from(["http://", "https://", "//", "ftp://", ""])
)
def test_a_redacted_url_never_holds_a_password(noise: str, scheme: str) -> None:
    assert "s3cret" not in redact(f"{scheme}me:s3cret@host/{noise}")


@pytest.mark.parametrize(
    "url",
    ["", "ftp://example.org/a", "file:///etc/passwd", "data:image/png;base64,xx", "http://", "example.org/a.jpg",
     "http://me:secret@example.org/", "http://me:secret@ex ample/", "http://example.org:99999/", "http://a\ud800b/",
     "http://me:secret", "http://" + "a" * 5000, "http://[::1", "http://exa%6dple.org/",
     "http://a\u200db.example/", "http://a\u200c.example/", "http://-\u00fc.example/", "http://\u0301a.example/",
     "http://a\u2024\u00fc/", "http://\uff0f.example/",
     "http://[v1.example.com]/", "http://[v7.a:b]:80/", "http://[vF.127.0.0.1]/", "http://[example.com]/", "http://[]/",
     "http://[127.0.0.1]/", "http://[::1].example.com/", "http://example.com[::1]/", "http://a]b/", "http://::1/",
     "http://[[::1]]/", "http://[::1]]/", "http://[::1]x:80/", "http://[::g]/", "http://[1:2:3:4:5:6:7:8:9]/",
     "http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[fe80::1%25]/", "http://[::1%]/",
     "http://a:0/", "http://a:65536/", "http://a:-1/", "http://a:+80/", "http://a:8_0/", "http://a:\u0663/",
     "http://a:80:80/", "http://[::1]:99999/", "http://a:" + "9" * 300, "http://@a/", "http://:@a/", "http://a@b@c/",
     "http://256.0.0.1/", "http://1.2.3.4.5/", "http://example.123/", "http://0x100000000/"],
)  # fmt: skip
def test_a_bad_url_is_refused_without_its_password(web: Web, url: str) -> None:
    outcome = web.get(url, max_size=100)
    assert reason(outcome) == "bad_url"
    assert "secret" not in str(outcome)


@pytest.mark.parametrize(
    "reference", ["//[v1.example.com]/", "//me:secret@[::1/", "//me:secret@a\u2100b/", "//a:99999/"]
)
def test_a_reference_to_a_bad_host_is_refused_without_its_password(reference: str) -> None:
    with pytest.raises(ValueError, match=r"host|port|brackets|user") as failure:
        normalise(reference, "http://base.example/")
    assert "secret" not in str(failure.value)


PIECES = ["http://", "https://", "a", "B", ".", "..", "/", "//", "?", "-", "_", "1", "0x1", "~", ":", "@", "|", "%41"]


@settings(max_examples=3000)
@given(
    st.lists(st.sampled_from([*PIECES, "a.example", "#", "é", "\n", "=", "&", "'", "x" * 70, ";", "/./"]), max_size=12)
)
@example(["http://", "a.example", "/", ".."])
@example(["http://", "a.example", "//", ".", "?", "a"])
def test_what_is_seen_to_be_normal_is_so(pieces: list[str]) -> None:
    text = "".join(["https://a.example/" if len(pieces) % 2 else "", *pieces])

    def told(pattern: re.Pattern[str]) -> str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(links, "_NORMAL", pattern)
            try:
                return normalise(text)
            except ValueError as error:
                return f"refused: {error}"

    assert told(links._NORMAL) == told(re.compile(r"(?!)"))
