"""`stoker demo`: run the whole pipeline on real input, on this machine.

Starts the services, serves a small web site, ingests three corpora from it, trains two models, and prints a report.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.flows import logs
from stoker.flows.report.json_text import json_text
from stoker.flows.settings import Settings
from stoker.storage.errors import StokerError

if TYPE_CHECKING:
    from stoker.flows.running import Services
    from stoker.pipelines.recipe import Recipe
    from stoker.storage.versions.manifest import Manifest

# Networks this small train faster on one thread than on several, above all on a machine with other work.
THREADS = "1"
RECIPES = Path(__file__).resolve().parent / "recipes"
CORPORA = ("digits", "film", "handbook")
MIN_ACCURACY = 0.95
MAX_BITS_RATIO = 0.95  # held-out bits per byte: those at the end, over those after the first epoch
_EXCERPT = 200  # characters of the generated text
_SITE_READY_S = 60.0
_UNLIMITED = 0.0  # requests per second: the site is our own


def run(settings: Settings, *, as_json: bool = False) -> int:
    """Run the pipeline, or what an earlier run left undone. Returns 0 if the models learned. Raises StokerError."""
    try:
        return _run(settings, as_json=as_json)
    except (StokerError, KeyboardInterrupt):
        _report("\nthe servers that are up stay up; make demo-stop (or: stoker down) ends them")
        raise


def _run(settings: Settings, *, as_json: bool) -> int:
    from stoker.flows.demo.server import HOST
    from stoker.flows.services.up import start_in_background

    started = time.monotonic()
    demo_settings = replace(settings, allow_private=HOST, requests_per_second=_UNLIMITED)
    _announce(1, "the servers: S3, Prefect, the web page")
    services = start_in_background(settings)
    _announce(2, "a web site of digits and photographs, a film and a wiki dump, served from this machine")
    url = _serve(demo_settings)
    _report(url)
    recipes = [RECIPES / f"{corpus}.toml" for corpus in CORPORA]
    manifests = [_ingest(demo_settings, step, recipe, url) for step, recipe in enumerate(recipes, 3)]
    pictures = _train(demo_settings, 6, "cnn", manifests[0], {}, "a network that reads digits")
    texts = _train(demo_settings, 7, "lstm", manifests[2], {"epochs": "6"}, "a network that writes like the handbook")
    outcomes = _outcomes(pictures, texts)
    if as_json:
        corpora = [manifest.reference for manifest in manifests]
        print(json_text({"site": url, "corpora": corpora, "models": [asdict(outcome) for outcome in outcomes]}))
    else:
        _print_summary(manifests, services, url, outcomes, texts["sample"])
    problems = [outcome.problem for outcome in outcomes if outcome.problem]
    _report(f"\nstoker: {'; '.join(problems)}" if problems else f"\nDone in {time.monotonic() - started:.0f} s.")
    return 1 if problems else 0


@dataclass(frozen=True)
class _Outcome:
    """The result of a training run, for the summary."""

    run: str
    reference: str
    text: str
    problem: str = ""  # what is wrong with it, and what was expected


def _report(text: str) -> None:
    logs.note(text)


def _announce(step: int, text: str) -> None:
    _report(f"\n[{step}/7] {text}")


def _serve(settings: Settings) -> str:
    """The address of the demo's site, once it answers: `stoker up` serves it as soon as its port is recorded."""
    from stoker.flows.demo.server import HOST, content, port_of, record_port
    from stoker.flows.demo.site import ROBOTS

    folder = settings.home / "demo"
    port = port_of(folder)
    content(folder, port)
    record_port(folder, port)
    url = f"http://{HOST}:{port}/"
    deadline = time.monotonic() + _SITE_READY_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}robots.txt", timeout=5) as response:  # noqa: S310  # our own loopback URL
                if response.read(1000).decode("latin-1") == ROBOTS:
                    return url
            raise StokerError(
                f"another program uses port {port}, which is part of the demo's addresses; end that program, "
                f"or delete {folder} and run again: the demo then chooses another port and scrapes again"
            )
        except (OSError, urllib.error.URLError):
            if time.monotonic() > deadline:
                raise StokerError(f"{url} does not answer; see {settings.home / 'logs' / 'demo.log'}") from None
            time.sleep(0.2)


def _ingest(settings: Settings, step: int, path: Path, url: str) -> "Manifest":
    from stoker.flows.start import run_ingest
    from stoker.storage.plural import plural

    recipe = recipe_at(url, path)
    _announce(step, f"{recipe.corpus}: stoker ingest {path.name}")
    started = time.monotonic()
    manifest, new = run_ingest(settings, recipe)
    result = f"{manifest.reference}: {plural(manifest.samples, 'sample')} of {plural(manifest.read, 'candidate')}"
    _report(f"{result}, in {time.monotonic() - started:.0f} s" if new else f"{result}: done by an earlier run")
    return manifest


