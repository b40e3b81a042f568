"""The demo's site: the same bytes every time, and everything that a real site has, good and bad."""

import io

import pytest

from stoker.flows.demo import site


def test_the_site_has_the_same_bytes_every_time(pages: dict[str, site.Response]) -> None:
    again = site.build()
    assert {path: pages[path] for path in again} == again


def test_every_digit_is_on_a_page_with_its_label_licence_and_author(pages: dict[str, site.Response]) -> None:
    from sklearn.datasets import load_digits

    listed = [path for path in pages if path.startswith("/digits/") and path.endswith(".html")]
    text = "".join(pages[path].payload.decode() for path in listed)
    assert len(listed) == 60
    assert [text.count(f"<figcaption>handwritten digit: {label}<") for label in range(10)] == [
        int(count) for count in (load_digits().target[:, None] == range(10)).sum(axis=0)
    ]
    assert all(site.DIGITS_LICENCE in pages[path].payload.decode() for path in listed)
    assert all(site.DIGITS_AUTHOR in pages[path].payload.decode() for path in listed)


def test_no_two_digits_are_the_same_file(pages: dict[str, site.Response]) -> None:
    digits = [
        response.payload for path, response in pages.items() if path.startswith("/digits/") and path.endswith(".png")
    ]
    assert len(set(digits)) == len(digits) == 1797


def test_all_pages_are_reached_from_the_first(pages: dict[str, site.Response]) -> None:
    first = pages["/"].payload.decode()
    unlinked = [
        path for path in pages if path.endswith((".html", "/")) and path != "/" and f'href="{path}"' not in first
    ]
    assert unlinked == []


def test_what_is_broken_is_broken_as_its_name_says(pages: dict[str, site.Response]) -> None:
    from PIL import Image

    broken = {path.rpartition("/")[2]: one for path, one in pages.items() if path.startswith("/broken/")}
    assert broken["empty.png"].payload == b""
    assert broken["html.png"].payload.startswith(b"<!doctype html")
    assert Image.open(io.BytesIO(broken["dot.png"].payload)).size == (1, 1)
    for name in ("truncated.png", "corrupt.png"):
        with pytest.raises((OSError, SyntaxError)):
            Image.open(io.BytesIO(broken[name].payload)).load()
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(broken["bomb.png"].payload))
    assert "/broken/missing.png" not in pages
    assert "/broken/missing.png" in pages["/broken.html"].payload.decode()


def test_copies_are_digits_under_other_addresses(pages: dict[str, site.Response]) -> None:
    digits = {response.payload for path, response in pages.items() if path.startswith("/digits/")}
    copies = [response.payload for path, response in pages.items() if path.startswith("/copies/")]
    assert len(copies) == 12
    assert set(copies) <= digits


def test_robots_are_kept_out_of_a_folder_that_pages_lead_to(pages: dict[str, site.Response]) -> None:
    assert f"Disallow: {site.FORBIDDEN}" in pages["/robots.txt"].payload.decode()
    assert f'href="{site.FORBIDDEN}index.html"' in pages["/"].payload.decode()
    assert f'src="{site.FORBIDDEN}' in pages["/broken.html"].payload.decode()
