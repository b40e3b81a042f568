"""A small web site of real pictures: scikit-learn's handwritten digits and photographs, with what the real web has.

Pages with captions, a licence and an author; a folder that robots.txt forbids; broken files; the same file under
two addresses; a page that is busy when it is first asked for.
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
BUSY_ONCE = "/digits/07.html"
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
class Answer:
    """What the site says to a request for a path."""

    payload: bytes
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on a page: where it lies and what is written below it."""

    path: str
    caption: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Page:
    """A page of pictures: whose they are and under which licence is said once for all of them."""

    path: str
    title: str
    pictures: list[Picture]
    licence: str
    author: str

    def answer(self) -> Answer:
        """The page as HTML."""
        figures = [
            f'<figure><img src="{one.path}" alt="{escape(one.caption)}">'
            f"<figcaption>{escape(one.caption)}</figcaption></figure>"
            for one in self.pictures
        ]
        return Answer(html(self.title, self.licence, self.author, "\n".join(["<main>", *figures, "</main>"])), HTML)


def build() -> dict[str, Answer]:
    """The whole site, by path: the same bytes every time. Raises StokerError where scikit-learn is not installed."""
    digit_pages = list(_digit_pages())
    digits = [picture for page in digit_pages for picture in page.pictures]
    digit = partial(Page, licence=DIGITS_LICENCE, author=DIGITS_AUTHOR)
    photographers = " and ".join(PHOTOGRAPHERS.values())
    pages = [
        *digit_pages,
        Page("/photographs.html", "Photographs", _photographs(), PHOTOGRAPHS_LICENCE, photographers),
        digit("/copies.html", "Some digits once more, under other names", _copies(digits)),
        digit("/broken.html", "Files that went wrong", _broken(digits)),
        digit(f"{FORBIDDEN}index.html", "Not for robots", _private(digits)),
    ]
    links = [(page.path, page.title) for page in pages] + [
        ("/film.html", "A short film made from the photographs"),
        ("/handbook/", "The Python handbook as a wiki dump"),
    ]
    site = {"/robots.txt": Answer(ROBOTS.encode(), "text/plain; charset=utf-8")}
    site["/"] = Answer(html("Stoker's demo site", DIGITS_LICENCE, DIGITS_AUTHOR, listing(links)), HTML)
    for page in pages:
        site[page.path] = page.answer()
        site |= {one.path: one.answer for one in page.pictures if one.answer.status != 404}
    return site


def html(title: str, licence: str, author: str, body: str) -> bytes:
    """An HTML page that says whose it is and under which licence."""
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
    """Links as an HTML list, from paths and texts."""
    listed = "\n".join(f'<li><a href="{path}">{escape(text)}</a></li>' for path, text in links)
    return f"<ul>\n{listed}\n</ul>"


def _digit_pages() -> Iterator[Page]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise StokerError('the demo needs scikit-learn: pip install "stoker[demo]"') from None
    from PIL import Image

    found = load_digits()
    pictures = []
    for number, (values, label) in enumerate(zip(found.images, found.target, strict=True)):
        ink = (255 - values * 255 / 16).round().astype("uint8")  # 0 to 16 parts of ink, on white paper
        large = Image.fromarray(ink).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        page = number // DIGITS_A_PAGE + 1
        pictures.append(Picture(f"/digits/{page:02d}/{number:04d}.png", f"handwritten digit: {label}", _png(large)))
    starts = range(0, len(pictures), DIGITS_A_PAGE)
    for page, start in enumerate(starts, 1):
        title = f"Handwritten digits, page {page} of {len(starts)}"
        shown = pictures[start : start + DIGITS_A_PAGE]
        yield Page(f"/digits/{page:02d}.html", title, shown, DIGITS_LICENCE, DIGITS_AUTHOR)


def _photographs() -> list[Picture]:
    """Both photographs, whole and in crops, as JPEG."""
    from PIL import Image

    pictures = []
    for name, pixels in photographs().items():
        whole = Image.fromarray(pixels)
        corners = [(left, top) for top in (0, 427 - CROP) for left in (0, 224, 640 - CROP)]
        crops = [whole.crop((left, top, left + CROP, top + CROP)) for left, top in corners]
        for number, image in enumerate([whole, *crops]):
            written = io.BytesIO()
            image.save(written, "JPEG", quality=90)
            caption = f"photograph: {name}, {'whole' if number == 0 else f'detail {number}'}, by {PHOTOGRAPHERS[name]}"
            pictures.append(
                Picture(f"/photographs/{name}-{number}.jpg", caption, Answer(written.getvalue(), "image/jpeg"))
            )
    return pictures


def _copies(digits: list[Picture]) -> list[Picture]:
    """The same bytes at other addresses."""
    return [Picture(f"/copies/digit-{number}.png", one.caption, one.answer) for number, one in enumerate(digits[40:52])]


def _private(digits: list[Picture]) -> list[Picture]:
    return [Picture(f"{FORBIDDEN}{number}.png", one.caption, one.answer) for number, one in enumerate(digits[:5])]


def _broken(digits: list[Picture]) -> list[Picture]:
    """One file for each way in which pictures on the web go wrong; the captions promise digits all the same."""
    from PIL import Image

    whole = digits[0].answer.payload
    login = b"<!doctype html><title>Not here</title><p>Please log in."
    huge = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", huge)
        + _chunk(b"IDAT", zlib.compress(bytes(60_001)))
        + _chunk(b"IEND", b"")
    )
    altered = bytearray(whole)
    altered[whole.index(b"IDAT") + 20] ^= 0xFF
    png = "image/png"
    answers = {
        "truncated": Answer(whole[: len(whole) // 2], png),
        "corrupt": Answer(bytes(altered), png),
        "html": Answer(login, png),
        "empty": Answer(b"", png),
        "missing": Answer(b"", png, status=404),
        "refused": Answer(b"", png, status=403),
        "dot": _png(Image.new("L", (1, 1), 128)),
        "bomb": Answer(bomb, png),
        "reserved": Answer(digits[5].answer.payload, png, headers={"X-Robots-Tag": "noai, noimageai"}),
    }
    pictures = [
        Picture(f"/broken/{name}.png", f"handwritten digit: {number}", one)
        for number, (name, one) in enumerate(answers.items())
    ]
    # Also in a public page, so that the picture itself is asked about, not only the page around it.
    return [*pictures, Picture(f"{FORBIDDEN}4.png", digits[4].caption, digits[4].answer)]


def _chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk of a PNG file (ISO/IEC 15948, 5.3)."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def _png(image: "Image") -> Answer:
    written = io.BytesIO()
    image.save(written, "PNG")
    return Answer(written.getvalue(), "image/png")
