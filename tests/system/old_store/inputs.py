"""What the corpora of the old store are made of: recipes, lists, files, and the web site that they name."""

import bz2
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PORT = 21753  # of the site: part of the keys of samples, so always the same; below those that systems hand out
SITE = f"http://127.0.0.1:{PORT}"
SIDE = 48  # pixels
WORDS = (
    "river",
    "stone",
    "light",
    "winter",
    "garden",
    "paper",
    "engine",
    "music",
    "silver",
    "market",
    "bridge",
    "forest",
)

RECIPES = {
    "birds": """
        [source]
        name = "image_urls"
        lists = "birds*.csv"
        partition_urls = 6
        [[steps]]
        name = "image_size"
        min_short_side = 24
        [[steps]]
        name = "aspect_ratio"
        [[rules]]
        name = "exact_duplicates"
        [[rules]]
        name = "near_duplicate_images"
        [splits]
        train = 60
        validation = 20
        test = 20
        [provenance]
        author = "The birds"
        [shards]
        samples = 5
        partitions = 2
        """,
    "plain": """
        [source]
        name = "image_urls"
        lists = "plain.txt"
        group = "host"
        partition_urls = 4
        """,
    "scored": """
        [source]
        name = "image_urls"
        lists = "scored.jsonl"
        columns = ["camera", "score"]
        [splits]
        train = 100
        """,
    "pages": f"""
        [source]
        name = "image_urls"
        start = "{SITE}/pages/index.html"
        group = "page"
        label_pattern = 'kind (\\w+)'
        [splits]
        train = 70
        validation = 30
        """,
    "photos": """
        [source]
        name = "local_files"
        files = "photos"
        label = "folder"
        files_per_partition = 8
        [[rules]]
        name = "exact_duplicates"
        [[rules]]
        name = "leak_free_split"
        [splits]
        train = 50
        validation = 50
        """,
    "squares": """
        [source]
        name = "local_files"
        files = "photos/**/*.jpg"
        [[steps]]
        name = "image"
        mode = "center_crop"
        size = 32
        """,
    "texts": """
        [source]
        name = "local_files"
        files = "texts"
        [[steps]]
        name = "text_normalise"
        [[steps]]
        name = "text_length"
        min_characters = 100
        [[rules]]
        name = "near_duplicate_texts"
        [splits]
        train = 70
        validation = 30
        """,
    "tables": """
        [source]
        name = "hugging_face"
        dataset = "tables/pictures.parquet"
        columns = ["caption", "score"]
        rows_per_partition = 5
        """,
    "wiki": """
        [source]
        name = "wikipedia_dump"
        dump = "pages-articles-multistream.xml.bz2"
        partition_megabytes = 1
        [[steps]]
        name = "text_length"
        min_characters = 40
        """,
    "films": f"""
        [source]
        name = "video_frames"
        videos = ["films/*.mp4", "{SITE}/film.mp4"]
        frames_per_second = 2
        [splits]
        train = 50
        validation = 50
        """,
}
GROWN = "birds"  # has a second list, birds-2.csv, in its second version


def make(folder: Path) -> dict[str, bytes]:
    """Write recipes and files into the folder; what the site answers, by path."""
    for corpus, text in RECIPES.items():
        lines = (line.strip() for line in text.strip().splitlines())
        put(folder / f"{corpus}.toml", "\n".join([f'corpus = "{corpus}"', *lines, ""]))
    site = {f"/birds/{number:02d}.jpg": picture(number) for number in range(24)}
    site |= {f"/plain/{number:02d}.png": picture(100 + number, "PNG") for number in range(10)}
    site["/birds/copy.jpg"] = site["/birds/03.jpg"]
    site["/birds/small.png"] = picture(60, "PNG", (12, 12))
    site["/birds/long.png"] = picture(61, "PNG", (120, 24))
    site["/birds/cut.jpg"] = site["/birds/05.jpg"][:-200]
    site["/birds/page.jpg"] = b"<!doctype html><title>Not here</title><p>Please log in."
    site["/film.mp4"] = film(7)
    site |= dict(_pages())
    _lists(folder)
    _photos(folder / "photos")
    _texts(folder / "texts")
    _table(folder / "tables" / "pictures.parquet")
    put(folder / "pages-articles-multistream.xml.bz2", _dump())
    put(folder / "films" / "short.mp4", film(3))
    return site


