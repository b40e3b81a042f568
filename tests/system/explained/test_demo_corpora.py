"""`stoker why` of any candidate of the demo's corpora says what follows from the served bytes and the recipes.

Nothing of Stoker decides here: pages, files, the film and the dump are read by the standard library, Pillow and PyAV.
"""

import bz2
import hashlib
import io
import random
import re
import struct
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stoker.flows import demo
from stoker.flows.demo import dump, server
from stoker.flows.demo.site import Response
from stoker.pipelines.source import Context
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.stages.why import Lineage, Search
from stoker.pipelines.web.client import Web
from stoker.storage.stores.memory import MemoryStore
from stoker.storage.versions.manifest import Manifest
from tests.system.explained.words import jaccard, runs_of
from tests.test_repository import REPO

pytestmark = pytest.mark.nightly  # half a minute: the film is made, and a thousand candidates are looked up
LOOKED_AT = 1000  # of each corpus, or all where it has fewer
SEED = 20260101

Row = Mapping[str, Any]  # Any: Parquet values


@dataclass(frozen=True)
class Expected:
    """What must be said of a candidate."""

    state: str
    reason: str = ""
    rejected_by: str = ""
    witness: str = ""  # key
    split: str = ""


@dataclass(frozen=True)
class Made:
    """A demo corpus, as it lies in the store."""

    store: MemoryStore
    manifest: Manifest
    url: str  # of the site
    pages: Mapping[str, Response]

    def rows(self) -> Iterator[Row]:
        """The records of all candidates, in the order of the raw parts."""
        for part in self.manifest.parts:
            for row in pq.read_table(io.BytesIO(self.store.read(part.records))).to_pylist():
                yield row | {"digest": part.digest}

    @cached_property
    def raw(self) -> dict[str, bytes]:
        """The first field of each sample of the raw parts, by key."""
        tars = [part.tar for part in self.manifest.parts]
        return {name: payload for tar in tars if tar for name, payload in self._members(tar)}

    @cached_property
    def stored(self) -> dict[str, dict[str, bytes]]:
        """The first field of each sample by key, in each tar of the version."""
        return {shard.key: dict(self._members(shard.key)) for shard in self.manifest.shards}

    @cached_property
    def splits(self) -> dict[str, str]:
        return {shard.key: shard.split for shard in self.manifest.shards}

    def _members(self, tar: str) -> Iterator[tuple[str, bytes]]:
        with tarfile.open(fileobj=io.BytesIO(self.store.read(tar))) as members:
            for member in members:
                key, _, extension = member.name.partition(".")
                file = members.extractfile(member)
                if extension != "json":
                    assert file is not None
                    yield key, file.read()

    def check(self, told: Lineage, expected: Expected) -> None:
        """Compare what is said of a candidate with what must be, and with where its bytes lie."""
        said = told.state, told.reason, told.rejected_by, told.duplicate_of, told.split
        wanted = expected.state, expected.reason, expected.rejected_by, expected.witness, expected.split
        assert said == wanted, told
        holding = [tar for tar, members in self.stored.items() if told.key in members]
        assert holding == ([told.shard] if expected.state == "kept" else [])
        if told.state == "kept":
            assert self.splits[told.shard] == told.split
            assert self.stored[told.shard][told.key] == self.raw[told.key]
        if told.duplicate_of:
            kept = {key for members in self.stored.values() for key in members}
            assert told.stays in kept


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    """The three corpora, as the demo makes them, from one site."""
    pytest.importorskip("sklearn")
    pytest.importorskip("av")
    pages = server.content(tmp_path_factory.mktemp("demo"))
    store, corpora = MemoryStore(), {}
    with server.serving(pages) as site:
        for corpus in demo.CORPORA:
            recipe = demo.recipe_at(site.url, REPO / "recipes" / f"{corpus}.toml")
            web = Web(allow_private=True, requests_per_second=0)
            context = Context(root=recipe.root, web=web, scratch=tmp_path_factory.mktemp("scratch"))
            corpora[corpus] = Made(store, ingest(recipe, store, context).manifest, site.url, pages)
            web.close()
    return corpora


def split_of(group: str, train: float) -> str:
    """By the first eight bytes of SHA-256 of "split", NUL and the group's name."""
    hashed = hashlib.sha256(b"split\0" + group.encode()).digest()[:8]
    return "train" if int.from_bytes(hashed, "big") / 2**64 * 100 < train else "validation"


def drawn(candidates: Sequence[str]) -> list[str]:
    return random.Random(SEED).sample(candidates, min(LOOKED_AT, len(candidates)))


# ---------------------------------------------------------------------------------------------------------- digits


