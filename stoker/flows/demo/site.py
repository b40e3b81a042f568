"""A small web site of real pictures: scikit-learn's handwritten digits and photographs, with faults of the real web.

Pages with captions, a licence and an author; a folder that robots.txt forbids; broken files; the same file at two
addresses; a page that answers 503 to its first request.
"""

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 32  # pixels: the side of a digit as served, and of LeNet-5's input
DIGITS_A_PAGE = 30
BUSY_ONCE = "/digits/07.html"  # answers 503 to its first request
FORBIDDEN = "/private/"
DIGITS_LICENCE = "https://creativecommons.org/licenses/by/4.0/"
DIGITS_AUTHOR = "E. Alpaydin and C. Kaynak"
PHOTOGRAPHS_LICENCE = "https://creativecommons.org/licenses/by/2.0/"
PHOTOGRAPHERS = {"china": "danielbuechele", "flower": "vultilion"}
CROP = 192  # pixels

HTML = "text/html; charset=utf-8"
ROBOTS = f"User-agent: *\nDisallow: {FORBIDDEN}\n"
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}"
    "main{display:flex;flex-wrap:wrap;gap:1rem}figure{margin:0;width:11rem}"
    "figcaption{font-size:.85rem;color:#555}img{min-width:4rem;image-rendering:pixelated}"
)


@dataclass(frozen=True, slots=True)
class Response:
    """The site's HTTP response for a path."""

    payload: bytes
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on a page: its path, its caption and the response for it."""

    path: str
    caption: str
    response: Response


@dataclass(frozen=True, slots=True)
class PicturePage:
    """A page of pictures, with one author and one licence for all of them."""

    path: str
    title: str
    pictures: list[Picture]
    licence: str
    author: str

    def response(self) -> Response:
        """The page as HTML."""
        figures = [
            f'<figure><img src="{picture.path}" alt="{escape(picture.caption)}">'
            f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
            for picture in self.pictures
        ]
        return Response(html(self.title, self.licence, self.author, "\n".join(["<main>", *figures, "</main>"])), HTML)


def build() -> dict[str, Response]:
    """The whole site, by path; the same bytes every time. Raises StokerError where scikit-learn is not installed."""
    digit_pages = list(_digit_pages())
    digits = [picture for page in digit_pages for picture in page.pictures]
    digit = partial(PicturePage, licence=DIGITS_LICENCE, author=DIGITS_AUTHOR)
    photographers = " and ".join(PHOTOGRAPHERS.values())
    pages = [
        *digit_pages,
        PicturePage("/photographs.html", "Photographs", _photographs(), PHOTOGRAPHS_LICENCE, photographers),
        digit("/copies.html", "Some digits once more, under other names", _copies(digits)),
        digit("/broken.html", "Files that went wrong", _broken(digits)),
        digit(f"{FORBIDDEN}index.html", "Not for robots", _private(digits)),
    ]
    links = [(page.path, page.title) for page in pages] + [
        ("/film.html", "A short film made from the photographs"),
        ("/handbook/", "The Python handbook as a wiki dump"),
    ]
    site = {"/robots.txt": Response(ROBOTS.encode(), "text/plain; charset=utf-8")}
    site["/"] = Response(html("Stoker's demo site", DIGITS_LICENCE, DIGITS_AUTHOR, listing(links)), HTML)
    for page in pages:
        site[page.path] = page.response()
        site |= {picture.path: picture.response for picture in page.pictures if picture.response.status != 404}
    return site


def html(title: str, licence: str, author: str, body: str) -> bytes:
    """An HTML page that names its author and its licence."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="author" content="{escape(author)}"><link rel="license" href="{licence}">\n'
        f"<style>{STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n{body}\n"
        f'<footer><p>By {escape(author)}, <a rel="license" href="{licence}">licence</a>. '
        f'<a href="/">All pages</a></p></footer></body></html>\n'
    ).encode()


def photographs() -> "dict[str, Any]":  # Any: numpy arrays; numpy comes with scikit-learn
    """scikit-learn's sample photographs by name: (427, 640, 3) uint8 arrays."""
    try:
        from sklearn.datasets import load_sample_image
    except ModuleNotFoundError:
        raise StokerError('the demo needs scikit-learn: pip install "stoker[demo]"') from None
    return {name: load_sample_image(f"{name}.jpg") for name in PHOTOGRAPHERS}


