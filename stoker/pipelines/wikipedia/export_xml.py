"""Parsing of single pages of MediaWiki export XML: a damaged page harms no other."""

import hashlib
import re
from dataclasses import dataclass
from xml.parsers import expat

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.wikipedia.wikitext.tags import decode_entities


@dataclass(slots=True)
class DumpPage:
    """A page and its newest revision, as the dump describes them."""

    page_id: int = 0
    title: str = ""
    namespace: int | None = None  # None: the dump does not say, as before version 0.5 of its schema
    redirect: str | None = None  # the title it redirects to
    revision_id: int = 0
    parent_id: int | None = None  # the revision before it
    timestamp: str = ""
    content_model: str = "wikitext"
    sha1: str = ""  # of the text, in base 36; empty if the dump has none
    text: str | None = None  # None: the dump does not hold it


def find_id_and_title(raw: bytes) -> tuple[str, str]:
    """Id and title from the beginning of a page's XML without parsing it; empty strings where they are not intact.

    >>> find_id_and_title(b"<page><title>Tin</title><ns>0</ns><id>7</id><revision><id>9</id>")
    ('7', 'Tin')
    >>> find_id_and_title(b"<page><title>Tin</title><ns>0</ns><id>7</ix><revision><id>9</id>")
    ('', 'Tin')
    """
    start = _PAGE_START.match(raw[:_SEARCHED])
    if start is None:
        return "", ""
    return (start["id"] or b"").decode(), decode_entities(start["title"].decode("utf-8", "replace"))


_SEARCHED = 1 << 12  # bytes from a page's beginning
# Only what stands where it must, behind whatever is left of the page's first tag: the next <id> is the revision's.
_PAGE_START = re.compile(
    rb"(?:[^<>]{0,100}<)?[^<>]{0,100}>?\s*<title>(?P<title>[^<>]{1,1000})</title>\s*"
    rb"(?:<ns>-?\d{1,9}</ns>\s*)?(?:<id>(?P<id>[0-9]{1,19})</id>\s*<(?:revision|redirect|restrictions|sha1|upload|disc))?"
)


def find_revision(raw: bytes) -> tuple[str, int] | None:
    """The ids of a page and of its only revision without parsing it; None where they are not intact, or it has several.

    >>> find_revision(b"<page><title>Tin</title><ns>0</ns><id>7</id><revision><id>9</id>")
    ('7', 9)
    """
    page_id, _ = find_id_and_title(raw)
    if not page_id or raw.count(b"<revision>") != 1:
        return None
    found = _REVISION.search(raw)
    return (page_id, int(found[1])) if found else None


def find_sha1(raw: bytes) -> str:
    """The checksum of the text of a page's only revision without parsing it; HIDDEN where that text was taken out.

    >>> find_sha1(b'<text bytes="5" sha1="phoiac9h4m842xq45sp7s6u21eteeq1" xml:space="preserve">')
    'phoiac9h4m842xq45sp7s6u21eteeq1'
    >>> find_sha1(b'<text bytes="5" deleted="deleted" /><sha1 />'), find_sha1(b'<text>Tin</text>')
    ('hidden', '')
    """
    if (text := _TEXT.search(raw)) is None:
        return ""
    if b'deleted="' in text[1]:
        return HIDDEN
    found = _TEXT_SHA1.search(text[1]) or _SHA1.search(raw, text.end())
    return found[1].decode() if found else ""


HIDDEN = "hidden"
_TEXT = re.compile(rb"<text\b([^>]{0,1000})>")
_TEXT_SHA1 = re.compile(rb'sha1="([0-9a-z]{31})"')
_SHA1 = re.compile(rb"<sha1>([0-9a-z]{31})</sha1>")
_REVISION = re.compile(rb"<revision>\s*<id>([1-9][0-9]{0,18})</id>")


def parse_page(xml: bytes) -> DumpPage | Rejected:
    """The page in its XML, with the latest of its revisions; ``corrupt`` where the XML is at fault."""
    handlers = _PageHandlers()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.buffer_size = 1 << 18
    parser.StartElementHandler = handlers.start
    parser.EndElementHandler = handlers.end
    parser.CharacterDataHandler = handlers.data
    parser.StartDoctypeDeclHandler = handlers.doctype
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        return Rejected("corrupt", f"its XML: {expat.errors.messages[error.code]}, byte {parser.ErrorByteIndex} of it")
    except _Malformed as error:
        return Rejected("corrupt", str(error))
    except ValueError as error:
        return Rejected("corrupt", f"its XML: {error}")
    numbers = (handlers.page.revision_id, handlers.page.parent_id or 0, abs(handlers.page.namespace or 0))
    if not 0 < handlers.page.page_id < _MAX_NUMBER or not all(0 <= number < _MAX_NUMBER for number in numbers):
        return Rejected("corrupt", "it has no number, or one that is none")
    if not handlers.page.title:
        return Rejected("corrupt", "it has no title")
    return handlers.page