class _Page(HTMLParser):
    """The links and the pictures of a page, these with their alternative texts."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.feed(payload.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links.append(told["href"])
        elif tag == "img":
            self.pictures.append((told["src"], told["alt"]))


def fault_of(path: str, caption: str, site: Mapping[str, Response]) -> tuple[str, str]:
    """Why a picture is not taken, and who says so; two empty strings if it is."""
    response = site.get(path)
    if path.startswith("/private/"):
        return "robots", "image_urls"
    if not re.search(r"handwritten digit: \d", caption):
        return "no_label", "image_urls"
    if response is None or response.status != 200:
        return ("forbidden" if response and response.status == 403 else "gone"), "image_urls"
    if "noai" in response.headers.get("X-Robots-Tag", ""):
        return "opted_out", "image_urls"
    return fault_of_bytes(response.payload)


def fault_of_bytes(payload: bytes) -> tuple[str, str]:
    """The same of a file: its source looks at its first bytes, the first step at its head, the second at the rest."""
    if not payload:
        return "empty", "image_urls"
    if not payload.startswith(b"\x89PNG\r\n\x1a\n"):
        return "not_an_image", "image_urls"
    width, height = struct.unpack(">II", payload[16:24])
    if width * height > 1e9:
        return "too_many_pixels", "image_size"
    if min(width, height) < 16:
        return "too_small", "image_size"
    offset, is_whole = 8, False
    while offset + 12 <= len(payload):
        (size,) = struct.unpack(">I", payload[offset : offset + 4])
        chunk, ending = payload[offset + 4 : offset + 8 + size], payload[offset + 8 + size : offset + 12 + size]
        if len(ending) < 4:
            break
        if zlib.crc32(chunk) != int.from_bytes(ending, "big"):
            return "corrupt", "image"
        is_whole = chunk[:4] == b"IEND"
        offset += 12 + size
    return ("", "") if is_whole else ("truncated", "image")


def pixels_of(payload: bytes) -> bytes:
    image = Image.open(io.BytesIO(payload))
    assert image.size == (32, 32)
    return image.convert("L").tobytes()


def test_of_a_site_of_images(made: dict[str, Made]) -> None:
    digits = made["digits"]
    captions: dict[str, tuple[str, str]] = {}  # by the path of the picture: the page and the caption
    for page in ["/", *_Page(digits.pages["/"].payload).links]:
        if page in digits.pages and not page.startswith("/private/"):
            for path, caption in _Page(digits.pages[page].payload).pictures:
                captions.setdefault(path, (page, caption))
    rows = {row["url"]: row for row in digits.rows() if row["url"] is not None}
    assert {urljoin(digits.url, path) for path in captions} <= set(rows)
    faults = {path: fault_of(path, caption, digits.pages) for path, (_, caption) in captions.items()}
    by_url = {urljoin(digits.url, path): path for path in captions}
    first: dict[bytes, str] = {}  # of each picture the key that was read first
    for url, row in rows.items():
        path = by_url.get(url, "")
        if path and not faults[path][0]:
            first.setdefault(pixels_of(digits.pages[path].payload), row["key"])
    reasons: Counter[str] = Counter()
    search, chance = Search(digits.store, digits.manifest), random.Random(SEED)
    for path in drawn(sorted(captions)):
        url, (page, caption) = urljoin(digits.url, path), captions[path]
        key, (reason, rejected_by) = rows[url]["key"], faults[path]
        payload = digits.pages[path].payload if path in digits.pages else b""
        texts = [url, key] if reason else [url, key, hashlib.sha256(payload).hexdigest()]
        (told,) = (one for one in search.lineages(chance.choice(texts)) if one.key == key)
        if reason:
            expected = Expected("rejected", reason, rejected_by)
        elif (witness := first[pixels_of(payload)]) != key:
            expected = Expected("dropped", "exact_duplicate", "exact_duplicates", witness)
        else:
            expected = Expected("kept", split=split_of(urljoin(digits.url, page), 80))
        digits.check(told, expected)
        reasons[told.reason] += 1
        assert told.record["url"] == url
        if told.state == "kept":
            assert pixels_of(digits.raw[key]) == pixels_of(payload)
            assert told.record["sha256"] == hashlib.sha256(payload).hexdigest()
            assert (told.record["label"], told.record["caption"]) == (caption[-1], caption)
    assert reasons.total() == LOOKED_AT
    assert len(reasons) > 5


# ------------------------------------------------------------------------------------------------------------ film


def perceptual_hash(payload: bytes) -> npt.NDArray[np.bool_]:
    """256 bits, from the lowest frequencies of the grey picture at 64 x 64, as PDQ has them."""
    grey = np.asarray(Image.open(io.BytesIO(payload)).convert("L").resize((64, 64), Image.Resampling.BOX), np.float64)
    row, column = np.arange(1, 17)[:, None], np.arange(64)[None, :]
    cosines = np.cos(np.pi * row * (2 * column + 1) / 128)
    frequencies = cosines @ grey @ cosines.T
    return np.asarray(frequencies > np.median(frequencies)).ravel()


DISTANCE = 31  # bits: the default of near_duplicate_images
DOUBT = 10  # bits in which two hashes differ more or less where pictures are scaled down in another way


def test_of_a_film(made: dict[str, Made]) -> None:
    import av

    film = made["film"]
    with av.open(io.BytesIO(film.pages[server.FILM].payload), "r") as opened:
        frames = [frame.to_image() for frame in opened.decode(video=0)]  # type: ignore[no-untyped-call]  # av
    wanted = [
        int(quarter * 25 / 4) for quarter in range(len(frames) * 4 // 25)
    ]  # what a player shows then, at 25 a second
    rows = {round(row["time_s"] * 25): row["key"] for row in film.rows()}
    assert sorted(rows) == wanted
    number_of = {key: number for number, key in rows.items()}
    hashes = {number: perceptual_hash(film.raw[rows[number]]) for number in wanted}

    def distance(one: int, other: int) -> int:
        return int((hashes[one] != hashes[other]).sum())

    search, kept = Search(film.store, film.manifest), list[int]()
    told_of = {number: search.lineages(rows[number])[0] for number in wanted}
    reasons: Counter[str] = Counter()
    for number in wanted:  # all: they are few; in the order of time, in which the oldest is kept
        told = told_of[number]
        nearest = min((distance(number, other) for other in kept), default=256)
        if told.state == "kept":
            assert nearest > DISTANCE - DOUBT
            kept.append(number)
            film.check(told, Expected("kept", split="train"))
        else:
            witness = number_of[told.duplicate_of]
            film.check(told, Expected("dropped", "near_duplicate", "near_duplicate_images", told.duplicate_of))
            assert witness in kept
            assert distance(number, witness) <= DISTANCE + DOUBT
            assert told.similarity == pytest.approx(1 - distance(number, witness) / 256, abs=DOUBT / 256)
        shown = np.asarray(Image.open(io.BytesIO(film.raw[told.key])).convert("RGB"), np.int32)
        assert np.abs(shown - np.asarray(frames[number], np.int32)).mean() < 5
        reasons[told.reason] += 1
    assert min(reasons[""], reasons["near_duplicate"]) > 10


# -------------------------------------------------------------------------------------------------------- handbook


@dataclass(frozen=True)
class WikiPage:
    number: int
    namespace: int
    is_redirect: bool
    text: str

    @property
    def plain(self) -> str:
        """The text with hardly any markup, good to a few words."""
        text = re.sub(r"<!--.*?-->", "", self.text, flags=re.DOTALL)
        while (less := re.sub(r"\{\{[^{}]*\}\}", "", text)) != text:
            text = less
        text = re.sub(r"\[\[Category:[^\]]*\]\]", "", text)
        text = re.sub(r"\[\[(?:[^\]|]*\|)?([^\]]*)\]\]", r"\1", text)
        return re.sub(r"'{2,}|<[^<>]*>|^=+|=+$", "", text, flags=re.MULTILINE).strip()


def wiki_pages(payload: bytes) -> Iterator[WikiPage]:
    space = "{http://www.mediawiki.org/xml/export-0.11/}"
    for page in ET.fromstring(bz2.decompress(payload)).iter(f"{space}page"):
        texts = {name: page.findtext(f"{space}{name}") for name in ("id", "ns")}
        text = page.findtext(f"{space}revision/{space}text")
        yield WikiPage(
            int(texts["id"] or 0), int(texts["ns"] or 0), page.find(f"{space}redirect") is not None, text or ""
        )


def test_of_a_dump(made: dict[str, Made]) -> None:
    handbook = made["handbook"]
    payload = handbook.pages[f"{server.HANDBOOK}{dump.NAME}.xml.bz2"].payload
    pages = {f"handbook-{page.number}": page for page in wiki_pages(payload)}
    assert sorted(row["key"] for row in handbook.rows()) == sorted(pages)
    search = Search(handbook.store, handbook.manifest)
    reasons: Counter[str] = Counter()
    kept: list[str] = []  # texts
    for key, page in pages.items():
        (told,) = search.lineages(key)
        text = handbook.raw.get(key, b"").decode()
        if page.namespace:
            expected = Expected("rejected", "namespace", "wikipedia_dump")
        elif page.is_redirect:
            expected = Expected("rejected", "redirect", "wikipedia_dump")
        elif len(page.plain) < 200:
            expected = Expected("rejected", "too_short", "text_length")
        else:
            assert max((jaccard(text, other) for other in kept), default=0) < 0.8
            expected = Expected("kept", split=split_of(key, 85))
            assert len(runs_of(text) & runs_of(page.plain)) > 0.8 * len(runs_of(text))  # without tables
            kept.append(text)
        handbook.check(told, expected)
        reasons[told.reason] += 1
    assert set(reasons) == {"", "namespace", "redirect", "too_short"}