def recipe_at(url: str, path: Path) -> "Recipe":
    """The recipe for the site at this address: its port is not the usual one if another program used that."""
    from stoker.flows.demo.server import HOST, PORT
    from stoker.pipelines.recipe import load, parse

    recipe = load(path)
    usual = f"http://{HOST}:{PORT}/"
    if url == usual:
        return recipe
    return parse(_replace_text(recipe.document, usual, url), root=recipe.root, where=str(path))


def _replace_text(value: Any, old: str, new: str) -> Any:  # Any: TOML values
    """The value with ``old`` replaced in every string, at any depth."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, Mapping):
        return {name: _replace_text(element, old, new) for name, element in value.items()}
    return [_replace_text(element, old, new) for element in value] if isinstance(value, list) else value


def _train(
    settings: Settings, step: int, model: str, manifest: "Manifest", options: dict[str, str], title: str
) -> dict[str, Any]:  # Any: JSON values
    """Train a model, or take the result of an earlier run. Returns the result, with all evaluations of the run."""
    from stoker.flows.start import run_training

    options = options | {"threads": THREADS}
    flags = " ".join(f"--{name} {value}" for name, value in options.items())
    _announce(step, f"{title}: stoker train {model} {manifest.corpus} {flags}")
    started = time.monotonic()
    result = run_training(settings, model, manifest.reference, options, resume=True)
    finished_before = result["resumed_at"] >= result["steps"]
    duration = f"in {time.monotonic() - started:.0f} s"
    _report(f"{result['run']}: done by an earlier run" if finished_before else duration)
    path = Path(result["folder"]) / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return result | {"evaluations": [line for line in lines if line["kind"] == "evaluate"] or [result["metrics"]]}


def _outcomes(pictures: dict[str, Any], texts: dict[str, Any]) -> list[_Outcome]:  # Any: JSON values
    accuracy = pictures["metrics"]["accuracy"]
    # A run of an older release has them under another name.
    bits = [each.get("bits_per_byte", each.get("bits_per_character")) for each in texts["evaluations"]]
    last = texts["metrics"].get("bits_per_byte", bits[-1])
    too_low = f"{accuracy:.1%} of the held-out digits are read right, and {MIN_ACCURACY:.0%} are expected"
    not_reduced = f"held-out bits per byte went from {bits[0]:.2f} to {last:.2f}, and should have fallen clearly"
    reduced = len(bits) == 1 or last <= MAX_BITS_RATIO * bits[0]
    return [
        _Outcome(
            pictures["run"],
            pictures["reference"],
            f"reads {accuracy:.1%} of {pictures['metrics']['samples']} held-out digits right",
            "" if accuracy >= MIN_ACCURACY else too_low,
        ),
        _Outcome(
            texts["run"],
            texts["reference"],
            f"held-out bits per byte, by epoch: {' → '.join(f'{value:.2f}' for value in bits)}",
            "" if reduced else not_reduced,
        ),
    ]


def _print_summary(
    manifests: "list[Manifest]", services: "Services", url: str, outcomes: list[_Outcome], text: str
) -> None:
    """Print what was kept and rejected, what the models learned, and where to look next."""
    from rich.console import Console

    from stoker.flows.report.format import splits_text
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
                splits_text(manifest.splits),
            )
            for manifest in manifests
        ],
    )
    sheet.heading("What was rejected, and why")
    sheet.table(
        ("corpus", "rejected>", "reason", "meaning*"),
        [
            (manifest.corpus, f"{reason.count:,}", reason.reason, reason.meaning)
            for manifest in manifests
            for reason in report(manifest).refused
        ],
    )
    sheet.heading("What was learned")
    rows = [(outcome.run, outcome.reference, outcome.text) for outcome in outcomes]
    sheet.table(("run", "on", "result*"), rows)
    sheet.note(f"lstm wrote: {text[:_EXCERPT]}")
    sheet.heading("What next")
    running = services.running
    sheet.facts(
        [
            ("the corpora", f"stoker open digits    {running['web'].url}, signed in"),
            ("runs and tasks", f"stoker open prefect   {running['prefect'].url}, signed in"),
            ("scraped site", url),
            ("in numbers", "stoker show digits"),
            ("a file's lineage", f"stoker why digits {url}broken/html.png"),
            ("stop", "make demo-stop, or: stoker down"),
        ],
        style="cyan",
    )
