"""What notebooks show of samples is escaped, bounded, and holds small pictures alone."""

import base64
import io
import re
import struct

import pytest
from PIL import Image

from stoker.storage.shards.html import sample_html, thumbnail
from stoker.storage.shards.sample import Sample

EVIL = "<script>alert(1)</script>\"' onerror=alert(2)"


def picture(kind: str, width: int = 20, height: int = 10) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (200, 10, 10)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG"])
def test_a_small_picture_is_shown_as_itself(kind: str) -> None:
    payload = picture(kind)
    html = thumbnail(payload)
    assert html is not None
    encoded = re.search(rf'src="data:image/{kind.lower()};base64,([A-Za-z0-9+/=]+)"', html)
    assert encoded is not None
    assert base64.b64decode(encoded[1]) == payload


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG"])
def test_a_picture_of_few_bytes_and_many_pixels_is_not_shown(kind: str) -> None:
    assert thumbnail(picture(kind, 1100, 1000)) is None


def test_large_pictures_other_formats_and_broken_ones_are_not_shown() -> None:
    declared = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 60_000, 60_000)
    others = (b"<svg onload=alert(1)>", b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\0", b"GIF89a", declared)
    assert [payload for payload in others if thumbnail(payload)] == []
    assert thumbnail(picture("PNG") + bytes(2**16)) is None


def test_everything_in_a_sample_is_escaped() -> None:
    fields = {"txt": EVIL.encode(), f"{EVIL}": b"\xff\xfe"}
    html = Sample.unchecked(
        EVIL, fields, {EVIL: EVIL, "page": "javascript:alert(1)", "more": {"<b>": [1]}}
    )._repr_html_()
    assert "<script" not in html
    assert "href" not in html
    assert "<b>" not in html
    assert re.findall(r"<(?!/?(?:div|table|caption|tr|th|td)\b)", html) == []
    assert "\"'" not in html


def test_the_html_of_a_sample_is_bounded() -> None:
    fields = {f"f{number}": picture("PNG") for number in range(100)} | {"txt": b"word " * 10**6}
    html = sample_html("k" * 10**6, fields, {f"name{number}": "x" * 10**5 for number in range(1000)})
    assert html.count("<img") == 3
    assert len(html) < 50_000
    assert "more" in html


def test_the_repr_of_a_sample_is_short_whatever_it_holds() -> None:
    sample = Sample.unchecked(
        "k" * 10**5, {"e" * 10**4: b"x" * 10**6, "png": bytes(10**6)}, {"a": "\n" * 10**5, "b": [0] * 9999}
    )
    assert len(repr(sample)) < 600
    assert "\n" not in repr(sample)
    assert "'png': 1,000,000 bytes" in repr(sample)
    many = Sample.unchecked("k", {f"f{n}": b"" for n in range(999)}, {f"r{n}": n for n in range(999)})
    assert len(repr(many)) < 600
