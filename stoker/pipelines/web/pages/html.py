"""What a web page holds for a corpus: images with their captions, links, licence, author, and its owner's wishes."""

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from stoker.pipelines.web.links import normalise
from stoker.pipelines.web.opt_out import AGENT, REFUSALS, directives
from stoker.pipelines.web.pages import srcset
from stoker.pipelines.web.pages.markup import End, Start, events
from stoker.pipelines.web.pages.srcset import Choice

MAX_IMAGES = 5_000  # of one page
MAX_LINKS = 20_000
MAX_TEXT = 2_000  # characters of a caption or title
MAX_DEPTH = 8  # of figures in figures, and of elements whose text is collected
_TYPES = frozenset({"", "image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"})
_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_LAZY = ("data-src", "data-original", "data-lazy-src", "data-lazy")
_LAZY_SETS = ("data-srcset", "data-lazy-srcset")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}["']?\s{0,9}([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_WEB_CODECS = re.compile(
    r"utf-8|utf-16(-le|-be)?|ascii|cp\d{3,4}|iso8859-\d+|koi8-[rtu]|mac-\w+|shift_jis\w*|euc_\w+|gb\w+|big5\w*|tis-620"
)


@dataclass(frozen=True, slots=True)
class Image:
    """An image that a page shows or links to."""

    url: str  # in its normal form, or as written if that is no http(s) URL
    caption: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """What was found, in the page's order, each URL once."""

    title: str
    author: str
    licence: str  # URL of the licence of the whole page
    images: tuple[Image, ...]
    links: tuple[str, ...]  # in normal form, http(s) only, not to images
    refusal: str  # the directive that refuses the use of its images, or ""
    nofollow: bool


def read(content: bytes, url: str, *, charset: str = "", width: int = 0) -> Page:
    """The page's images and links; never raises. ``width`` as in ``srcset.choose``; ``charset`` from the header."""
    reader = _Reader(url, width)
    for event in events(decoded(content, charset)):
        if isinstance(event, Start):
            handler = _HANDLERS.get(event.name)
            if handler is not None:
                handler(reader, event.attributes)
        elif isinstance(event, End):
            reader.end(event.name)
        else:
            reader.text(event)
    return reader.page()


def decoded(content: bytes, charset: str = "") -> str:
    """The page's text by its byte order mark, the header's charset, its meta element, as UTF-8 or as Windows-1252."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(name, "replace")
    meta = _CHARSET.search(content[:4096])
    for name in (charset, meta[1].decode("ascii") if meta else ""):
        try:
            codec = codecs.lookup(name).name if name else ""
        except (LookupError, ValueError):
            continue
        if _WEB_CODECS.fullmatch(codec):
            return content.decode("cp1252" if codec in ("iso8859-1", "ascii") else codec, "replace")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def is_image_link(url: str) -> bool:
    """Whether a normal URL's path ends like an image file."""
    return urlsplit(url).path.lower().endswith(_SUFFIXES)


@dataclass
class _Figure:
    first: int  # number of images before it
    caption: list[str] = field(default_factory=list)
    licence: str = ""