_MAX_NUMBER = 1 << 63  # a column of a table holds no larger ones


class _Malformed(Exception):
    pass


_ONCE = frozenset(("id", "parentid", "timestamp", "model", "text", "sha1"))  # elements that a revision has at most once


_ATTRIBUTE = re.compile(r"(?:xml:)?[^:]+")  # no other prefix is declared in a dump; expat would take any


class _PageHandlers:
    """Handlers for expat that read page/* and page/revision/*; deeper elements are ignored."""

    def __init__(self) -> None:
        self.page = DumpPage()
        self.depth = 0
        self.text: list[str] = []  # pieces of the current element's text
        self.seen: set[str] = set()  # elements of the page that it has once
        self.in_upload = False  # a version of a file, as dumps with --uploads have them beside revisions
        self.revision: dict[str, str] = {}  # the current revision's elements, and attributes of its text

    def doctype(self, *_: object) -> None:
        raise _Malformed("its XML holds a document type, which no dump has")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.refuse_text(self.depth)
        self.depth += 1
        if self.depth == 2 and name == "redirect":
            self.page.redirect = attributes.get("title", "")
        elif self.depth == 2 and name == "revision":
            self.revision = {}
        elif self.depth == 2 and name == "upload":
            self.in_upload = True
        elif self.depth == 3 and name == "text":
            if wrong := [attribute for attribute in attributes if not _ATTRIBUTE.fullmatch(attribute)]:
                raise _Malformed(f"its text has an attribute {wrong[0][:40]!r}: pieces of two pages are one")
            self.revision["stub"] = "stub" if "bytes" in attributes and attributes["bytes"] != "0" else ""
            self.revision["deleted"] = "deleted" if "deleted" in attributes else ""
            self.revision["text_sha1"] = attributes.get("sha1", "")

    def data(self, text: str) -> None:
        self.text.append(text)

    def end(self, name: str) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.refuse_text(1)
        elif self.depth == 1 and name == "revision":
            self.refuse_text(2)
            self.end_revision()
        elif self.depth == 1 and name == "upload":
            self.in_upload = False
        elif self.depth == 1 and name in ("title", "ns", "id"):
            self.end_of_page_element(name, "".join(self.text))
        elif self.depth == 2 and not self.in_upload:
            if name in self.revision and name in _ONCE:
                raise _Malformed(f"a revision has two elements {name}: pieces of two pages are one")
            self.revision[name] = "".join(self.text)
        self.text.clear()

    def refuse_text(self, depth: int) -> None:
        """Text between the elements of a page or of a revision is what is left of a damaged one."""
        if depth in (1, 2) and (text := "".join(self.text).strip()):
            raise _Malformed(f"it has {text[:40]!r} between its elements: a piece of it is missing")
        self.text.clear()

    def end_of_page_element(self, name: str, text: str) -> None:
        if name in self.seen:
            raise _Malformed(f"it has two elements {name}: pieces of two pages are one")
        self.seen.add(name)
        if name == "title":
            self.page.title = text
        elif name == "ns":
            self.page.namespace = int(text)
        else:
            self.page.page_id = int(text)

    def end_revision(self) -> None:
        page, revision = self.page, self.revision
        if revision.get("timestamp", "") < page.timestamp:
            return
        page.revision_id = int(revision.get("id", "0"))
        page.parent_id = int(revision["parentid"]) if revision.get("parentid") else None
        page.timestamp = revision.get("timestamp", "")
        page.content_model = revision.get("model") or "wikitext"
        page.sha1 = revision.get("text_sha1") or revision.get("sha1", "")
        text = revision.get("text", "")
        page.text = None if revision.get("deleted") or (not text and revision.get("stub")) else text


def base36_sha1(text: str) -> str:
    """The checksum of a text as dumps write it: SHA-1 in base 36, 31 digits.

    >>> base36_sha1("")
    'phoiac9h4m842xq45sp7s6u21eteeq1'
    """
    number = int.from_bytes(hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest(), "big")
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits.zfill(31)
