"""Parse a web page: its images with captions, its links, licence, author, title and opt-out directives."""

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from stoker.pipelines.web.links import normalise
from stoker.pipelines.web.opt_out import AGENT, OPT_OUT_DIRECTIVES, directives, is_reserved
from stoker.pipelines.web.pages import srcset
from stoker.pipelines.web.pages.markup import EndTag, StartTag, tokenize
from stoker.pipelines.web.pages.srcset import SrcsetEntry

MAX_IMAGES = 5_000  # of one page
MAX_LINKS = 20_000
MAX_TEXT = 2_000  # characters of a caption or title
MAX_RESOLVED = 16 << 20  # characters of a page's different links, each with the page's own URL: hours if it is long
MAX_DEPTH = 8  # of figures in figures, and of elements whose text is collected
_IMAGE_TYPES = frozenset(
    {"", "image/jpeg", "image/jpg", "image/png", "image/webp", "image/gif", "image/bmp", "image/tiff"}
)
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_LAZY_SRC = ("data-src", "data-original", "data-lazy-src", "data-lazy")
_LAZY_SRCSET = ("data-srcset", "data-lazy-srcset")
_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}["']?\s{0,9}([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_WEB_CODECS = re.compile(
    r"utf-8|utf-16(-le|-be)?|ascii|cp\d{3,4}|iso8859-\d+|koi8-[rtu]|mac-\w+|shift_jis\w*|euc_\w+|gb\w+|big5\w*|tis-620"
)


@dataclass(frozen=True, slots=True)
class PageImage:
    """An image that a page shows or links to."""

    url: str  # in normal form, or as written if it is not an http(s) URL
    caption: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class HtmlPage:
    """The content of a page, in the page's order, each URL once."""

    title: str
    author: str
    licence: str  # URL of the licence of the whole page
    images: tuple[PageImage, ...]
    links: tuple[str, ...]  # in normal form, http(s) only, not to images
    opt_out: str  # the directive that forbids the use of its images, or ""
    nofollow: bool  # its links must not be followed


def parse_page(content: bytes, url: str, *, charset: str = "", width: int = 0) -> HtmlPage:
    """The page's images and links; never raises. ``width`` as in ``srcset.choose``; ``charset`` from the header."""
    parser = _PageParser(url, width)
    for token in tokenize(decode_page(content, charset)):
        if isinstance(token, StartTag):
            handler = _HANDLERS.get(token.name)
            if handler is not None:
                handler(parser, token.attributes)
        elif isinstance(token, EndTag):
            parser.end(token.name)
        else:
            parser.text(token)
    return parser.page()


def decode_page(content: bytes, charset: str = "") -> str:
    """The page's text, by the first that applies: byte order mark, header, meta element, UTF-8, Windows-1252."""
    for mark, name in _BYTE_ORDER_MARKS:
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
    return urlsplit(url).path.lower().endswith(_IMAGE_SUFFIXES)


@dataclass
class _Figure:
    """An open figure element: its caption and licence apply to the images in it."""

    first: int  # number of images before it
    caption: list[str] = field(default_factory=list)
    licence: str = ""


@dataclass
class _Anchor:
    """An open link."""

    url: str
    first: int  # number of images before it
    title: str
    text: list[str] = field(default_factory=list)