@dataclass
class _Anchor:
    url: str
    first: int
    title: str
    text: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self, url: str, width: int) -> None:
        self._base, self._width = url, width
        self._images: list[Image] = []
        self._links: dict[str, None] = {}
        self._title: list[str] = []
        self._author: list[str] = []
        self._licence = self._sharing = self._sharing_caption = ""
        self._wishes: set[str] = set()
        self._figures: list[_Figure] = []
        self._anchor: _Anchor | None = None
        self._sources: list[Choice] | None = None
        self._texts: list[tuple[str, list[str]]] = []  # elements whose text is collected, innermost last
        self._based = False

    def page(self) -> Page:
        if self._sharing:
            self._add(self._sharing, self._sharing_caption)
        images: dict[str, Image] = {}
        for image in self._images:
            if image.url not in images or (image.caption and not images[image.url].caption):
                images[image.url] = image
        refusals = self._wishes & (REFUSALS | {"tdm-reservation"})
        return Page(
            title=_text(self._title),
            author=_text(self._author),
            licence=self._licence,
            images=tuple(images.values()),
            links=tuple(self._links),
            refusal=min(refusals) if refusals else "",
            nofollow=bool(self._wishes & {"nofollow", "none"}),
        )

    def end(self, tag: str) -> None:
        if self._texts and any(name == tag for name, _ in self._texts[-4:]):
            while self._texts.pop()[0] != tag:
                pass
        if tag == "a":
            self._end_anchor()
        elif tag == "picture":
            self._sources = None
        elif tag == "figure" and self._figures:
            figure = self._figures.pop()
            caption = _text(figure.caption)
            for place in range(figure.first, len(self._images)):
                image = self._images[place]
                self._images[place] = replace(
                    image, caption=caption or image.caption, licence=figure.licence or image.licence
                )

    def text(self, data: str) -> None:
        for _, text in self._texts:
            if len(text) < MAX_TEXT:
                text.append(data[:MAX_TEXT])

    def _collect(self, tag: str, text: list[str]) -> None:
        if len(self._texts) < MAX_DEPTH:
            self._texts.append((tag, text))

    def on_title(self, values: Mapping[str, str]) -> None:
        if not self._title:
            self._collect("title", self._title)

    def on_base(self, values: Mapping[str, str]) -> None:
        target = self._resolved(values.get("href", ""))
        if target and not self._based:
            self._base, self._based = target, True

    def on_meta(self, values: Mapping[str, str]) -> None:
        name = (values.get("name") or values.get("property") or "").lower()
        content = values.get("content", "").strip()
        if name in ("robots", AGENT):
            self._wishes |= directives(content)
        elif name == "tdm-reservation" and content == "1":
            self._wishes.add("tdm-reservation")
        elif name == "author" and not self._author:
            self._author.append(content)
        elif name in ("og:image", "og:image:url", "og:image:secure_url") and not self._sharing:
            self._sharing = content
        elif name == "og:image:alt" and not self._sharing_caption:
            self._sharing_caption = content

    def on_link(self, values: Mapping[str, str]) -> None:
        rel = values.get("rel", "").lower().split()
        if "license" in rel:
            self._license(values)
        if "next" in rel:
            self._follow(values.get("href", ""))

    def on_figure(self, values: Mapping[str, str]) -> None:
        if len(self._figures) < MAX_DEPTH:
            self._figures.append(_Figure(len(self._images)))

    def on_figcaption(self, values: Mapping[str, str]) -> None:
        if self._figures:
            self._collect("figcaption", self._figures[-1].caption)

    def on_picture(self, values: Mapping[str, str]) -> None:
        self._sources = []

    def on_source(self, values: Mapping[str, str]) -> None:
        if self._sources is not None and values.get("type", "").lower().strip() in _TYPES:
            self._sources += _choices(values)

    def on_img(self, values: Mapping[str, str]) -> None:
        written = [values.get(name, "").strip() for name in (*_LAZY, "src")]
        plain = next((one for one in written if one and not one.lower().startswith("data:")), "")
        chosen = srcset.choose((self._sources or []) + _choices(values), self._width) or plain
        self._add(chosen, values.get("alt") or values.get("title", ""))

    def on_a(self, values: Mapping[str, str]) -> None:
        self._end_anchor()
        rel = values.get("rel", "").lower().split()
        if "license" in rel:
            self._license(values)
            return
        if "author" in rel and not self._author:
            self._collect("a", self._author)
        url = self._resolved(values.get("href", ""))
        if url:
            self._anchor = _Anchor(url, len(self._images), values.get("title", ""))
            self._collect("a", self._anchor.text)

    def _end_anchor(self) -> None:
        anchor, self._anchor = self._anchor, None
        if anchor is None:
            return
        if is_image_link(anchor.url):
            inside = next((one.caption for one in self._images[anchor.first :] if one.caption), "")
            self._add(anchor.url, inside or _text(anchor.text) or anchor.title)
        else:
            self._follow(anchor.url)

    def _license(self, values: Mapping[str, str]) -> None:
        url = self._resolved(values.get("href", ""))
        if self._figures and not self._figures[-1].licence:
            self._figures[-1].licence = url
        elif not self._figures and not self._licence:
            self._licence = url

    def _follow(self, written: str) -> None:
        url = self._resolved(written)
        if url and len(self._links) < MAX_LINKS:
            self._links.setdefault(url)

    def _add(self, written: str, caption: str) -> None:
        if written and not written.lower().startswith("data:") and len(self._images) < MAX_IMAGES:
            self._images.append(Image(self._resolved(written) or written, _text([caption])))

    def _resolved(self, written: str) -> str:
        try:
            return normalise(written, self._base) if written else ""
        except ValueError:
            return ""


_HANDLERS: Mapping[str, Callable[[_Reader, Mapping[str, str]], None]] = {
    "title": _Reader.on_title,
    "base": _Reader.on_base,
    "meta": _Reader.on_meta,
    "link": _Reader.on_link,
    "figure": _Reader.on_figure,
    "figcaption": _Reader.on_figcaption,
    "picture": _Reader.on_picture,
    "source": _Reader.on_source,
    "img": _Reader.on_img,
    "a": _Reader.on_a,
    "area": _Reader.on_a,
}


def _choices(values: Mapping[str, str]) -> list[Choice]:
    return [one for name in (*_LAZY_SETS, "srcset") for one in srcset.parse(values.get(name, ""))]


def _text(pieces: list[str]) -> str:
    whole = " ".join("".join(pieces).split())
    return whole if len(whole) <= MAX_TEXT else whole[: MAX_TEXT - 1] + "…"
