"""Small corpora made by the real engine, with captions, URLs and titles that try to get out of a page."""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw

from stoker.pipelines.partition import Partition
from stoker.pipelines.recipe import Limits, Recipe, Schedule, Sharding
from stoker.pipelines.registry import name_of
from stoker.pipelines.rejected import Rejected
from stoker.pipelines.rule import Rule
from stoker.pipelines.rules.exact_duplicates import ExactDuplicates
from stoker.pipelines.source import Candidate, Context, Provenance, Source
from stoker.pipelines.stages.publish import ingest
from stoker.pipelines.web.client import Web
from stoker.storage.shards.sample import Sample
from stoker.storage.stores.store import Store
from stoker.storage.versions.manifest import Manifest
from stoker.training.results.checkpoints import CheckpointInfo
from stoker.training.results.evaluations import Evaluation, keep

SCRIPT = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"
ESCAPE = "\x1b[31mred\x1b]0;owned\x07 \u202egnp.exe"
SITE = "https://example.org"


def png(number: int, side: int = 40) -> bytes:
    """A picture of its own for every number."""
    image = Image.new("RGB", (side, side), (number * 47 % 256, number * 91 % 256, number * 13 % 256))
    draw = ImageDraw.Draw(image)
    draw.ellipse(
        (number % 9, number % 7, side - number % 5 - 2, side - number % 11 - 2), fill=(255, 240, number * 5 % 256)
    )
    draw.text((8, 12), str(number), fill="black")
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@dataclass(frozen=True)
class Shapes(Source):
    """Pictures with labels: two of them hostile, every eighth a copy, some rejected at the source."""

    count: int = 60
    first: int = 0

    def partitions(self, context: Context) -> Iterator[Partition]:
        for start in range(self.first, self.first + self.count, 20):
            yield Partition(f"shapes-{start}", {"start": start, "stop": min(start + 20, self.first + self.count)})

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        for number in range(partition.payload["start"], partition.payload["stop"]):
            yield self._candidate(number)

    def _candidate(self, number: int) -> Candidate:
        record = {
            "url": f"{SITE}/shapes/{number}.png",
            "page_url": f"{SITE}/page-{number // 10}.html",
            "group": f"{SITE}/page-{number // 10}.html",
            "title": f"Shape {number}",
            "caption": f"shape number {number}",
            "label": str(number % 5),
            "author": f"author {number % 7}",
            "sha256": f"{number:064x}",
        }
        if number == 3:
            record |= {"caption": SCRIPT, "title": SCRIPT, "url": "javascript:alert(1)", "label": "<b>&\"'"}
        if number == 4:
            record |= {"caption": ESCAPE, "title": ESCAPE, "author": ESCAPE}
        measures = {"fetched_at": "2026-01-01T00:00:00+00:00"}
        if number % 10 == 9:
            sample = Sample(f"shape-{number}", {}, record, measures)
            return Candidate(sample, Rejected("gone", f"404 {SCRIPT}") if number % 20 == 9 else Rejected("robots"))
        picture = png(number - 1 if number % 8 == 5 else number)
        if number % 8 == 5:
            record["label"] = str((number - 1) % 5)
        return Candidate(Sample(f"shape-{number}", {"png": picture, "cls": record["label"].encode()}, record, measures))


@dataclass(frozen=True)
class Pages(Source):
    """Texts in two languages; one hostile, one too long for a page."""

    count: int = 12

    def partitions(self, context: Context) -> Iterator[Partition]:
        yield Partition("pages")

    def read(self, partition: Partition, context: Context) -> Iterator[Candidate]:
        for number in range(self.count):
            text = f"Page {number} tells of coal. " * (number + 1)
            if number == 5:
                text = f"{SCRIPT} & {ESCAPE}"
            if number == 6:
                text = "long " * 40_000
            record = {
                "title": f"Page {number}",
                "url": f"{SITE}/wiki/{number}",
                "language": "en" if number % 3 else "de",
            }
            yield Candidate(Sample(f"page-{number}", {"txt": text.encode()}, record))