def put(path: Path, payload: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(payload.encode() if isinstance(payload, str) else payload)


def picture(number: int, form: str = "JPEG", size: tuple[int, int] = (SIDE, SIDE)) -> bytes:
    """A picture that looks like no other: a few blocks of colour, drawn by its number."""
    blocks = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(sink, form)
    return sink.getvalue()


def _lists(folder: Path) -> None:
    rows = [f"{SITE}/birds/{number:02d}.jpg,bird {number},kind {number % 3}" for number in range(16)]
    rows[3:3] = [f"{SITE}/birds/gone.jpg,a 404,", f"{SITE}/birds/copy.jpg,a copy,kind 0"]
    rows[7:7] = [",a caption without an address,", f"{SITE}/birds/00.jpg,the first again,kind 0"]
    rows[11:11] = ["http://[broken/,no address,", f"{SITE}/birds/cut.jpg,cut short,"]
    rows += [f"{SITE}/birds/{name},{name}," for name in ("small.png", "long.png", "page.jpg")]
    put(folder / "birds-1.csv", "\n".join(["url,caption,label", *rows, ""]))
    rows = [f"{SITE}/birds/{number:02d}.jpg,bird {number},kind {number % 3}" for number in range(16, 24)]
    put(folder / "birds-2.csv", "\n".join(["url,caption,label", *rows, ""]))
    lines = [f"{SITE}/plain/{number:02d}.png" for number in range(11)]  # the last one is not there
    lines[6:6] = [lines[1], "ftp://example.org/a.png"]
    put(folder / "plain.txt", "".join(f"{line}\n" for line in lines))
    values = ({"camera": f"C{number % 2}", "score": number / 4} for number in range(6))
    scored = ({"url": f"{SITE}/birds/{number:02d}.jpg"} | more for number, more in enumerate(values))
    rows = [json.dumps(row) for row in scored]
    put(folder / "scored.jsonl", "\n".join([*rows[:3], "", *rows[3:], rows[0], ""]))


def _pages() -> Iterator[tuple[str, bytes]]:
    """Pages with four pictures each; one page wants none of its pictures used, and one link leads nowhere."""
    links = "".join(f'<a href="/pages/{page}.html">{page}</a>' for page in (0, 1, 2, 3, "gone"))
    yield "/pages/index.html", f"<!doctype html><title>All</title>{links}".encode()
    for page in range(4):
        figures = []
        for number in range(page * 4, page * 4 + 4):
            path = f"/{'private' if number == 5 else 'pages'}/{number}.png"
            yield path, picture(200 + number, "PNG")
            caption = "nothing" if number == 6 else f"kind {'ab'[number % 2]}"
            figures.append(f'<figure><img src="{path}"><figcaption>{caption}</figcaption></figure>')
        head = f"<title>Page {page}</title>" + '<meta name="robots" content="noimageindex">' * (page == 2)
        yield f"/pages/{page}.html", f"<!doctype html>{head}{''.join(figures)}".encode()
    yield "/robots.txt", b"User-agent: *\nDisallow: /private/\n"


def _photos(folder: Path) -> None:
    """Pictures in two folders; each of the second looks like one of the first: what a split must not tear apart."""
    for number in range(9):
        one, other = folder / "day" / f"{number}.jpg", folder / "night" / f"{number}.png"
        put(one, picture(300 + number))
        put(other, picture(300 + number, "PNG", (2 * SIDE, 2 * SIDE)))
        put(one.with_suffix(".txt"), f"Photo {number} of the day")
        put(other.with_suffix(".json"), json.dumps({"caption": f"Photo {number} of the night", "licence": "CC0-1.0"}))
    put(folder / "day" / "copy.jpg", picture(300))
    put(folder / "day" / "empty.jpg", b"")
    put(folder / "day" / "notes.xyz", "neither image nor text")


def _texts(folder: Path) -> None:
    for number in range(14):
        words = random.Random(number).choices(WORDS, k=60)  # the same texts every time
        put(folder / f"{number:02d}.txt", f"Text {number}.\n\n{' '.join(words)}\n")
        if number == 2:
            put(folder / "02-again.txt", f"Text {number}.\n\n{' '.join(words)} and so on\n")
    put(folder / "short.txt", "Too short.\n")


def _table(path: Path) -> None:
    images = [{"bytes": picture(400 + number, "PNG"), "path": f"{number}.png"} for number in range(11)]
    images.append({"bytes": b"no image", "path": "11.png"})
    columns = {
        "image": images,
        "label": [number % 3 for number in range(12)],
        "caption": [f"row {number}" for number in range(12)],
        "score": [number / 8 for number in range(12)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def _dump() -> bytes:
    """Articles, a talk page, a redirect, a short page and one whose text is not that of its checksum."""
    head = (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en"><siteinfo>'
        "<sitename>Tests</sitename><dbname>testwiki</dbname><base>https://en.test.example/wiki/Main_Page</base>"
        '<case>first-letter</case><namespaces><namespace key="0" case="first-letter" />'
        '<namespace key="1" case="first-letter">Talk</namespace></namespaces></siteinfo>\n'
    )
    texts = {number: f"'''Page {number}''' is about [[{word}]]s. " + f"A {word} is a {word}, mostly. " * 3
             for number, word in enumerate(WORDS, 1)}  # fmt: skip
    texts |= {20: "#REDIRECT [[Page 1]]", 21: "Short."}
    streams = [bz2.compress(head.encode())]
    for number, text in texts.items():
        checksum = hashlib.sha1((text if number != 3 else "another").encode(), usedforsecurity=False).digest()
        title, namespace = (f"Talk:Page {number}", 1) if number == 4 else (f"Page {number}", 0)
        redirect = '<redirect title="Page 1" />' if number == 20 else ""
        stamp = datetime(2025, 1, number, tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        page = (
            f"<page><title>{title}</title><ns>{namespace}</ns><id>{number}</id>{redirect}<revision>"
            f"<id>{number + 100}</id><timestamp>{stamp}</timestamp>"
            "<contributor><username>Writer</username><id>1</id></contributor>"
            f'<model>wikitext</model><format>text/x-wiki</format><text bytes="{len(text)}" xml:space="preserve">{text}'
            f"</text><sha1>{_base36(checksum)}</sha1></revision></page>\n"
        )
        streams.append(bz2.compress(page.encode()))
    return b"".join([*streams, bz2.compress(b"</mediawiki>\n")])


def _base36(checksum: bytes) -> str:
    number, digits = int.from_bytes(checksum, "big"), ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return digits.rjust(31, "0")


def film(seed: int) -> bytes:
    """Three seconds in three scenes, H.264."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as container:
        container.metadata["title"] = f"Film {seed}"
        stream = container.add_stream("libx264", rate=8, options={"threads": "1", "crf": "30"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, SIDE, "yuv420p", Fraction(1, 8)
        for number in range(24):
            scene = picture(500 + 10 * seed + number // 8, "PNG", (64, SIDE))
            pixels = np.asarray(Image.open(io.BytesIO(scene)).rotate(number % 8))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return sink.getvalue()


def tars() -> Iterator[tuple[str, bytes]]:
    """Tars as another program writes them, by name: of two splits, with records and classes."""
    for name, numbers in {"train-0.tar": range(6), "train-1.tar": range(6, 12), "val-0.tar": range(12, 15)}.items():
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as writer:
            for number in numbers:
                record = json.dumps({"caption": f"number {number}", "license": "CC0-1.0", "group": number // 2})
                fields = {"jpg": picture(600 + number), "cls": b"%d" % (number % 3), "json": record.encode()}
                for extension, payload in fields.items():
                    info = tarfile.TarInfo(f"{number:06d}.{extension}")
                    info.size = len(payload)
                    writer.addfile(info, io.BytesIO(payload))
        yield name, sink.getvalue()