def listing(links: list[tuple[str, str]]) -> str:
    """An HTML list of links, from paths and texts."""
    entries = "\n".join(f'<li><a href="{path}">{escape(text)}</a></li>' for path, text in links)
    return f"<ul>\n{entries}\n</ul>"


def _digit_pages() -> Iterator[PicturePage]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise StokerError('the demo needs scikit-learn: pip install "stoker[demo]"') from None
    from PIL import Image

    dataset = load_digits()
    pictures = []
    for number, (values, label) in enumerate(zip(dataset.images, dataset.target, strict=True)):
        ink = (255 - values * 255 / 16).round().astype("uint8")  # from 0 (white) .. 16 (ink) to 255 .. 0
        large = Image.fromarray(ink).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        page = number // DIGITS_A_PAGE + 1
        pictures.append(Picture(f"/digits/{page:02d}/{number:04d}.png", f"handwritten digit: {label}", _png(large)))
    starts = range(0, len(pictures), DIGITS_A_PAGE)
    for page, start in enumerate(starts, 1):
        title = f"Handwritten digits, page {page} of {len(starts)}"
        on_page = pictures[start : start + DIGITS_A_PAGE]
        yield PicturePage(f"/digits/{page:02d}.html", title, on_page, DIGITS_LICENCE, DIGITS_AUTHOR)


def _photographs() -> list[Picture]:
    """Both photographs, whole and in crops, as JPEG."""
    from PIL import Image

    pictures = []
    for name, pixels in photographs().items():
        whole = Image.fromarray(pixels)
        corners = [(left, top) for top in (0, 427 - CROP) for left in (0, 224, 640 - CROP)]
        crops = [whole.crop((left, top, left + CROP, top + CROP)) for left, top in corners]
        for number, image in enumerate([whole, *crops]):
            file = io.BytesIO()
            image.save(file, "JPEG", quality=90)
            caption = f"photograph: {name}, {'whole' if number == 0 else f'detail {number}'}, by {PHOTOGRAPHERS[name]}"
            response = Response(file.getvalue(), "image/jpeg")
            pictures.append(Picture(f"/photographs/{name}-{number}.jpg", caption, response))
    return pictures


def _copies(digits: list[Picture]) -> list[Picture]:
    """The same bytes at other addresses."""
    return [
        Picture(f"/copies/digit-{number}.png", digit.caption, digit.response)
        for number, digit in enumerate(digits[40:52])
    ]


def _private(digits: list[Picture]) -> list[Picture]:
    """Digits in the folder that robots.txt forbids."""
    return [
        Picture(f"{FORBIDDEN}{number}.png", digit.caption, digit.response) for number, digit in enumerate(digits[:5])
    ]


def _broken(digits: list[Picture]) -> list[Picture]:
    """One file for each way in which pictures on the web are broken; their captions name digits all the same."""
    from PIL import Image

    intact = digits[0].response.payload
    login = b"<!doctype html><title>Not here</title><p>Please log in."
    huge = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", huge)
        + _chunk(b"IDAT", zlib.compress(bytes(60_001)))
        + _chunk(b"IEND", b"")
    )
    altered = bytearray(intact)
    altered[intact.index(b"IDAT") + 20] ^= 0xFF
    png = "image/png"
    responses = {
        "truncated": Response(intact[: len(intact) // 2], png),
        "corrupt": Response(bytes(altered), png),
        "html": Response(login, png),
        "empty": Response(b"", png),
        "missing": Response(b"", png, status=404),
        "refused": Response(b"", png, status=403),
        "dot": _png(Image.new("L", (1, 1), 128)),
        "bomb": Response(bomb, png),
        "reserved": Response(digits[5].response.payload, png, headers={"X-Robots-Tag": "noai, noimageai"}),
    }
    pictures = [
        Picture(f"/broken/{name}.png", f"handwritten digit: {number}", response)
        for number, (name, response) in enumerate(responses.items())
    ]
    # On a public page too: robots.txt must then be checked for the picture, not only for the page around it.
    return [*pictures, Picture(f"{FORBIDDEN}4.png", digits[4].caption, digits[4].response)]


def _chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk of a PNG file (ISO/IEC 15948, 5.3)."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def _png(image: "Image") -> Response:
    file = io.BytesIO()
    image.save(file, "PNG")
    return Response(file.getvalue(), "image/png")
