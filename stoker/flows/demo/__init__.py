"""`stoker demo`: the whole road on real input, on this machine: scrape, curate, shard, publish, train, look."""

import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from stoker.flows.services import Services
    from stoker.pipelines.recipe import Recipe
    from stoker.storage.manifest import Manifest

CORPORA = ("digits", "film", "handbook")
WANTED_ACCURACY = 0.95
_SITE_S = 60.0  # for the site to answer
_AS_FAST_AS_IT_ANSWERS = 1000.0  # requests per second: the site is our own


def run(settings: Settings) -> int:
    """Walk the road, or what is left of it; 0 if everything came out as it should. Raises StokerError."""
    from stoker.flows.up import up_detached

    started = time.monotonic()
    own = replace(settings, allow_private=True, requests_per_second=_AS_FAST_AS_IT_ANSWERS)
    folder = _recipes()
    _head(1, "the servers: S3, Prefect, the web page")
    services = up_detached(settings, _say)
    _head(2, "a web site of digits and photographs, a film and a wiki dump, served from this machine")
    url = _serve(own)
    _say(url)
    manifests = [_ingest(own, place, folder / f"{corpus}.toml", url) for place, corpus in enumerate(CORPORA, 3)]
    _report(manifests, services, url, time.monotonic() - started)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _head(step: int, text: str) -> None:
    _say(f"\n[{step}/7] {text}")


def _recipes() -> Path:
    """The folder of the demo's recipes: that of the repository, or one in the working directory."""
    for folder in (Path(__file__).resolve().parents[3] / "recipes", Path.cwd() / "recipes"):
        if all((folder / f"{corpus}.toml").is_file() for corpus in CORPORA):
            return folder
    raise StokerError("the demo's recipes are not here: run it in a clone of Stoker's repository, as `make demo` does")


def _serve(settings: Settings) -> str:
    """The address of the demo's site, once it answers: `stoker up` serves it when its port is chosen."""
    from stoker.flows.demo.server import HOST, content, port_of, remember_port
    from stoker.flows.demo.site import ROBOTS

    folder = settings.home / "demo"
    port = port_of(folder)
    content(folder, port)
    remember_port(folder, port)
    url = f"http://{HOST}:{port}/"
    deadline = time.monotonic() + _SITE_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}robots.txt", timeout=5) as answer:  # noqa: S310  # our own loopback URL
                if answer.read(1000).decode("latin-1") == ROBOTS:
                    return url
            raise StokerError(
                f"port {port} is another program's, and the demo's addresses have it; end that program, "
                f"or delete {folder} and run again: the demo then chooses another port and scrapes anew"
            )
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise StokerError(f"{url} does not answer; see {settings.home / 'logs' / 'demo.log'}") from None
            time.sleep(0.2)


def _ingest(settings: Settings, step: int, path: Path, url: str) -> "Manifest":
    from stoker.flows.commands import ingested
    from stoker.flows.wording import plural

    recipe = _at(url, path)
    _head(step, f"{recipe.corpus}: stoker ingest {path.parent.name}/{path.name}")
    started = time.monotonic()
    manifest, new = ingested(settings, recipe)
    what = f"{manifest.reference}: {plural(manifest.samples, 'sample')} of {plural(manifest.read, 'candidate')}"
    _say(f"{what}, in {time.monotonic() - started:.0f} s" if new else f"{what}: done before, nothing to do again")
    return manifest


def _at(url: str, path: Path) -> "Recipe":
    """The recipe, its addresses those that the site has here: its port may have been taken by another program."""
    from stoker.flows.demo.server import HOST, PORT
    from stoker.pipelines.recipe import load, parse

    recipe = load(path)
    usual = f"http://{HOST}:{PORT}/"
    return recipe if url == usual else parse(_replaced(recipe.document, usual, url), root=recipe.root, where=str(path))


def _replaced(value: Any, old: str, new: str) -> Any:  # Any: TOML values
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, Mapping):
        return {name: _replaced(one, old, new) for name, one in value.items()}
    return [_replaced(one, old, new) for one in value] if isinstance(value, list) else value


def _report(manifests: "list[Manifest]", services: "Services", url: str, seconds: float) -> None:
    """What was kept, what was refused and why, and where to look next."""
    from rich.console import Console

    from stoker.flows.report import report
    from stoker.flows.terminal import Sheet

    sheet = Sheet(Console())
    sheet.heading("What was kept")
    sheet.table(
        ("corpus", "candidates>", "kept>", "splits*"),
        [
            (
                manifest.reference,
                f"{manifest.read:,}",
                f"{manifest.samples:,}",
                ", ".join(f"{name} {one.samples:,}" for name, one in manifest.splits.items()),
            )
            for manifest in manifests
        ],
    )
    sheet.heading("What was refused, and why")
    sheet.table(
        ("corpus", "refused>", "reason", "meaning*"),
        [
            (manifest.corpus, f"{one.count:,}", one.reason, one.meaning)
            for manifest in manifests
            for one in report(manifest).refused
        ],
    )
    sheet.heading(f"Done in {seconds:.0f} s. What next")
    running = services.running
    sheet.facts(
        [
            ("the corpora", running["web"].url),
            ("runs and tasks", running["prefect"].url),
            ("scraped site", url),
            ("in numbers", "stoker show digits"),
            ("a file's story", f"stoker why digits {url}broken/html.png"),
            ("stop", "make demo-stop, or: stoker down"),
        ],
        style="cyan",
    )