class _PageParser:
    """Collects what the tags and texts of a page mean."""

    def __init__(self, url: str, width: int) -> None:
        self._base, self._width = url, width
        self._images: list[PageImage] = []
        self._links: dict[str, None] = {}
        self._title: list[str] = []
        self._author: list[str] = []
        self._licence = self._og_image = self._og_image_alt = ""
        self._directives: set[str] = set()
        self._figures: list[_Figure] = []
        self._anchor: _Anchor | None = None
        self._sources: list[SrcsetEntry] | None = None  # of an open picture: none, or the best one
        self._texts: list[tuple[str, list[str]]] = []  # elements whose text is collected, innermost last
        self._has_base = False
        self._resolved: dict[str, str] = {}  # URLs by their texts: most links of a page come again and again
        self._characters = 0

    def page(self) -> HtmlPage:
        if self._og_image:
            self._add(self._og_image, self._og_image_alt)
        images: dict[str, PageImage] = {}
        for image in self._images:
            if image.url not in images or (image.caption and not images[image.url].caption):
                images[image.url] = image
        opt_outs = self._directives & (OPT_OUT_DIRECTIVES | {"tdm-reservation"})
        return HtmlPage(
            title=_text(self._title),
            author=_text(self._author),
            licence=self._licence,
            images=tuple(images.values()),
            links=tuple(self._links),
            opt_out=min(opt_outs) if opt_outs else "",
            nofollow=bool(self._directives & {"nofollow", "none"}),
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
            for index in range(figure.first, len(self._images)):
                image = self._images[index]
                self._images[index] = replace(
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
        target = "" if self._has_base else self._resolve(values.get("href", ""))
        if target:
            self._base, self._has_base = target, True
            self._resolved.clear()  # they were relative to the old one

    def on_meta(self, values: Mapping[str, str]) -> None:
        name = (values.get("name") or values.get("property") or "").lower()
        content = values.get("content", "").strip()
        if name.partition("/")[0].strip() in ("robots", AGENT):
            self._directives |= directives(content)
        elif name == "tdm-reservation" and is_reserved(content):
            self._directives.add("tdm-reservation")
        elif name == "author" and not self._author:
            self._author.append(content)
        elif name in ("og:image", "og:image:url", "og:image:secure_url") and not self._og_image:
            self._og_image = content
        elif name == "og:image:alt" and not self._og_image_alt:
            self._og_image_alt = content

    def on_link(self, values: Mapping[str, str]) -> None:
        rel = values.get("rel", "").lower().split()
        if "license" in rel:
            self._set_licence(values)
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
        if self._sources is not None and values.get("type", "").lower().strip() in _IMAGE_TYPES:
            # One entry stands for all so far: each image of the picture would look at every one of them.
            chosen = srcset.choose_entry(self._sources + _srcset_entries(values), self._width)
            self._sources = [] if chosen is None else [chosen]

    def on_img(self, values: Mapping[str, str]) -> None:
        sources = [values.get(name, "").strip() for name in (*_LAZY_SRC, "src")]
        source = next((text for text in sources if text and not text.lower().startswith("data:")), "")
        url = srcset.choose((self._sources or []) + _srcset_entries(values), self._width) or source
        self._add(url, values.get("alt") or values.get("title", ""))

    def on_a(self, values: Mapping[str, str]) -> None:
        self._end_anchor()
        rel = values.get("rel", "").lower().split()
        if "license" in rel:
            self._set_licence(values)
            return
        if "author" in rel and not self._author:
            self._collect("a", self._author)
        url = self._resolve(values.get("href", ""))
        if url:
            self._anchor = _Anchor(url, len(self._images), values.get("title", ""))
            self._collect("a", self._anchor.text)

    def _end_anchor(self) -> None:
        anchor, self._anchor = self._anchor, None
        if anchor is None:
            return
        if is_image_link(anchor.url):
            inner = next((image.caption for image in self._images[anchor.first :] if image.caption), "")
            self._add(anchor.url, inner or _text(anchor.text) or anchor.title)
        else:
            self._follow(anchor.url)

    def _set_licence(self, values: Mapping[str, str]) -> None:
        if self._figures and not self._figures[-1].licence:
            self._figures[-1].licence = self._resolve(values.get("href", ""))
        elif not self._figures and not self._licence:
            self._licence = self._resolve(values.get("href", ""))

    def _follow(self, text: str) -> None:
        url = self._resolve(text)
        if url and len(self._links) < MAX_LINKS:
            self._links.setdefault(url)

    def _add(self, text: str, caption: str) -> None:
        if text and not text.lower().startswith("data:") and len(self._images) < MAX_IMAGES:
            self._images.append(PageImage(self._resolve(text) or text, _text([caption])))

    def _resolve(self, text: str) -> str:
        """The URL in normal form; "" if it is none, or the page has used up ``MAX_RESOLVED``."""
        if text not in self._resolved:
            self._characters += len(text) + len(self._base)
            if self._characters > MAX_RESOLVED:
                return ""
            try:
                self._resolved[text] = normalise(text, self._base) if text else ""
            except ValueError:
                self._resolved[text] = ""
        return self._resolved[text]


_HANDLERS: Mapping[str, Callable[[_PageParser, Mapping[str, str]], None]] = {
    "title": _PageParser.on_title,
    "base": _PageParser.on_base,
    "meta": _PageParser.on_meta,
    "link": _PageParser.on_link,
    "figure": _PageParser.on_figure,
    "figcaption": _PageParser.on_figcaption,
    "picture": _PageParser.on_picture,
    "source": _PageParser.on_source,
    "img": _PageParser.on_img,
    "a": _PageParser.on_a,
    "area": _PageParser.on_a,
}


def _srcset_entries(values: Mapping[str, str]) -> list[SrcsetEntry]:
    return [entry for name in (*_LAZY_SRCSET, "srcset") for entry in srcset.parse(values.get(name, ""))]


def _text(pieces: list[str]) -> str:
    joined = " ".join("".join(pieces).split())
    return joined if len(joined) <= MAX_TEXT else joined[: MAX_TEXT - 1] + "…"
