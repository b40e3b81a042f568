"""Pages out of the XML that MediaWiki exports, each parsed by itself so that a damaged one harms no other."""

import hashlib
import re
from dataclasses import dataclass
from xml.parsers import expat

from stoker.pipelines.rejected import Rejected
from stoker.pipelines.wikipedia.wikitext.tags import decode_entities


@dataclass(slots=True)
class WikiPage:
    """A page and its newest revision."""

    page_id: int = 0
    title: str = ""
    namespace: int = 0
    redirect: str | None = None  # the title it leads to
    revision_id: int = 0
    timestamp: str = ""
    content_model: str = "wikitext"
    sha1: str = ""  # as the dump has it: base 36, of the text
    text: str | None = None  # None: the dump holds none


def find_id_and_title(raw: bytes) -> tuple[str, str]:
    """A damaged page's number and title, as far as they can be read; empty strings otherwise."""
    number, title = _NUMBER.search(raw[:65536]), _TITLE.search(raw[:65536])
    return (number[1].decode() if number else ""), decode_entities(title[1].decode("utf-8", "replace")) if title else ""


_NUMBER = re.compile(rb"<id>([0-9]{1,19})</id>")
_TITLE = re.compile(rb"<title>([^<]{1,1000})</title>")


def parse_page(xml: bytes) -> WikiPage | Rejected:
    """The page in its XML; of several revisions the last in time. Rejected where the XML is at fault."""
    reader = _Reader()
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.buffer_size = 1 << 18
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        return Rejected("corrupt", f"its XML: {expat.errors.messages[error.code]}, byte {parser.ErrorByteIndex} of it")
    except _Refused as error:
        return Rejected("corrupt", str(error))
    except ValueError as error:
        return Rejected("corrupt", f"its XML: {error}")
    if not 0 < reader.page.page_id < 1 << 63 or not 0 <= reader.page.revision_id < 1 << 63:
        return Rejected("corrupt", "it has no number, or one that is none")
    return reader.page


class _Refused(Exception):
    pass


class _Reader:
    """Handlers for expat: page/*, page/revision/* and nothing below."""

    def __init__(self) -> None:
        self.page = WikiPage()
        self.depth = 0
        self.held: list[str] = []
        self.facts: dict[str, str] = {}

    def refuse(self, *_: object) -> None:
        raise _Refused("its XML holds a document type, which no dump has")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        self.held.clear()
        if self.depth == 2 and name == "redirect":
            self.page.redirect = attributes.get("title", "")
        elif self.depth == 2 and name == "revision":
            self.facts = {}
        elif self.depth == 3 and name == "text":
            self.facts["stub"] = "stub" if "bytes" in attributes and attributes["bytes"] != "0" else ""
            self.facts["deleted"] = "deleted" if "deleted" in attributes else ""
            self.facts["text_sha1"] = attributes.get("sha1", "")

    def data(self, text: str) -> None:
        self.held.append(text)

    def end(self, name: str) -> None:
        self.depth -= 1
        if self.depth == 1 and name == "revision":
            self.revision()
        elif self.depth == 1 and name in ("title", "ns", "id"):
            text = "".join(self.held)
            if name == "title":
                self.page.title = text
            elif name == "ns":
                self.page.namespace = int(text)
            else:
                self.page.page_id = int(text)
        elif self.depth == 2:
            self.facts[name] = "".join(self.held)
        self.held.clear()

    def revision(self) -> None:
        page, facts = self.page, self.facts
        if facts.get("timestamp", "") < page.timestamp:
            return
        page.revision_id = int(facts.get("id", "0"))
        page.timestamp = facts.get("timestamp", "")
        page.content_model = facts.get("model") or "wikitext"
        page.sha1 = facts.get("text_sha1") or facts.get("sha1", "")
        text = facts.get("text", "")
        page.text = None if facts.get("deleted") or (not text and facts.get("stub")) else text


def base36_sha1(text: str) -> str:
    """The checksum of a text as dumps write it: SHA-1 in base 36, 31 figures.

    >>> base36_sha1("")
    'phoiac9h4m842xq45sp7s6u21eteeq1'
    """
    number = int.from_bytes(hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest(), "big")
    figures = ""
    while number:
        number, rest = divmod(number, 36)
        figures = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + figures
    return figures.zfill(31)
