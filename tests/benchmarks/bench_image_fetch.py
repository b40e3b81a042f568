"""Processor time per image URL over loopback: Stoker's web client and its source image_urls beside bare clients.

    python tests/benchmarks/bench_image_fetch.py [--images 500] [--kilobytes 100] [--rounds 5]

The server is a process of its own. Each round runs every client once, in turn; the figure is the median over the
rounds of the client process's user and system time divided by the number of images. Nothing is decoded.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from stoker.pipelines.source import Context
from stoker.pipelines.sources.image_urls import ImageUrls
from stoker.pipelines.web.client import Web
from stoker.pipelines.web.policy import Fetched

THREADS = 16
WEB = Web(allow_private=True, requests_per_second=0, connections_per_host=THREADS, threads=THREADS)


def serve(kilobytes: int) -> None:
    """A minimal HTTP server: the same JPEG-like body under every path but robots.txt."""
    body = b"\xff\xd8\xff\xe0" + os.urandom(kilobytes * 1000 - 4)
    ok = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(missing if b" /robots.txt " in head[:40] else ok)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def main() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


def fetch_all(fetch: Callable[[str], int], urls: Sequence[str]) -> int:
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(fetch, urls))


def by_urllib(urls: Sequence[str]) -> int:
    """A new connection for each URL, as img2dataset opens one; plain HTTP, so no TLS context is made."""

    def fetch(url: str) -> int:
        with urllib.request.urlopen(url, timeout=10) as response:
            return len(response.read())

    return fetch_all(fetch, urls)


def by_httpx(urls: Sequence[str]) -> int:
    """Connections are reused."""
    with httpx.Client() as client:
        return fetch_all(lambda url: len(client.get(url).content), urls)


def by_web(urls: Sequence[str]) -> int:
    def fetch(url: str) -> int:
        fetched = WEB.get(url, max_size=10_000_000)
        assert isinstance(fetched, Fetched), fetched
        return fetched.size

    try:
        return fetch_all(fetch, urls)
    finally:
        WEB.close()


def by_source(urls: Sequence[str]) -> int:
    """The whole source: list, partitions, fetch in order, sample, record."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "urls.txt").write_text("\n".join(urls))
        source, context = ImageUrls(lists="urls.txt"), Context(root, WEB, root)
        candidates = (candidate for part in source.partitions(context) for candidate in source.read(part, context))
        try:
            return sum(len(payload) for candidate in candidates for payload in candidate.sample.fields.values())
        finally:
            WEB.close()


CLIENTS = {
    "urllib, threads": by_urllib,
    "httpx, threads": by_httpx,
    "stoker Web.get": by_web,
    "stoker image_urls": by_source,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--kilobytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.kilobytes)
        return
    command = [sys.executable, __file__, "--serve", "--kilobytes", str(options.kilobytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            urls = [f"http://127.0.0.1:{port}/{number}.jpg" for number in range(options.images)]
            times: dict[str, list[float]] = {name: [] for name in CLIENTS}
            for _ in range(options.rounds):
                for name, client in CLIENTS.items():
                    started = time.process_time()
                    assert client(urls) == options.images * options.kilobytes * 1000
                    times[name].append((time.process_time() - started) / options.images * 1000)
        finally:
            server.terminate()
    print(f"{options.images} images of {options.kilobytes} kB, {options.rounds} rounds, CPU ms per URL: median (range)")
    for name, values in times.items():
        print(f"{name:20} {statistics.median(values):6.3f} ({min(values):.3f} to {max(values):.3f})")


if __name__ == "__main__":
    main()