def recipe(source: Source, corpus: str, rules: tuple[Rule, ...] = (ExactDuplicates(),)) -> Recipe:
    """A recipe as if it had been read from a file."""
    return Recipe(
        corpus=corpus,
        source=source,
        steps=(),
        rules=rules,
        splits={"train": 75, "validation": 25},
        shards=Sharding(samples=16, partitions=2),
        limits=Limits(),
        provenance=Provenance(licence="CC0-1.0"),
        schedule=Schedule(),
        document={
            "corpus": corpus,
            "source": {
                "name": "image_urls",
                "start": "https://me:secret@example.org/",
                "count": getattr(source, "count", 0),
            },
            "rules": [{"name": "exact_duplicates"}],
            "splits": {"train": 75, "validation": 25},
        },
    )


def make(store: Store, folder: Path, source: Source, corpus: str) -> Manifest:
    """A version made by the whole engine."""
    context = Context(root=folder, web=Web(), scratch=folder / "scratch")
    return ingest(recipe(source, corpus), store, context).manifest


def add_runs(store: Store) -> None:
    """Two training runs on the pictures, one of them of a deleted version; hostile text in both."""
    wrong = [
        {"key": "shape-4", "expected": "0", "predicted": "1", "probability": 0.91},
        {"key": "shape-3", "expected": SCRIPT, "predicted": "0", "probability": 0.52, "url": "javascript:alert(1)"},
    ]
    confusion = [[7, 1, 0], [0, 4, 2], [1, 0, 0]]
    metrics = {"score": 0.7, "accuracy": 0.7333, "samples": 15, "classes": ["0", "1", SCRIPT], "confusion": confusion}
    metrics |= {"recall": {"0": 0.875, "1": 0.6667, SCRIPT: 0.0}, "wrong": wrong, "loss": 0.5}
    many = {name: value for name, value in metrics.items() if name != "confusion"}  # as of many classes
    many["confused"] = [["0", "1", 9], [SCRIPT, "0", 2]]
    for number, version, found in ((1, "shapes@2", metrics), (2, "shapes@99", many)):
        run = f"cnn-{number:04d}"
        info = CheckpointInfo(
            run=run,
            step=40,
            key="",
            size=0,
            sha256="",
            identity={"model": "cnn", "options": {"net": SCRIPT}, "training": {"epochs": 2}},
            version=version,
            content="0",
            done=True,
            metrics=found | {"split": "validation", "epochs": 2, "step": 40},
            sample=SCRIPT,
        )
        store.write(f"shapes/runs/{run}/000000040.json", json.dumps(asdict(info)).encode())
    evaluation = Evaluation(
        run="cnn-0001",
        corpus="shapes",
        model="cnn",
        step=40,
        trained_on="shapes@2",
        reference="shapes@1",
        content="1",
        split="train",
        at="2026-01-01T00:00:00+00:00",
        metrics=metrics,
        unknown={SCRIPT: 3},
        absent=["4"],
        seen=True,
    )
    keep(store, evaluation)


def make_all(store: Store, folder: Path) -> None:
    """Pictures in two versions, and texts in one."""
    make(store, folder, Shapes(), "shapes")
    make(store, folder, Shapes(count=80), "shapes")
    make(store, folder, Pages(), "pages")
    add_runs(store)


def documented(made: Recipe) -> Recipe:
    """A recipe with the document that a version keeps of it, so that it is curated again."""
    document = {
        "corpus": made.corpus,
        "source": {"name": "local_files", "files": "*"},  # which is never read
        "rules": [{"name": name_of(rule), **vars(rule)} for rule in made.rules],
        "splits": made.splits,
        "shards": {"samples": 16, "partitions": 2},
    }
    return replace(made, document=document)
