"""`stoker demo`: the whole road on real input, on this machine: scrape, curate, shard, publish, train, look."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from stoker.flows.running import Services
    from stoker.pipelines.recipe import Recipe
    from stoker.storage.versions.manifest import Manifest

# One thread: on networks this small several cost more than they save, and the most where other programs run.
THREADS = "1"
CORPORA = ("digits", "film", "handbook")
WANTED_ACCURACY = 0.95
WANTED_FALL = 0.95  # held-out bits per character at the end, at most this part of those after the first epoch
_EXCERPT = 200  # characters of the text that was written
_SITE_S = 60.0  # for the site to answer
_AS_FAST_AS_IT_ANSWERS = 0.0  # requests per second: the site is our own


def run(settings: Settings) -> int:
    """Walk the road, or what is left of it; 0 if everything came out as it should. Raises StokerError."""
    try:
        return _walk(settings)
    except (StokerError, KeyboardInterrupt):
        _say("\nthe servers that are up stay up; make demo-stop (or: stoker down) ends them")
        raise


def _walk(settings: Settings) -> int:
    from stoker.flows.services.up import up_detached

    started = time.monotonic()
    own = replace(settings, allow_private=True, requests_per_second=_AS_FAST_AS_IT_ANSWERS)
    folder = _recipes()
    _head(1, "the servers: S3, Prefect, the web page")
    services = up_detached(settings, _say)
    _head(2, "a web site of digits and photographs, a film and a wiki dump, served from this machine")
    url = _serve(own)
    _say(url)
    manifests = [_ingest(own, place, folder / f"{corpus}.toml", url) for place, corpus in enumerate(CORPORA, 3)]
    pictures = _train(own, 6, "cnn", manifests[0], {}, "a network that reads digits")
    texts = _train(own, 7, "lstm", manifests[2], {"epochs": "6"}, "a network that writes like the handbook")
    learned = _learned(pictures, texts)
    _report(manifests, services, url, learned, texts["sample"])
    wrong = [one.wrong for one in learned if one.wrong]
    _say(f"\nDone in {time.monotonic() - started:.0f} s." if not wrong else f"\nstoker: {'; '.join(wrong)}")
    return 1 if wrong else 0


@dataclass(frozen=True)
class _Learned:
    """What a run came to, for the table; ``wrong`` says what it should have come to."""

    run: str
    on: str
    came_to: str
    wrong: str = ""


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
    from stoker.flows.report.format import plural
    from stoker.flows.start import ingested

    recipe = at(url, path)
    _head(step, f"{recipe.corpus}: stoker ingest {path.parent.name}/{path.name}")
    started = time.monotonic()
    manifest, new = ingested(settings, recipe)
    what = f"{manifest.reference}: {plural(manifest.samples, 'sample')} of {plural(manifest.read, 'candidate')}"
    _say(f"{what}, in {time.monotonic() - started:.0f} s" if new else f"{what}: done before, nothing to do again")
    return manifest


def at(url: str, path: Path) -> "Recipe":
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


def _train(
    settings: Settings, step: int, model: str, manifest: "Manifest", options: dict[str, str], what: str
) -> dict[str, Any]:  # Any: JSON values
    """What a run came to, with the evaluations on the way; a run that is over is not done again."""
    from stoker.flows.start import trained

    options = options | {"threads": THREADS}
    flags = " ".join(f"--{name} {value}" for name, value in options.items())
    _head(step, f"{what}: stoker train {model} {manifest.corpus} {flags}")
    started = time.monotonic()
    done = trained(settings, model, manifest.reference, options, resume=True)
    again = done["resumed_at"] >= done["steps"]
    _say(f"{done['run']}: done before, nothing to do again" if again else f"in {time.monotonic() - started:.0f} s")
    path = Path(done["folder"]) / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return done | {"evaluations": [line for line in lines if line["kind"] == "evaluate"] or [done["metrics"]]}


def _learned(pictures: dict[str, Any], texts: dict[str, Any]) -> list[_Learned]:  # Any: JSON values
    accuracy = pictures["metrics"]["accuracy"]
    bits = [one["bits_per_character"] for one in texts["evaluations"]]
    last = texts["metrics"]["bits_per_character"]
    too_low = f"{accuracy:.1%} of the held-out digits are read right, and {WANTED_ACCURACY:.0%} are expected"
    no_fall = f"held-out bits per character went from {bits[0]:.2f} to {last:.2f}, and should have fallen clearly"
    fell = len(bits) == 1 or last <= WANTED_FALL * bits[0]
    return [
        _Learned(
            pictures["run"],
            pictures["reference"],
            f"reads {accuracy:.1%} of {pictures['metrics']['samples']} held-out digits right",
            "" if accuracy >= WANTED_ACCURACY else too_low,
        ),
        _Learned(
            texts["run"],
            texts["reference"],
            f"held-out bits per character, by epoch: {' → '.join(f'{one:.2f}' for one in bits)}",
            "" if fell else no_fall,
        ),
    ]


def _report(manifests: "list[Manifest]", services: "Services", url: str, learned: list[_Learned], text: str) -> None:
    """What was kept, what was refused and why, what was learned, and where to look next."""
    from rich.console import Console

    from stoker.flows.report.report import report
    from stoker.flows.report.terminal import Sheet

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
    sheet.heading("What was learned")
    sheet.table(("run", "on", "came to*"), [(one.run, one.on, one.came_to) for one in learned])
    sheet.note(f"lstm wrote: {text[:_EXCERPT]}")
    sheet.heading("What next")
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
